"""
The probes, one for each protocol.

HTTP and Redis are spoken directly: a request of one line each. Their usual clients cost 0.2 s of import time each
(measured), a fifth of the time the whole platform needs to start. PostgreSQL's login and WebSocket's framing are worth
a real client. A URL is taken apart when a probe is made, so that a wrong one fails at once and not after a deadline.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from stackyard._util import json_text
from stackyard.errors import NotReadyError, UsageError
from stackyard.probes.endpoints import LINE, Endpoint, describe

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from websockets.asyncio.client import ClientConnection
    from websockets.typing import Origin

BODY: Final = 2048  # bytes of an HTTP answer's body that are read for a failure's text
SSL_REQUEST: Final = b"\0\0\0\x08\x04\xd2\x16\x2f"  # "would you speak TLS?", answered before any login
HEADERS: Final = 64  # header lines accepted
PATH: Final = re.compile(r"/[!-~]*")


class Probe(Protocol):
    """
    One way to prove a service usable.

    Attributes:
        service: The service's name in messages and results.
    """

    @property
    def service(self) -> str:  # noqa: D102 - said above
        ...

    async def check(self) -> None:
        """
        Make one real request; return if it was answered as hoped.

        Raises:
            NotReadyError: With the last thing seen, and no secret.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class _UrlProbe:
    """What the probes have in common: a URL of one scheme, taken apart."""

    SCHEME: ClassVar[str]

    url: str = field(repr=False)
    service: str
    _endpoint: Endpoint = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_endpoint", Endpoint.parse(self.url, self.SCHEME))


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresProbe(_UrlProbe):
    """
    A query over TCP, as the application's own role.

    Attributes:
        url: postgresql://USER:PASSWORD@HOST:PORT/DATABASE
        service: Name in messages.
    """

    SCHEME = "postgresql"

    service: str = "PostgreSQL"

    async def check(self) -> None:
        """Log in and run `select 1`."""
        import asyncpg  # type: ignore[import-untyped]

        endpoint = self._endpoint
        with endpoint.failures():
            await _greet_postgres(endpoint)
            # all said explicitly, so that no PG* variable of the caller's shell decides
            connection = await asyncpg.connect(
                host=endpoint.host, port=endpoint.port, user=endpoint.user, password=endpoint.password,
                database=endpoint.path.strip("/") or endpoint.user, ssl=False, target_session_attrs="any",
                statement_cache_size=0,
            )  # fmt: skip
            try:
                answer = await connection.fetchval("select 1")
                await connection.close()
            finally:
                connection.terminate()
            _expect(answer == 1, f"select 1 answered {answer!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisProbe(_UrlProbe):
    """
    AUTH and PING.

    Attributes:
        url: redis://USER:PASSWORD@HOST:PORT/0
        service: Name in messages.
    """

    SCHEME = "redis"

    service: str = "Redis"

    async def check(self) -> None:
        """Log in (if the URL has a password) and compare the answer to PING."""
        endpoint = self._endpoint
        with endpoint.failures():
            async with endpoint.connect() as (reader, writer):
                if endpoint.password:
                    await ask_redis(reader, writer, b"+OK", "AUTH", endpoint.user or "default", endpoint.password)
                await ask_redis(reader, writer, b"+PONG", "PING")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe(_UrlProbe):
    """
    GET that wants status 200.

    Attributes:
        service: Name in messages.
        url: http://HOST:PORT
        path: What to ask for.
    """

    SCHEME = "http"

    path: str = "/readyz"

    def __post_init__(self) -> None:
        _UrlProbe.__post_init__(self)  # the class that `super` would know is the one before its slots were made
        if not PATH.fullmatch(self.path):
            raise UsageError(f"an HTTP probe's path must start with / and hold no spaces, got {self.path[:80]!r}")

    async def check(self) -> None:
        """Send the request; a failure quotes status and body."""
        endpoint = self._endpoint
        request = f"GET {self.path} HTTP/1.1\r\nHost: {endpoint.host}:{endpoint.port}\r\nConnection: close\r\n\r\n"
        with endpoint.failures():
            async with endpoint.connect() as (reader, writer):
                writer.write(request.encode())
                version, _, status = _text(await reader.readuntil(b"\r\n")).partition(" ")
                _expect(version.startswith("HTTP/1."), f"GET {self.path} answered {version} {status}, not HTTP")
                if status.split(" ")[0] != "200":
                    raise NotReadyError(f"GET {self.path} answered {status} {await _body(reader)}".strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketProbe(_UrlProbe):
    """
    A first message and its answer.

    Attributes:
        url: ws://HOST:PORT/PATH
        service: Name in messages.
        message: What to send, as a JSON object.
        expected: Members the answer, a JSON object, must have.
        origin: Origin header; None sends none, as programs do.
    """

    SCHEME = "ws"

    service: str = "websocket"
    message: Mapping[str, object] = field(default_factory=lambda: {"type": "ping"})
    expected: Mapping[str, object] = field(default_factory=lambda: {"type": "pong"})
    origin: str | None = None

    async def check(self) -> None:
        """Open, send, compare, close."""
        from websockets.asyncio.client import connect

        endpoint = self._endpoint
        with endpoint.failures():
            # proxy=None: a proxy of the caller's shell must not get between the host and its own containers
            client = connect(
                endpoint.url, origin=_origin(self.origin), proxy=None, compression=None, ping_interval=None,
                open_timeout=None, close_timeout=0.2, max_size=BODY,
            )  # fmt: skip
            try:
                async with client as socket:
                    answer = await self._ask(socket)
            finally:
                # a deadline that falls into the closing handshake would leave the connection open
                connection = getattr(client, "connection", None)
                if connection is not None:
                    connection.transport.abort()
            _expect(self._fits(answer), f"{json.dumps(self.message)} answered {_text(answer)}")

    async def _ask(self, socket: ClientConnection) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            await socket.send(json.dumps(self.message))
            return await socket.recv()
        except ConnectionClosed as error:
            raise NotReadyError(f"closed before an answer ({describe(error)})") from None

    def _fits(self, answer: str | bytes) -> bool:
        try:
            found = json_text.read(answer)
        except ValueError:
            return False
        return isinstance(found, dict) and self.expected.items() <= found.items()


def _same_origin(*, service: str, url: str) -> WebSocketProbe:
    """Return a probe that comes as a page of the same server would: without a token, an Origin is asked for."""
    endpoint = Endpoint.parse(url, "ws")
    return WebSocketProbe(service=service, url=url, origin=f"http://{endpoint.host}:{endpoint.port}")


KINDS: Final[Mapping[str, Callable[..., Probe]]] = {
    "postgresql": PostgresProbe,
    "redis": RedisProbe,
    "http": HttpProbe,
    "ws": _same_origin,
}


def probe_for(service: str, url: str) -> Probe:
    """
    Return the probe that fits the scheme of *url*, named *service*; a WebSocket's sends the URL's own origin.

    Raises:
        UsageError: If no probe speaks that scheme, or the URL lacks host or port.
    """
    scheme = url.partition("://")[0]
    if scheme not in KINDS:
        raise UsageError(f"no probe for service {service} speaks {scheme[:20]!r}; known: {', '.join(KINDS)}")
    return KINDS[scheme](service=service, url=url)


def preload() -> None:
    """Import the clients now (0.1 s), for instance in a thread while containers are being started."""
    import asyncpg  # noqa: F401 - importing is the purpose
    import websockets.asyncio.client  # noqa: F401 - as above


async def ask_redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: bytes, *words: str) -> None:
    """
    Send one command to Redis.

    Args:
        reader: What Redis says.
        writer: What it hears.
        wanted: How its answer, one line, must begin.
        words: The command.

    Raises:
        NotReadyError: If it answers anything else; compared as text, for an error such as NOAUTH is an answer too.
    """
    parts = [word.encode() for word in words]
    writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    answer = (await reader.readuntil(b"\r\n")).rstrip()
    _expect(answer.startswith(wanted), f"{words[0]} answered {_text(answer)}")


def _expect(fact: bool, otherwise: str) -> None:
    if not fact:
        raise NotReadyError(otherwise)


async def _greet_postgres(endpoint: Endpoint) -> None:
    """Make sure that a PostgreSQL server answers: its client spins without end on some answers of anything else."""
    async with endpoint.connect() as (reader, writer):
        writer.write(SSL_REQUEST)
        answer = await reader.readexactly(1)
        _expect(answer in {b"N", b"S"}, f"answered {answer!r}, not PostgreSQL")


async def _body(reader: asyncio.StreamReader) -> str:
    for _ in range(HEADERS):
        if await reader.readline() in {b"\r\n", b""}:
            break
    return _text(await reader.read(BODY))


def _text(answer: str | bytes) -> str:
    """Return an answer as one short printable line."""
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return "".join(char if char.isprintable() else " " for char in text[:LINE]).strip()


def _origin(origin: str | None) -> Origin | None:
    from websockets.typing import Origin

    return None if origin is None else Origin(origin)

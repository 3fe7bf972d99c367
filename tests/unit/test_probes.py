"""The probes against small real servers that behave as services do while they start."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.server import ServerConnection, serve

from stackyard.errors import NotReadyError, UsageError
from stackyard.probes import HttpProbe, PostgresProbe, Probe, RedisProbe, WebSocketProbe, preload, probe_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

SECRET = "s3cret-Word"


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """Serve each connection with *handler*; give the port."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Accept and close, as the engine's port proxy does while nothing listens behind it."""


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept and reset."""
    linger = b"\x01\0\0\0\0\0\0\0"  # on, 0 seconds: close() sends RST
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def saying(answer: bytes) -> Handler:
    """Return a handler that reads something and gives *answer*."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        await writer.drain()

    return handler


async def failure(probe: Probe) -> str:
    with pytest.raises(NotReadyError) as caught:
        await probe.check()
    return str(caught.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class FakeRedis:
    """The four commands a probe may meet, on the real wire format."""

    loading: bool = False
    seen: list[list[bytes]] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = False
        while count := (await reader.readline())[1:].strip():
            words = [await self._word(reader) for _ in range(int(count))]
            self.seen.append(words)
            known = known or words == [b"AUTH", b"app", SECRET.encode()]
            writer.write(self._answer(words[0], known=known))

    @staticmethod
    async def _word(reader: asyncio.StreamReader) -> bytes:
        length = int((await reader.readline())[1:])
        return (await reader.readexactly(length + 2))[:-2]

    def _answer(self, command: bytes, *, known: bool) -> bytes:
        if command == b"AUTH":
            return b"+OK\r\n" if known else b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
        if self.loading:
            return b"-LOADING Redis is loading the dataset in memory\r\n"
        return b"+PONG\r\n" if known else b"-NOAUTH Authentication required.\r\n"


async def test_redis_passes_after_login_and_pong() -> None:
    server = FakeRedis()
    async with listening(server) as port:
        await RedisProbe(url=f"redis://app:{SECRET}@127.0.0.1:{port}/0").check()

    assert server.seen == [[b"AUTH", b"app", SECRET.encode()], [b"PING"]]


@pytest.mark.parametrize(
    ("login", "loading", "seen"),
    [
        pytest.param(f"app:{SECRET}@", True, "PING answered -LOADING Redis is loading", id="loading"),
        pytest.param("app:wrong@", False, "AUTH answered -WRONGPASS", id="wrong-password"),
        pytest.param("", False, "PING answered -NOAUTH Authentication required.", id="no-password"),
        pytest.param(":wrong@", False, "AUTH answered -WRONGPASS", id="default-user"),
    ],
)
async def test_redis_that_answers_something_else_is_not_ready(login: str, seen: str, *, loading: bool) -> None:
    async with listening(FakeRedis(loading=loading)) as port:
        assert (await failure(RedisProbe(url=f"redis://{login}127.0.0.1:{port}/0"))).startswith(seen)


async def test_http_passes_on_200() -> None:
    asked: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with listening(handler) as port:
        await HttpProbe(service="auth", url=f"http://127.0.0.1:{port}").check()

    assert asked[0].startswith(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        pytest.param(
            b'HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n{"redis": "down"}',
            'GET /readyz answered 503 Service Unavailable {"redis": "down"}',
            id="503-with-reason",
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", "GET /readyz answered 204 No Content", id="204"),
        pytest.param(b"HTTP/1.1 2000\r\n\r\n", "GET /readyz answered 2000", id="2000"),
        pytest.param(b"SSH-2.0-x 200 OK\r\n", "GET /readyz answered SSH-2.0-x 200 OK, not HTTP", id="other-protocol"),
        pytest.param(b"\r\n", "GET /readyz answered  , not HTTP", id="blank"),
        pytest.param(b"HTTP/1.1", "connection closed before an answer", id="half-a-line"),
        pytest.param(b"HTTP/1.1 500 \x1b[2J\xff\r\n\r\n", "GET /readyz answered 500  [2J\ufffd", id="escape"),
        pytest.param(b"HTTP/1.1 500 x\r\n" + b"A: b\r\n" * 200, "GET /readyz answered 500 x A: b", id="headers"),
        pytest.param(b"x" * 200_000, "LimitOverrunError", id="endless-line"),
    ],
)  # fmt: skip
async def test_http_that_answers_something_else_is_not_ready(answer: bytes, seen: str) -> None:
    async with listening(saying(answer)) as port:
        assert (await failure(HttpProbe(service="auth", url=f"http://127.0.0.1:{port}"))).startswith(seen)


@pytest.mark.parametrize("path", ["readyz", "/a b", "/a\r\nX: y", ""])
def test_an_http_path_that_would_break_the_request_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="path must start with /"):
        HttpProbe(service="auth", url="http://127.0.0.1:1", path=path)


@contextlib.asynccontextmanager
async def websocket(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"


async def test_websocket_passes_on_the_expected_answer() -> None:
    seen: list[object] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.extend([connection.request.path, connection.request.headers.get("Origin")])
        seen.append(json.loads(await connection.recv()))
        await connection.send('{"type": "pong", "at": 1}')

    async with websocket(handler) as url:
        await WebSocketProbe(url=url).check()

    assert seen == ["/ws", None, {"type": "ping"}]


async def test_websocket_sends_origin_and_message_as_given() -> None:
    seen: list[object] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request.headers["Origin"])
        await connection.send(await connection.recv())

    async with websocket(handler) as url:
        message = {"say": "x"}
        await WebSocketProbe(url=url, origin="http://app.example.test", message=message, expected=message).check()

    assert seen == ["http://app.example.test"]


async def test_websocket_found_by_its_url_comes_from_the_servers_own_page() -> None:
    seen: list[object] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request.headers["Origin"])
        await connection.recv()
        await connection.send('{"type": "pong"}')

    async with websocket(handler) as url:
        await probe_for("websocket", url).check()

    assert seen == [url.replace("ws://", "http://").removesuffix("/ws")]


@pytest.mark.parametrize("answer", ["pong", "[]", '{"type": "error"}', "{}", b"\xff\x00"])
async def test_websocket_that_answers_something_else_is_not_ready(answer: str | bytes) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(answer)

    async with websocket(handler) as url:
        assert (await failure(WebSocketProbe(url=url))).startswith('{"type": "ping"} answered')


async def test_websocket_that_closes_before_an_answer_is_not_ready() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.close(1008, "say who you are")

    async with websocket(handler) as url:
        assert "say who you are" in await failure(WebSocketProbe(url=url))


async def test_websocket_on_a_plain_http_server_is_not_ready() -> None:
    async with listening(saying(b"HTTP/1.1 404 Not Found\r\n\r\n")) as port:
        assert "404" in await failure(WebSocketProbe(url=f"ws://127.0.0.1:{port}/ws"))


@dataclass(kw_only=True)
class FakePostgres:
    """
    PostgreSQL's wire protocol as far as one login and one prepared `select 1` go.

    Attributes:
        refusal: SQLSTATE and text instead of a login.
        value: What `select 1` gives.
    """

    refusal: tuple[str, str] | None = None
    value: int = 1

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        if await reader.readexactly(length - 4) == (80877103).to_bytes(4, "big"):
            writer.write(b"N")
            return
        writer.write(self._message(b"R", b"\0\0\0\x05salt"))
        kind, answer = await self._read(reader)
        inner = hashlib.md5(f"{SECRET}app".encode()).hexdigest()  # noqa: S324 - what the protocol's md5 login is
        wanted = "md5" + hashlib.md5(inner.encode() + b"salt").hexdigest()  # noqa: S324 - as above
        if self.refusal or answer.rstrip(b"\0").decode() != wanted:
            state, text = self.refusal or ("28P01", f'password authentication failed for user "app" ({SECRET})')
            writer.write(self._message(b"E", f"SFATAL\0C{state}\0M{text}\0\0".encode()))
            return
        settings = self._message(b"S", b"server_version\0" + b"17.0\0")
        writer.write(self._message(b"R", bytes(4)) + settings + self._message(b"Z", b"I"))
        while kind != b"X":
            kind, _ = await self._read(reader)
            writer.write(self._reply(kind))

    def _reply(self, kind: bytes) -> bytes:
        done = self._message(b"C", b"SELECT 1\0")
        column = b"?column?\0" + bytes(6) + b"\0\0\0\x17\0\x04\xff\xff\xff\xff"
        return {
            b"P": self._message(b"1", b""),
            b"D": self._message(b"t", b"\0\0") + self._message(b"T", b"\0\x01" + column + b"\0\0"),
            b"B": self._message(b"2", b""),
            b"E": self._message(b"D", b"\0\x01\0\0\0\x04" + self.value.to_bytes(4, "big")) + done,
            b"S": self._message(b"Z", b"I"),
        }.get(kind, b"")  # fmt: skip

    @staticmethod
    def _message(kind: bytes, body: bytes) -> bytes:
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        kind = await reader.readexactly(1)
        length = int.from_bytes(await reader.readexactly(4), "big")
        return kind, await reader.readexactly(length - 4)


async def test_postgres_passes_after_login_and_query(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGHOST": "nowhere.invalid",
        "PGUSER": "other",
        "PGSSLMODE": "require",
        "PGPASSWORD": "x",
    }.items():
        monkeypatch.setenv(name, value)

    async with listening(FakePostgres()) as port:
        await PostgresProbe(url=f"postgresql://app:{SECRET}@127.0.0.1:{port}/app").check()


async def test_postgres_that_gives_another_value_is_not_ready() -> None:
    async with listening(FakePostgres(value=2)) as port:
        url = f"postgresql://app:{SECRET}@127.0.0.1:{port}/app"

        assert await failure(PostgresProbe(url=url)) == "select 1 answered 2"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        pytest.param("57P03", "the database system is starting up", id="starting"),
        pytest.param("28P01", 'password authentication failed for user "app"', id="password"),
        pytest.param("3D000", 'database "app" does not exist', id="database"),
        pytest.param("53300", "sorry, too many clients already", id="full"),
    ],
)
async def test_postgres_that_refuses_is_not_ready_and_says_why(state: str, text: str) -> None:
    async with listening(FakePostgres(refusal=(state, text))) as port:
        url = f"postgresql://app:{SECRET}@127.0.0.1:{port}/app"

        assert (await failure(PostgresProbe(url=url))).endswith(text)


URLS = [
    f"postgresql://app:{SECRET}@127.0.0.1:{{}}/app",
    f"redis://app:{SECRET}@127.0.0.1:{{}}/0",
    "http://127.0.0.1:{}",
]
URLS.append("ws://127.0.0.1:{}/ws")


@pytest.mark.parametrize("url", URLS, ids=["postgres", "redis", "http", "websocket"])
async def test_a_server_that_is_not_there_is_not_ready(url: str) -> None:
    assert await failure(probe_for("it", url.format(free_port()))) == "connection refused"


@pytest.mark.parametrize("handler", [hang_up, reset, saying(b""), saying(b"\0" * 50), saying(b"SSH-2.0-x\r\n")])
@pytest.mark.parametrize("url", URLS, ids=["postgres", "redis", "http", "websocket"])
async def test_a_proxy_that_accepts_too_early_is_not_ready(url: str, handler: Handler) -> None:
    async with listening(handler) as port:
        seen = await failure(probe_for("it", url.format(port)))

    assert seen
    assert seen.isprintable()


@pytest.mark.parametrize("url", URLS, ids=["postgres", "redis", "http", "websocket"])
async def test_a_server_that_never_answers_can_be_given_up(url: str) -> None:
    over = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await over.wait()

    async with listening(silent) as port:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(probe_for("it", url.format(port)).check(), 0.1)
        over.set()


@pytest.mark.parametrize(
    ("url", "handler"),
    [
        pytest.param(URLS[0], FakePostgres(refusal=("28P01", f"no {SECRET}")), id="postgres"),
        pytest.param(URLS[1], saying(f"-ERR {SECRET}\r\n".encode()), id="redis"),
    ],
)
async def test_no_failure_tells_the_password(url: str, handler: Handler) -> None:
    async with listening(handler) as port:
        probe = probe_for("it", url.format(port))

        assert "***" in await failure(probe)
        assert SECRET not in await failure(probe)
        assert SECRET not in repr(probe)


async def test_a_password_is_also_hidden_in_its_quoted_form() -> None:
    async with listening(saying(b"-ERR p%C3%A4ss%2Fword p%C3%A4ss/word p\xc3\xa4ss/word\r\n")) as port:
        seen = await failure(RedisProbe(url=f"redis://app:p%C3%A4ss%2Fword@127.0.0.1:{port}"))

    assert seen == "AUTH answered -ERR *** *** ***"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://a:b@127.0.0.1:1/c", PostgresProbe),
        ("redis://a:b@127.0.0.1:1/0", RedisProbe),
        ("http://127.0.0.1:1", HttpProbe),
        ("ws://127.0.0.1:1/ws", WebSocketProbe),
    ],
)
def test_a_url_finds_its_probe(url: str, kind: type) -> None:
    probe = probe_for("it", url)

    assert isinstance(probe, kind)
    assert probe.service == "it"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"amqp://app:{SECRET}@127.0.0.1:1/", id="scheme"),
        pytest.param(f"redis://app:{SECRET}@127.0.0.1/", id="no-port"),
        pytest.param(f"redis://app:{SECRET}@127.0.0.1:x/", id="port-word"),
        pytest.param(f"redis://app:{SECRET}@127.0.0.1:99999/", id="port-range"),
        pytest.param(f"redis://app:{SECRET}@:1/", id="no-host"),
        pytest.param(f"redis://app:{SECRET}@[::1:1/", id="bracket"),
        pytest.param("", id="empty"),
    ],
)
def test_a_url_no_probe_can_use_is_refused_at_once_without_its_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        probe_for("it", url)

    assert SECRET not in str(caught.value)


def test_the_clients_can_be_imported_ahead_of_time() -> None:
    preload()

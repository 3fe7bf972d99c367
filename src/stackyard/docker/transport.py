"""The client library's HTTP with a limit on the whole exchange, from connecting to the last byte of the answer."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final

import docker.errors
import requests
import requests.adapters
import urllib3
from docker.api import APIClient
from docker.tls import TLSConfig
from docker.transport import unixconn
from urllib3.connection import HTTPConnection, HTTPSConnection

from stackyard._util import json_text
from stackyard._util.printable import one_line
from stackyard.docker import over_ssh
from stackyard.docker.exchange import Exchange, Timed, limited
from stackyard.docker.time_limit import FOR_ONE, Patience, allowed, allowing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.docker.endpoint import Endpoint

LARGEST: Final = 64 << 20  # bytes of one answer that is not a stream; the largest known is a few MB
FRAME: Final = struct.Struct(">BxxxL")  # begins each piece of output: which stream, and how many bytes follow
WIDTH: Final = 300  # characters of the engine's words that a message shows
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
NOTHING_THERE: Final = (FileNotFoundError, ConnectionRefusedError, PermissionError, socket.gaierror)


class NoAnswerError(requests.exceptions.RequestException):
    """
    A request got no usable answer.

    Attributes:
        sent: Whether the engine may have received the request, and so may still carry it out.
    """

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class _Timed(Timed, HTTPConnection):
    pass


class _TimedTls(Timed, HTTPSConnection):
    pass


class _TimedUnix(Timed, unixconn.UnixHTTPConnection):
    def connect(self) -> None:
        """Connect, or start an ssh to the engine's host if its address takes the place of the socket's path."""
        if self.unix_socket.startswith(over_ssh.SCHEME):
            self.sock = over_ssh.dial(self.unix_socket, self.timeout)
            return
        # the library's own way leaves the socket open where this fails
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(self.unix_socket)
        except BaseException:
            made.close()
            raise
        self.sock = made


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Timed


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedTls


class _UnixPool(unixconn.UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _TimedUnix(self.base_url, self.socket_path, 60)


class _UnixAdapter(unixconn.UnixHTTPAdapter):
    """The library's adapter for a Unix socket, with our connections; *path* may be the address of an ssh, too."""

    def __init__(self, path: str) -> None:
        super().__init__("http+unix:///", 60)
        self.socket_path = path

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        del proxies
        with self.pools.lock:
            pool = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = _UnixPool(url, self.socket_path, self.timeout, maxsize=self.max_pool_size)
        return pool


class _TcpAdapter(requests.adapters.HTTPAdapter):
    """The usual adapter, with our connections, through a proxy too."""

    POOLS: Final = {"http": _HttpPool, "https": _HttpsPool}

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self.POOLS

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self.POOLS
        return manager


class Client(APIClient):
    """
    The library's client, which never waits longer than it may and whose every failure is a `NoAnswerError`.

    An answer that says no stays the library's own APIError, always with words.

    Args:
        endpoint: Where the engine is.
        version: The API's version.
        patience: The seconds that are left for it.
        most: Seconds any one exchange may take.
    """

    def __init__(self, endpoint: Endpoint, *, version: str, patience: Patience, most: float) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._most = most
        through_ssh = endpoint.url.startswith(over_ssh.SCHEME)
        # the library's own way through ssh needs another library; it then makes as few requests as for a socket
        url = "unix:///ssh" if through_ssh else endpoint.url
        super().__init__(base_url=url, version=version, timeout=60, tls=_tls(endpoint))
        if endpoint.socket or through_ssh:
            self._custom_adapter: Any = _UnixAdapter(endpoint.socket or endpoint.url)
            self.mount("http+docker://", self._custom_adapter)
        else:
            self._custom_adapter = _TcpAdapter()
            self.mount("http://", self._custom_adapter)
            self.mount("https://", self._custom_adapter)

    def check_alive(self, most: float) -> None:
        """
        Ask the engine whether it is there, waiting at most *most* seconds; any answer counts.

        Raises:
            NoAnswerError: If it is not.
        """
        self._most, usual = min(self._most, most), self._most
        try:
            # time that is allowed for the work to come is none for this
            with contextlib.suppress(docker.errors.APIError), allowing():
                self.get(f"{self.base_url}/_ping")
        finally:
            self._most = usual

    def exec_start(self, exec_id: Any, detach: Any = False, **options: Any) -> Any:  # type: ignore[override]
        """
        Run the command of *exec_id* to its end and return what it wrote to both streams.

        The library's own waits for a silent command without any limit; with options it is left to the library.

        Raises:
            NoAnswerError: If it does not end in time.
        """
        if options:
            return super().exec_start(exec_id, detach=detach, **options)
        identity = exec_id["Id"] if isinstance(exec_id, dict) else exec_id
        url = f"{self.base_url}/v{self.api_version}/exec/{identity}/start"
        return _unframed(self.post(url, json={"Detach": detach, "Tty": False}).content)

    def send(self, request: Any, **options: Any) -> requests.Response:
        """
        Send one prepared request and return its answer, read to the end unless a stream was asked for.

        Raises:
            NoAnswerError: If no answer came in time, or one that cannot be one.
            docker.errors.APIError: If the engine refused.
        """
        stream, began = bool(options.get("stream")), time.monotonic()
        limit = self._patience.limit(self._most)
        if limit <= 0:
            raise NoAnswerError(
                f"the engine at {self._endpoint.where} did not answer an earlier request in time", sent=False
            )
        options |= {"stream": True, "allow_redirects": False, "timeout": urllib3.Timeout(total=limit)}
        # the library would let REQUESTS_CA_BUNDLE win over the engine's own certificates
        options |= {"verify": self.verify, "cert": self.cert}
        answered = False
        try:
            with limited(limit) as exchange:
                answer = self._exchanged(request, exchange, limit, options, stream=stream)
            answered = True
        finally:
            self._patience.note(began, answered=answered)
        if not answer.ok:
            _refuse(answer)
        return answer

    def _exchanged(
        self, request: Any, exchange: Exchange, limit: float, options: dict[str, Any], *, stream: bool
    ) -> requests.Response:
        with self._plainly(exchange, limit):
            answer = super().send(request, **options)
            if answer.status_code in REDIRECTS:
                answer.close()
                raise NoAnswerError(f"{self._endpoint.where} redirects, so it is no Docker engine", sent=True)
            if stream and answer.ok:
                if allowed().quiet:
                    exchange.until = None
                return answer
            answer._content = _body(answer)  # noqa: SLF001 - where requests keeps it
        return answer

    @contextlib.contextmanager
    def _plainly(self, exchange: Exchange, limit: float) -> Iterator[None]:
        try:
            yield
        except NoAnswerError:
            raise
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise NoAnswerError(self._reason(error, exchange, limit), sent=exchange.sent) from error

    def _reason(self, error: BaseException, exchange: Exchange, limit: float) -> str:
        where = self._endpoint.where
        causes = list(_causes(error))
        late = [cause for cause in causes if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError)]
        # a connection that is refused, or a name without an address, is a time-out by its class
        refused = any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in late)
        if (late and not refused) or (exchange.until is not None and time.monotonic() >= exchange.until):
            whole = self._patience.seconds
            clipped = limit < min(whole * FOR_ONE, self._most) and allowed().alone is None
            rest = f", the rest of the {whole:g} s for a command" if clipped else ""
            return f"the engine at {where} did not answer within {limit:.3g} s{rest}"
        if said := over_ssh.said(self._endpoint.url):
            return self._endpoint.away(said)
        system = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
        if not exchange.sent or any(isinstance(cause, NOTHING_THERE) for cause in causes):
            return self._endpoint.away(system[-1] if system else causes[-1])
        said = one_line(str(causes[-1]) or type(error).__name__, WIDTH)
        return f"the engine at {where} broke off its answer ({said})"


def _tls(endpoint: Endpoint) -> Any:
    """Return the library's description of the endpoint's certificates; False without any."""
    files = endpoint.tls
    if files is None or endpoint.socket:
        return False
    pair = (str(files.cert), str(files.key)) if files.cert and files.key else None
    return TLSConfig(client_cert=pair, ca_cert=str(files.ca) if files.ca else None, verify=files.verify)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an exception, and what lies below it as a cause, a context, or an argument."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        below = [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
        waiting += [item for item in below if isinstance(item, BaseException)]


def _body(answer: requests.Response) -> bytes:
    """
    Read an answer to its end.

    Raises:
        NoAnswerError: If it is larger than any answer of an engine.
    """
    with contextlib.closing(answer), io.BytesIO() as body:
        for piece in answer.iter_content(1 << 16):
            if body.tell() + len(piece) > LARGEST:
                raise NoAnswerError(f"the engine's answer is larger than {LARGEST >> 20} MiB", sent=True)
            body.write(piece)
        return body.getvalue()


def _unframed(content: bytes) -> bytes:
    """Return what the frames of both streams carry, in their order."""
    found, start = b"", 0
    while len(content) - start >= FRAME.size:
        _, length = FRAME.unpack_from(content, start)
        start += FRAME.size
        found += content[start : start + length]
        start += length
    return found


def _refuse(answer: requests.Response) -> None:
    """
    Raise the library's error for an answer that says no, in one line.

    Raises:
        docker.errors.APIError: Always.
    """
    try:
        message = json_text.read(answer.content)["message"]
    except (ValueError, TypeError, LookupError):
        message = answer.content[: 4 * WIDTH].decode(errors="replace")
    words = one_line(str(message), WIDTH) or "no reason given"
    kind = docker.errors.NotFound if answer.status_code == http.client.NOT_FOUND else docker.errors.APIError
    raise kind(f"status {answer.status_code}", response=answer, explanation=words)

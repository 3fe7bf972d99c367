"""
HTTP/1.1 on one connection, parsed by httptools.

Requests are answered one after the other, each as soon as its whole body is here. A head or a body beyond its limit is
refused at once and then only counted, up to a bound, so that its sender hears the refusal instead of a reset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol
from urllib import parse

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url

from platform_common.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_common.websocket import WebSocket

HEAD_LIMIT: Final = 16 * 1024  # bytes of a request's line and headers
BODY_LIMIT: Final = 16 * 1024  # bytes
DISCARD_LIMIT: Final = 2 * 1024 * 1024  # bytes of an oversized request that are read before the connection closes
DISCARD_SECONDS: Final = 0.5
IDLE_LIMIT: Final = 30.0  # seconds for the next request to arrive, all of it
CONNECTIONS: Final = 512
PHRASES: Final = {
    101: "Switching Protocols", 200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict", 413: "Content Too Large",
    422: "Unprocessable Content", 426: "Upgrade Required", 429: "Too Many Requests", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


class Request:
    """
    One request, read to its end.

    Attributes:
        method: As sent.
        path: Decoded, without the query.
        query: Each name's last value.
        headers: Each name in small letters, with all its values.
        body: At most 16 KiB.
        oversized: Whether there was more of the body.
        address: The client's, or `unknown`.
        params: What the route's placeholders stand for.
    """

    __slots__ = ("address", "body", "close", "headers", "method", "oversized", "params", "path", "query")

    def __init__(self, target: bytes, headers: dict[str, list[str]], address: str) -> None:
        url = parse_url(target)
        self.method = ""
        path = (url.path or b"/").decode("latin-1")
        self.path = parse.unquote(path) if "%" in path else path
        self.query = dict(parse.parse_qsl(url.query.decode("latin-1"), keep_blank_values=True)) if url.query else {}
        self.headers = headers
        self.body = bytearray()
        self.oversized = False
        self.address = address
        self.params: dict[str, object] = {}
        self.close = False


class Response:
    """An answer: status, body, and headers beside the length."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: str | bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers = headers or {}

    def encode(self, *, body: bool = True, close: bool = False) -> bytes:
        """Return the bytes to send; without *body* only the head of the same answer."""
        lines = [f"HTTP/1.1 {self.status} {PHRASES[self.status]}", *(f"{k}: {v}" for k, v in self.headers.items())]
        if self.status not in {101, 204}:
            lines.append(f"Content-Length: {len(self.body)}")
        if close and "Connection" not in self.headers:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head + self.body if body else head


class App(Protocol):
    """What a connection asks for answers."""

    async def answer(self, request: Request) -> Response:
        """Return the answer; never raises."""

    def refusal(self, head: bytes) -> Response:
        """Return the answer to a head that cannot be read."""

    def busy(self) -> Response:
        """Return the answer to one connection too many."""

    def socket(self, request: Request, flow: Flow, early: bytes) -> WebSocket | None:
        """Return the WebSocket that *request* opens, already serving, or None where there is none."""


class Connection(asyncio.Protocol):
    """One client's connection, until it becomes a WebSocket."""

    def __init__(self, app: App, everyone: set[Connection | WebSocket]) -> None:
        self._app = app
        self._everyone = everyone
        self._parser = HttpRequestParser(self)
        self._queue: deque[Request | Response] = deque()
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._discarded: int | None = None
        self._leaving = False
        self._address = "unknown"
        self._start()

    def _start(self) -> None:
        """Expect a new request."""
        self._in_head = True
        self._head = bytearray()
        self._target = b""
        self._size = 0
        self._headers: dict[str, list[str]] = {}
        self._request: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio promises; narrows for the type checker
        self._flow = Flow(transport)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if peer else "unknown"
        self._everyone.add(self)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what is being answered is carried through."""
        self._everyone.discard(self)
        self._flow.connection_lost(exc)
        if self._idle is not None:
            self._idle.cancel()

    def pause_writing(self) -> None:
        """Answer nothing more until the client has read."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Go on."""
        self._flow.resume_writing()

    def leave(self) -> None:
        """Close as soon as what was asked is answered."""
        self._leaving = True
        if self._task is None:
            self._flow.transport.close()

    def data_received(self, data: bytes) -> None:
        """Take bytes; after a refusal only count them."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > DISCARD_LIMIT:
                self._flow.transport.close()
            return
        if self._in_head:
            self._head += data
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except HttpParserError:
            self._refuse()
        else:
            if self._in_head and len(self._head) > HEAD_LIMIT:
                self._refuse()

    # What the parser calls, by the names it knows.

    def on_url(self, part: bytes) -> None:
        """Take a part of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; what comes after a body counts for nothing."""
        if not self._in_head:
            return
        self._size += len(name) + len(value)
        self._headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip(" \t"))

    def on_headers_complete(self) -> None:
        """
        Take the head for complete.

        Raises:
            ValueError: If it is too large or names no host; the parser passes it on as an error of its own.
        """
        modern = self._parser.get_http_version() == "1.1"
        if self._size + len(self._target) > HEAD_LIMIT or (modern and len(self._headers.get("host", ())) != 1):
            msg = "not a head to be answered"
            raise ValueError(msg)
        self._request = Request(self._target, self._headers, self._address)
        self._request.method = self._parser.get_method().decode("latin-1")
        self._request.close = not modern or self._parser.should_upgrade()
        self._in_head = False
        self._head.clear()
        self._size = 0
        if self._headers.get("expect", [""])[0].lower() == "100-continue" and self._task is None:
            self._flow.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        """Keep up to 16 KiB; what is far beyond is answered before its end."""
        request = self._request
        if request is None:
            return
        self._size += len(part)
        request.oversized = request.oversized or len(request.body) + len(part) > BODY_LIMIT
        if not request.oversized:
            request.body += part
        elif self._size > DISCARD_LIMIT:
            request.close = True
            self._discarded = 0
            self._enqueue(request)
            self._request = None

    def on_message_complete(self) -> None:
        """Have the request answered, unless it asks for a WebSocket."""
        request = self._request
        if request is None or self._wants_socket(request):
            return
        request.close = request.close or not self._parser.should_keep_alive()
        self._enqueue(request)
        self._start()

    def _wants_socket(self, request: Request) -> bool:
        return self._parser.should_upgrade() and request.headers.get("upgrade", [""])[0].lower() == "websocket"

    def _upgrade(self, early: bytes) -> None:
        """Become a WebSocket; any other upgrade was answered as if not asked for, and nothing more can be read."""
        request = self._request
        if request is None:
            self._discarded = 0
        elif self._task is not None:
            self._refuse()
        elif (socket := self._app.socket(request, self._flow, early)) is None:
            self._discarded = 0
            self._enqueue(request)
        else:
            self._everyone.discard(self)
            self._everyone.add(socket)
            socket.gone = self._everyone.discard
            self._flow.transport.set_protocol(socket)
            if self._idle is not None:
                self._idle.cancel()

    def _refuse(self) -> None:
        self._discarded = 0
        self._enqueue(self._app.refusal(bytes(self._head)))

    def _enqueue(self, item: Request | Response) -> None:
        if len(self._everyone) > CONNECTIONS and isinstance(item, Request):
            item, self._discarded = self._app.busy(), 0
        self._queue.append(item)
        if self._task is None:
            if self._idle is not None:
                self._idle.cancel()
            self._task = asyncio.get_running_loop().create_task(self._work())
        else:
            self._flow.transport.pause_reading()

    async def _work(self) -> None:
        """Answer what has been asked, in order."""
        transport = self._flow.transport
        while self._queue and not transport.is_closing():
            item = self._queue.popleft()
            if isinstance(item, Response):
                transport.write(item.encode(close=True))
                asyncio.get_running_loop().call_later(DISCARD_SECONDS, transport.close)
                return
            response = await self._app.answer(item)
            last = item.close or self._leaving or "Connection" in response.headers
            transport.write(response.encode(body=item.method != "HEAD", close=last))
            if last:
                transport.close()
                return
            await self._flow.ready()
        self._task = None
        if not transport.is_closing():
            transport.resume_reading()
            self._await_request()

    def _await_request(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_LIMIT, self._flow.transport.close)

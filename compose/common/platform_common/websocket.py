"""
One WebSocket: frames by the library websockets, the handshake and the connection here.

Reading stops while a message waits to be taken, writing waits while the client does not read.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from websockets.frames import Frame, Opcode
from websockets.protocol import SEND_EOF, SERVER, State
from websockets.protocol import Protocol as Frames

from platform_common.http import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from platform_common.flow import Flow
    from platform_common.http import Request

log = logging.getLogger("platform")
# What a client sends is its own affair, not a line in our log.
logging.getLogger("websockets").setLevel(logging.CRITICAL)

MESSAGE_LIMIT: Final = 64 * 1024  # bytes of one message
CLOSE_LIMIT: Final = 1.0  # seconds for the client to answer a close
PING_PAUSE: Final = 20.0  # seconds between two pings; one unanswered by then ends the connection
RESTART: Final = 1012  # close code, "service restart"
BROKEN: Final = 1011  # the same, "internal error"
BAD_TEXT: Final = 1007
KEY_BYTES: Final = 16
MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class WebSocket(asyncio.Protocol):
    """
    A client's WebSocket, or its wish for one as long as nobody has accepted it.

    Attributes:
        headers: Of the handshake; each name in small letters, with all its values.
        gone: Called with this socket once it has ended.
    """

    def __init__(self, request: Request, flow: Flow, early: bytes) -> None:
        self.headers = request.headers
        self.gone: Callable[[WebSocket], None] = lambda _: None
        self._flow = flow
        self._early = early
        self._frames = Frames(SERVER, max_size=MESSAGE_LIMIT)
        self._open = False
        self._closing = False
        self._ended = False
        self._inbox: deque[str | bytes] = deque()
        self._news = asyncio.Event()
        self._message = bytearray()
        self._kind = Opcode.TEXT
        self._alive = True
        self._timers: list[asyncio.TimerHandle] = []
        self._task: asyncio.Task[None] | None = None

    def serve(self, converse: Callable[[WebSocket], Awaitable[None]]) -> None:
        """Let *converse* accept or refuse, and talk; whatever it does, the connection ends with it."""
        self._task = asyncio.get_running_loop().create_task(self._converse(converse))

    async def accept(self) -> None:
        """Complete the handshake."""
        key = self.headers["sec-websocket-key"][0].encode()
        proof = binascii.b2a_base64(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest(), newline=False).decode()
        answer = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": proof}
        self._flow.transport.write(Response(101, headers=answer).encode())
        self._open = True
        self._later(PING_PAUSE, self._ping)
        self.data_received(b"")

    async def deny(self, response: Response) -> None:
        """Refuse the handshake."""
        self._flow.transport.write(response.encode(close=True))
        self._flow.transport.close()

    async def send(self, text: str) -> None:
        """
        Send *text*, when the client takes it.

        Raises:
            ConnectionError: If the connection has ended.
        """
        await self._flow.ready()
        if self._ended or self._frames.state is not State.OPEN:
            raise ConnectionResetError
        self._frames.send_text(text.encode())
        self._flush()

    async def receive(self) -> str | bytes | None:
        """Return the next message, or None when there will be none."""
        if self._inbox:
            await asyncio.sleep(0)  # a client that never pauses must not keep the others waiting
        while not self._inbox and not self._ended:
            self._flow.transport.resume_reading()
            self._news.clear()
            await self._news.wait()
        return self._inbox.popleft() if self._inbox else None

    def close(self, code: int, reason: str) -> None:
        """Say goodbye, if that has not been done; returns at once."""
        if self._open and self._frames.state is State.OPEN:
            self._frames.send_close(code, reason)
            self._flow.transport.resume_reading()
            self._flush()

    def leave(self) -> None:
        """End because the service ends."""
        if self._open:
            self.close(RESTART, "")
        else:
            self._flow.transport.close()

    def abort(self) -> None:
        """Cut the connection with all that was not sent."""
        self._flow.transport.abort()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Take bytes; before the handshake is done they only wait."""
        if not self._open:
            self._early += data
            if len(self._early) > MESSAGE_LIMIT:
                self.abort()
            return
        data, self._early = self._early + data, b""
        if data:
            self._frames.receive_data(data)
        for event in self._frames.events_received():
            if isinstance(event, Frame):
                self._take(event)
        self._flush()

    def eof_received(self) -> None:
        """Take the end of what the client says; the transport closes itself."""
        self._frames.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody."""
        self._ended = True
        self._news.set()
        self._flow.connection_lost(exc)
        for timer in self._timers:
            timer.cancel()
        self.gone(self)

    def pause_writing(self) -> None:
        """Send nothing more until the client has read."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Go on."""
        self._flow.resume_writing()

    async def _converse(self, converse: Callable[[WebSocket], Awaitable[None]]) -> None:
        try:
            await converse(self)
        except Exception:
            log.exception("a WebSocket's conversation broke off")
            self.close(BROKEN, "something went wrong here")
        if not self._open:
            self._flow.transport.close()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._alive = True
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY}:
            self._kind = frame.opcode
        elif frame.opcode is not Opcode.CONT:
            return
        self._message += frame.data
        if frame.fin:
            data, self._message = self._message, bytearray()
            self._deliver(data)

    def _deliver(self, data: bytearray) -> None:
        try:
            self._inbox.append(data.decode() if self._kind is Opcode.TEXT else bytes(data))
        except UnicodeDecodeError:
            self._frames.fail(BAD_TEXT, "not UTF-8")
            return
        self._news.set()
        self._flow.transport.pause_reading()

    def _flush(self) -> None:
        parts = self._frames.data_to_send()
        if data := b"".join(parts):
            self._flow.transport.write(data)
        if SEND_EOF in parts and not self._flow.transport.is_closing():
            # Closing now could reset the connection under bytes that still arrive, and with it what was just sent.
            self._flow.transport.write_eof()
        if self._frames.close_expected() and not self._closing:
            self._closing = True
            self._later(CLOSE_LIMIT, self.abort)

    def _ping(self) -> None:
        if not self._alive:
            self.abort()
        elif self._frames.state is State.OPEN:
            self._alive = False
            self._frames.send_ping(b"")
            self._flush()
            self._later(PING_PAUSE, self._ping)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers = [timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()]
        self._timers.append(asyncio.get_running_loop().call_later(seconds, action))


def fault_of(request: Request) -> tuple[int, str] | None:
    """Return status and reason why *request* cannot open a WebSocket, or None if it can."""
    headers = request.headers
    if headers.get("sec-websocket-version") != ["13"]:
        return 426, "WebSocket version 13 is spoken here"
    keys = headers.get("sec-websocket-key", [])
    try:
        good = len(keys) == 1 and len(binascii.a2b_base64(keys[0], strict_mode=True)) == KEY_BYTES
    except ValueError:
        good = False
    if not good or request.method != "GET" or len(headers.get("origin", ())) > 1:
        return 400, "not a WebSocket handshake this service can read"
    return None

"""
Uvicorn as the services want it.

Small limits, no compression, JSON for requests too broken to parse, and an end within
a second of SIGTERM whatever hangs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from platform_common.errors import SettingsError
from platform_common.settings import Settings

if TYPE_CHECKING:
    from asyncio.transports import BaseTransport
    from collections.abc import Callable
    from socket import socket

    from starlette.applications import Starlette

STOP_LIMIT: Final = 0.6  # seconds from the end of listening to the end of the process
MESSAGE_LIMIT: Final = 64 * 1024  # bytes of one WebSocket message
HEAD_LIMIT: Final = 16 * 1024  # bytes of a request's line and headers
DRAIN_LIMIT: Final = 2 * 1024 * 1024  # bytes of an oversized head that are read before the connection closes
DRAIN_SECONDS: Final = 0.5
CONNECTIONS: Final = 512
CLIENT_FAULTS: Final = ("Invalid HTTP request", "Exceeded concurrency limit")


class HttpProtocol(H11Protocol):
    """Answers in JSON when the head cannot be parsed, and keeps reading so that the sender hears it."""

    drained: int | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes; after a refusal only count them."""
        if self.drained is None:
            super().data_received(data)
            return
        self.drained += len(data)
        if self.drained > DRAIN_LIMIT:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Refuse the request: 401 for an endless Authorization header, 400 for all else."""
        head = self.conn.trailing_data[0].lower()
        self.transport.write(TOKEN_REFUSAL if b"\nauthorization:" in head else HEAD_REFUSAL)
        self.drained = 0
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, self.transport.close)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Lets the application cut off a client that neither reads nor answers a close."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = 1.0

    def connection_made(self, transport: BaseTransport) -> None:
        """Hand the application a way to drop the connection with everything unsent."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": self.transport.abort}

    async def send(self, message: Any) -> None:
        """Send; a refused handshake is complete too, else uvicorn reports it as our error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True


class Server(uvicorn.Server):
    """Ends the process when the grace is over."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Close everything; what still hangs then does not delay the end."""
        asyncio.get_running_loop().call_later(STOP_LIMIT, os._exit, 0)
        await super().shutdown(sockets)


def serve(build: Callable[[Settings], Starlette]) -> int:
    """
    Run the application that *build* makes until SIGTERM or SIGINT.

    Returns:
        Exit code: 2 if a setting is wrong. A served process ends with 0 and does not return.
    """
    # Also before uvicorn listens for it: the kernel ignores an unhandled SIGTERM to a container's first process.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # The pool reports each attempt to reconnect with a traceback; our own line about it is enough.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    # A client that sends rubbish or too much is its own problem, not a line in our log for each attempt.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(CLIENT_FAULTS))
    try:
        settings = Settings.load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    server = Server(_config(build(settings), settings.port))
    # It was off for the imports; what they loaded stays and need never be looked at.
    gc.freeze()
    gc.enable()
    server.run()
    return _leave()


def _config(app: Starlette, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app, host="0.0.0.0", port=port, loop="asyncio", http=HttpProtocol, ws=WebSocketProtocol, lifespan="on",  # noqa: S104 - inside a container; published on the loopback only
        log_config=None, log_level=None, access_log=False, proxy_headers=False, server_header=False, date_header=False,
        ws_max_size=MESSAGE_LIMIT, ws_ping_interval=20.0, ws_ping_timeout=20.0, ws_per_message_deflate=False,
        limit_concurrency=CONNECTIONS, timeout_keep_alive=30, h11_max_incomplete_event_size=HEAD_LIMIT,
    )  # fmt: skip


def _leave(*_args: object) -> int:
    """End at once: a normal exit would wait for threads, and one may hang in a name lookup."""
    sys.stderr.flush()
    os._exit(0)


def _refusal(status: str, code: str, message: str, extra: str = "") -> bytes:
    body = f'{{"error":{{"code":"{code}","message":"{message}"}}}}'
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return f"{head}{extra}\r\n{body}".encode()


TOKEN_REFUSAL: Final = _refusal(
    "401 Unauthorized", "unauthorized", "a valid bearer token is required", "WWW-Authenticate: Bearer\r\n"
)
HEAD_REFUSAL: Final = _refusal("400 Bad Request", "bad_request", "not an HTTP request this service can read")

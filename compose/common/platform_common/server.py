"""One process: logging to standard output, uvicorn, and an end soon after SIGTERM whatever hangs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from uvicorn import Config, Server

from platform_common.errors import SettingsError
from platform_common.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

log = logging.getLogger("platform")

KEEP_ALIVE: Final = 75  # seconds; longer than clients keep an idle connection, or their next request meets its end
STOP_LIMIT: Final = 1  # seconds for requests that are being answered
UNREAD_LIMIT: Final = 30_000  # ms until a client that takes no data is cut off
MESSAGE_LIMIT: Final = 256 * 1024  # bytes of a WebSocket message; beyond, the connection is cut while it arrives
FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"


def serve(name: str, build: Callable[[Settings], ASGIApp]) -> int:
    """
    Run the application that *build* makes until SIGTERM or SIGINT.

    Returns:
        Exit code: 2 if a setting is wrong. A served process ends with 0 and does not return.
    """
    # before uvicorn listens for it: the kernel ignores an unhandled SIGTERM to a container's first process
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    logging.basicConfig(level=logging.WARNING, format=FORMAT, stream=sys.stdout)
    logging.getLogger("uvicorn.error").addFilter(_worth_a_line)
    log.setLevel(logging.INFO)
    try:
        settings = Settings.load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    listener = _listener(settings.port)
    config = Config(
        build(settings), loop="asyncio", http="httptools", ws="websockets-sansio", ws_max_size=MESSAGE_LIMIT,
        ws_per_message_deflate=False, lifespan="on", interface="asgi3", log_config=None, log_level="warning",
        access_log=False, proxy_headers=False, server_header=False, timeout_graceful_shutdown=STOP_LIMIT,
        timeout_keep_alive=KEEP_ALIVE,
    )  # fmt: skip
    # uvicorn raises the signal again when it has stopped
    signal.signal(signal.SIGTERM, lambda *_: None)
    log.info("%s serves on port %d", name, settings.port)
    asyncio.new_event_loop().run_until_complete(Server(config).serve([listener]))
    log.info("%s has stopped", name)
    # a normal exit would wait for threads, and one may hang in a name lookup
    sys.stdout.flush()
    os._exit(0)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Whether uvicorn's line is news: a WebSocket refused with an answer of ours is none."""
    text = record.getMessage()
    if text.startswith("Invalid UTF-8"):
        record.exc_info = None
    return "without completing handshake" not in text


def _listener(port: int) -> socket.socket:
    # asyncio turns Nagle's delay off only for a socket that names its protocol; an answer would wait 40 ms for an ACK
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_LIMIT)
    listener.bind(("0.0.0.0", port))  # noqa: S104 - inside a container; published on the loopback only
    return listener

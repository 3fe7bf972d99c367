"""One process, one event loop: listening, small limits, and an end within a second of SIGTERM whatever hangs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from platform_common.errors import SettingsError
from platform_common.http import Connection
from platform_common.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_common.web import Application
    from platform_common.websocket import WebSocket

STOP_LIMIT: Final = 0.6  # seconds from the end of listening to the end of the process
BACKLOG: Final = 512


class Everyone(set["Connection | WebSocket"]):
    """All that are connected."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def discard(self, one: object) -> None:
        """Forget one that has gone."""
        super().discard(one)
        self._news.set()

    async def gone(self) -> None:
        """Return when nobody is connected."""
        while self:
            self._news.clear()
            await self._news.wait()


def serve(build: Callable[[Settings], Application]) -> int:
    """
    Run the application that *build* makes until SIGTERM or SIGINT.

    Returns:
        Exit code: 2 if a setting is wrong. A served process ends with 0 and does not return.
    """
    # Also before the loop listens for it: the kernel ignores an unhandled SIGTERM to a container's first process.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = Settings.load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    application = build(settings)
    # It was off for the imports; what they loaded stays and need never be looked at.
    gc.freeze()
    gc.enable()
    asyncio.new_event_loop().run_until_complete(_run(application, settings.port))
    return _leave()


async def _run(application: Application, port: int) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # add_signal_handler() would load a twentieth of all that a service has in memory to ask what told.set is
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(told.set))
    application.start()
    everyone = Everyone()
    server = await loop.create_server(lambda: Connection(application, everyone), sock=_listener(port), backlog=BACKLOG)
    await told.wait()
    # What hangs does not delay the end.
    loop.call_later(STOP_LIMIT, os._exit, 0)
    server.close()
    for one in tuple(everyone):
        one.leave()
    await everyone.gone()
    await application.stop()


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))  # noqa: S104 - inside a container; published on the loopback only
    return listener


def _leave(*_args: object) -> int:
    """End at once: a normal exit would wait for threads, and one may hang in a name lookup."""
    sys.stderr.flush()
    os._exit(0)

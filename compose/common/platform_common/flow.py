"""Writing no faster than the other side reads."""

from __future__ import annotations

import asyncio


class Flow:
    """A transport, and whether it takes more."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False

    def pause_writing(self) -> None:
        """Note that too much waits to be sent."""
        self._paused = True

    def resume_writing(self) -> None:
        """Note that it was sent, and let go on whoever waits."""
        self._paused = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        """Let go on whoever waits: nothing will ever be sent again."""
        self.resume_writing()

    async def ready(self) -> None:
        """Return when the transport takes more, or is gone."""
        while self._paused:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

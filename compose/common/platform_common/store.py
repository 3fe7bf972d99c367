"""
Redis for a service.

All commands share one connection; one that breaks is replaced and the commands sent again, for half a second.
Publish/subscribe has a connection of its own, kept up for ever by a task.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from platform_common.errors import RedisFault, Unavailable, reason_of
from platform_common.pauses import pauses
from platform_common.resp import connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from platform_common.resp import Command, Link
    from platform_common.settings import Endpoint

# Docker answers a name before its network is up; a SYN lost in that gap is sent again only after a second.
CONNECT_LIMIT: Final = 0.2  # seconds for lookup and connection
USE_LIMIT: Final = 1.2  # seconds for everything asked at one time, a new connection included
ATTEMPTS: Final = 10
ATTEMPT_PAUSE: Final = 0.05  # seconds; half a second in all where nobody listens
AWAY: Final = (RedisFault, OSError, TimeoutError)


class Redis:
    """Commands; nothing connects before the first of them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._link: Link | None = None
        self._dialling = asyncio.Lock()

    async def stop(self) -> None:
        """Drop the connection."""
        if self._link is not None:
            self._link.drop()

    async def ask(self, *commands: Command) -> list[Any]:
        """
        Return the reply to each of *commands*, texts as str.

        Raises:
            Unavailable: If Redis is away, refuses a command, or takes longer than 1.2 s.
        """
        link = self._link
        try:
            async with asyncio.timeout(USE_LIMIT):
                return await self._insist(*commands)
        except AWAY as error:
            # A connection that hangs is not waited for twice; unless another has taken its place already.
            if isinstance(error, TimeoutError) and link is not None and link is self._link:
                link.drop()
            raise Unavailable("redis", reason_of(error)) from error

    async def check(self) -> None:
        """
        Return if our user may read.

        Raises:
            Unavailable: As *ask*.
        """
        await self.ask(("GET", "ready"))

    async def _insist(self, *commands: Command) -> list[Any]:
        for _ in range(ATTEMPTS):
            with suppress(OSError):
                return await (await self._connected()).ask(*commands)
            await asyncio.sleep(ATTEMPT_PAUSE)
        return await (await self._connected()).ask(*commands)

    async def _connected(self) -> Link:
        async with self._dialling:
            if self._link is None or self._link.lost.done():
                self._link = await connect(self._endpoint, CONNECT_LIMIT)
            return self._link


class Subscriptions:
    """
    Channels over one connection, subscribed again after each reconnect.

    *on_message* gets channel and payload; *on_gap* is awaited after a reconnect, when messages may have been missed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        on_message: Callable[[str, str], None],
        on_gap: Callable[[], Awaitable[None]],
    ) -> None:
        self.trouble = "not connected yet"
        self._endpoint = endpoint
        self._on_message = on_message
        self._on_gap = on_gap
        self._channels: dict[str, asyncio.Event] = {}
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._was_up = False

    @property
    def connected(self) -> bool:
        """Whether the connection is up as far as we know."""
        return self._link is not None

    def start(self, *channels: str) -> None:
        """Begin to connect in the background, and to listen to *channels* for good."""
        self._channels = {channel: asyncio.Event() for channel in channels}
        self._task = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """Drop the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def add(self, channel: str) -> None:
        """
        Subscribe to *channel*; on return, what is published from now on will arrive.

        Raises:
            Unavailable: If Redis does not confirm in time.
        """
        known = channel in self._channels
        confirmed = self._channels.setdefault(channel, asyncio.Event())
        if not known and self._link is not None:
            self._link.send(("SUBSCRIBE", channel))
        try:
            async with asyncio.timeout(USE_LIMIT):
                await confirmed.wait()
        except TimeoutError:
            raise Unavailable("redis", self.trouble) from None

    async def remove(self, channel: str) -> None:
        """Unsubscribe from *channel*; nothing happens when it was not subscribed."""
        if self._channels.pop(channel, None) is not None and self._link is not None:
            self._link.send(("UNSUBSCRIBE", channel))

    async def _keep_up(self) -> None:
        pause = pauses()
        while True:
            try:
                async with asyncio.timeout(USE_LIMIT):
                    link = await connect(self._endpoint, CONNECT_LIMIT, self._take)
                pause = pauses()
                try:
                    await self._listen(link)
                finally:
                    link.drop()
            except (*AWAY, Unavailable) as error:
                self.trouble = reason_of(error)
            await asyncio.sleep(next(pause))

    async def _listen(self, link: Link) -> None:
        """Return by raising, once the connection is lost."""
        # Set before the channels are read, so that none can come in between and be missed by both.
        self._link = link
        try:
            link.send(("SUBSCRIBE", *self._channels))
            if self._was_up:
                await self._on_gap()
            self._was_up = True
            raise await link.lost
        finally:
            self._link = None
            for confirmed in self._channels.values():
                confirmed.clear()

    def _take(self, message: list[Any]) -> None:
        match message:
            case ["message", channel, text]:
                self._on_message(channel, text)
            case ["subscribe", channel, _] if channel in self._channels:
                self._channels[channel].set()

"""
Redis for a service.

There is one connection that all requests share, each command's reply handed out in order, and one more for
publish/subscribe. Each is kept up by its own task, which reconnects for ever; a command sent while Redis is away waits
a moment for it and is then refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from platform_common.errors import Unavailable, reason_of
from platform_common.reach import Attempts
from platform_common.resp import Reply, RespError, Wire, Word

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from platform_common.settings import Endpoint

WAIT_LIMIT: Final = 0.5  # seconds a command waits for a connection
REPLY_LIMIT: Final = 1.2  # seconds it waits for its reply
SILENCE_LIMIT: Final = 15.0  # seconds without a word before a subscription asks whether Redis is still there
BROKEN: Final = (OSError, EOFError, TimeoutError, RespError, asyncio.LimitOverrunError)


class Link:
    """Keeps one logged-in connection up; a subclass says what to do with it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._wire: Wire | None = None
        self._up = asyncio.Event()
        self._trouble = "not connected yet"
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection is up as far as we know."""
        return self._wire is not None

    @property
    def trouble(self) -> str:
        """What the last attempt met, in one line."""
        return self._trouble

    def start(self) -> None:
        """Begin to connect in the background."""
        self._task = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """Drop the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep_up(self) -> None:
        plan = Attempts()
        while True:
            try:
                wire = await Wire.connect(self._endpoint, plan.patience)
                plan = Attempts()
                await self._hold(wire)
            except BROKEN as error:
                self._trouble = reason_of(error)
                await asyncio.sleep(plan.failed(error))

    async def _hold(self, wire: Wire) -> None:
        self._wire = wire
        self._up.set()
        try:
            await self._serve(wire)
        finally:
            self._wire = None
            self._up.clear()
            wire.close()
            self._lost()

    async def _serve(self, wire: Wire) -> None:
        """Read from *wire* until it breaks."""
        raise NotImplementedError

    def _lost(self) -> None:
        """Settle what can no longer be answered."""


class Redis(Link):
    """Commands over one shared connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._waiting: deque[asyncio.Future[Reply]] = deque()

    async def call(self, *words: Word) -> Reply:
        """
        Send one command and return its reply.

        Raises:
            Unavailable: If Redis is away, too slow, or refuses the command.
        """
        return (await self.pipeline(words))[0]

    async def pipeline(self, *commands: tuple[Word, ...]) -> list[Reply]:
        """
        Send several commands in one packet and return their replies.

        Raises:
            Unavailable: As *call*.
        """
        wire = await self._connection()
        futures = [asyncio.get_running_loop().create_future() for _ in commands]
        self._waiting.extend(futures)
        wire.send(*commands)
        try:
            async with asyncio.timeout(REPLY_LIMIT):
                replies: list[Reply] = list(await asyncio.gather(*futures))
        except BROKEN as error:
            # What is still under way would be taken for the next command's reply: only a new connection is safe.
            wire.close()
            raise Unavailable("redis", reason_of(error)) from error
        for reply in replies:
            if isinstance(reply, RespError):
                raise Unavailable("redis", str(reply)) from reply
        return replies

    async def _connection(self) -> Wire:
        if self._wire is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._up.wait(), WAIT_LIMIT)
        if self._wire is None:
            raise Unavailable("redis", self._trouble)
        return self._wire

    async def _serve(self, wire: Wire) -> None:
        while True:
            reply = await wire.read()
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(reply)

    def _lost(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(EOFError("connection lost"))


class Subscriptions(Link):
    """
    Channels over one connection, subscribed again after each reconnect.

    *on_message* gets channel and payload; *on_gap* is awaited after a reconnect, when messages may have been missed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        on_message: Callable[[str, bytes], None],
        on_gap: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(endpoint)
        self._on_message = on_message
        self._on_gap = on_gap
        self._channels: dict[str, asyncio.Event] = {}
        self._gaps: asyncio.Task[None] | None = None
        self._was_up = False

    def want(self, channel: str) -> asyncio.Event:
        """Ask for *channel*; the event that is returned is set while Redis has confirmed it."""
        confirmed = self._channels.get(channel)
        if confirmed is None:
            confirmed = self._channels[channel] = asyncio.Event()
            if self._wire is not None:
                self._wire.send(("SUBSCRIBE", channel))
        return confirmed

    async def add(self, channel: str) -> None:
        """
        Subscribe to *channel*; on return, what is published from now on will arrive.

        Raises:
            Unavailable: If Redis does not confirm in time.
        """
        confirmed = self.want(channel)
        try:
            await asyncio.wait_for(confirmed.wait(), WAIT_LIMIT + REPLY_LIMIT)
        except TimeoutError:
            raise Unavailable("redis", self._trouble) from None

    def remove(self, channel: str) -> None:
        """Unsubscribe from *channel*; nothing happens when it was not subscribed."""
        if self._channels.pop(channel, None) is not None and self._wire is not None:
            self._wire.send(("UNSUBSCRIBE", channel))

    async def _serve(self, wire: Wire) -> None:
        if self._channels:
            wire.send(("SUBSCRIBE", *self._channels))
        if self._was_up:
            self._gaps = asyncio.create_task(self._tell_gap())
        self._was_up = True
        asked = False
        while True:
            try:
                async with asyncio.timeout(SILENCE_LIMIT):
                    reply = await wire.read()
            except TimeoutError:
                if asked:
                    raise
                asked = True
                wire.send(("PING",))
                continue
            asked = False
            self._take(reply)

    def _take(self, reply: Reply) -> None:
        match reply:
            case [b"message", bytes(channel), bytes(payload)]:
                self._on_message(channel.decode(), payload)
            case [b"subscribe", bytes(channel), _] if channel.decode() in self._channels:
                self._channels[channel.decode()].set()
            case RespError():
                raise reply

    async def _tell_gap(self) -> None:
        plan = Attempts()
        while True:
            try:
                await self._on_gap()
            except Unavailable as error:
                await asyncio.sleep(plan.failed(error))
            else:
                return

    def _lost(self) -> None:
        if self._gaps is not None:
            self._gaps.cancel()
        for confirmed in self._channels.values():
            confirmed.clear()

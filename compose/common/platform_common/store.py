"""
Redis for a service, through redis-py.

Commands borrow a connection from a pool; one that breaks is replaced and the command sent again, for half a second.
Publish/subscribe has a connection of its own, kept up for ever by a task. redis-py would reconnect it by itself, but
would not say so, and whoever listens must know that messages may have been missed.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import RedisError

from platform_common.errors import Unavailable, reason_of
from platform_common.pauses import pauses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio.client import PubSub

    from platform_common.settings import Endpoint

# Docker answers a name before its network is up; a SYN lost in that gap is sent again only after a second.
CONNECT_LIMIT: Final = 0.2  # seconds for lookup and connection
USE_LIMIT: Final = 1.2  # seconds for everything wanted at one time, new connections included
POOL_SIZE: Final = 16
STUBBORN: Final = Retry(ConstantBackoff(0.05), 10)  # half a second in all where nobody listens
# Nothing is an error to try again after: an interrupted subscription is to be heard of.
FRANK: Final = Retry(NoBackoff(), 0, supported_errors=())
AWAY: Final = (RedisError, OSError, TimeoutError)


def _client(endpoint: Endpoint, retry: Retry) -> Client:
    pool = BlockingConnectionPool(
        max_connections=POOL_SIZE, timeout=USE_LIMIT, host=endpoint.host, port=endpoint.port,
        username=endpoint.user, password=endpoint.password, retry=retry,
        socket_connect_timeout=CONNECT_LIMIT, socket_timeout=None,
        # Either would cost each new connection more round trips than the login itself.
        protocol=2, driver_info=None, decode_responses=True,
    )  # fmt: skip
    return Client.from_pool(pool)


class Redis:
    """A pool of connections for commands; nothing connects before the first of them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._client = _client(endpoint, STUBBORN)

    async def stop(self) -> None:
        """Drop every connection."""
        await self._client.aclose()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Client]:
        """
        Lend the client.

        Raises:
            Unavailable: If Redis is away, refuses a command, or the block takes longer than 1.2 s.
        """
        try:
            async with asyncio.timeout(USE_LIMIT):
                yield self._client
        except AWAY as error:
            raise Unavailable("redis", reason_of(error)) from error

    async def check(self) -> None:
        """
        Return if our user may read.

        Raises:
            Unavailable: As *use*.
        """
        async with self.use() as client:
            await client.get("ready")


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
        self._client = _client(endpoint, FRANK)
        self._on_message = on_message
        self._on_gap = on_gap
        self._channels: dict[str, asyncio.Event] = {}
        self._link: PubSub | None = None
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
        try:
            async with asyncio.timeout(USE_LIMIT):
                if not known and self._link is not None:
                    await self._link.subscribe(channel)
                await confirmed.wait()
        except AWAY:
            raise Unavailable("redis", self.trouble) from None

    async def remove(self, channel: str) -> None:
        """Unsubscribe from *channel*; nothing happens when it was not subscribed."""
        if self._channels.pop(channel, None) is not None and self._link is not None:
            # A connection that breaks over it is replaced, by one that does not know the channel.
            with suppress(*AWAY):
                async with asyncio.timeout(USE_LIMIT):
                    await self._link.unsubscribe(channel)

    async def _keep_up(self) -> None:
        pause = pauses()
        while True:
            try:
                async with self._client.pubsub() as link:
                    async with asyncio.timeout(USE_LIMIT):
                        await link.connect()
                    pause = pauses()
                    await self._listen(link)
            except (*AWAY, Unavailable) as error:
                self.trouble = reason_of(error)
            await asyncio.sleep(next(pause))

    async def _listen(self, link: PubSub) -> None:
        # Set before the channels are read, so that none can come in between and be missed by both.
        self._link = link
        try:
            await link.subscribe(*self._channels)
            if self._was_up:
                await self._on_gap()
            self._was_up = True
            async for message in link.listen():
                self._take(message)
        finally:
            self._link = None
            for confirmed in self._channels.values():
                confirmed.clear()

    def _take(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        if message["type"] == "message":
            self._on_message(channel, message["data"])
        elif message["type"] == "subscribe" and channel in self._channels:
            self._channels[channel].set()

"""Redis through redis-py: commands with one deadline, and channels that stay subscribed when Redis goes and comes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import RedisError

from platform_common.errors import Unavailable
from platform_common.outages import Outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from platform_common.settings import Endpoint

USE_LIMIT: Final = 1.2  # seconds for everything asked at one time, a new connection included
CONNECT_LIMIT: Final = 0.5  # seconds
CONNECTIONS: Final = 8
RETRY: Final = Retry(ConstantBackoff(0.05), 10)  # half a second in all while Redis restarts
PAUSE: Final = 0.1  # seconds between two attempts to subscribe
AWAY: Final = (RedisError, OSError, TimeoutError)


class Store:
    """Commands; nothing connects before the first of them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._outage = Outage("redis", endpoint)
        self._client = _client(endpoint, RETRY)

    async def stop(self) -> None:
        """Drop every connection."""
        await self._client.aclose()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Redis]:
        """
        Lend redis-py's client; answers are texts.

        Raises:
            Unavailable: If Redis is away, refuses a command, or the block takes longer than 1.2 s.
        """
        try:
            async with asyncio.timeout(USE_LIMIT):
                yield self._client
        except AWAY as error:
            raise self._outage.goes_on(error) from error
        self._outage.over()

    async def check(self) -> None:
        """
        Return if our user may read.

        Raises:
            Unavailable: As *use*.
        """
        async with self.use() as redis:
            await redis.get("ready")


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
        self._outage = Outage("redis", endpoint, " (events)")
        # redis-py must not reconnect by itself: nothing would tell of the gap
        self._client = _client(endpoint, Retry(NoBackoff(), 0))
        self._on_message = on_message
        self._on_gap = on_gap
        self._channels: dict[str, asyncio.Event] = {}
        self._link: Any = None
        self._task: asyncio.Task[None] | None = None

    def start(self, *channels: str) -> None:
        """Begin to connect in the background, and to listen to *channels* for good."""
        self._channels = {channel: asyncio.Event() for channel in channels}
        self._task = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """Drop the connection."""
        if self._task is not None:
            self._task.cancel()
        await self._client.aclose()

    async def check(self) -> None:
        """
        Return if events would arrive.

        Raises:
            Unavailable: If there is no connection.
        """
        if self._link is None:
            raise Unavailable("redis", self._outage.reason or "not connected")

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
        except AWAY as error:
            raise self._outage.goes_on(error) from None

    async def remove(self, channel: str) -> None:
        """Unsubscribe from *channel*; nothing happens when it was not subscribed."""
        if self._channels.pop(channel, None) is not None and self._link is not None:
            try:
                await self._link.unsubscribe(channel)
            except AWAY as error:
                self._outage.goes_on(error)

    async def _keep_up(self) -> None:
        gap = False
        while True:
            try:
                async with self._client.pubsub() as link:
                    await link.subscribe(*self._channels)
                    # set before the channels are read again, so that none can come in between and be missed by both
                    self._link = link
                    self._outage.over()
                    if gap:
                        await self._on_gap()
                    gap = True
                    async for message in link.listen():
                        self._take(message)
            except (*AWAY, Unavailable) as error:
                self._outage.goes_on(error)
            finally:
                self._link = None
                for confirmed in self._channels.values():
                    confirmed.clear()
            await asyncio.sleep(PAUSE)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._on_message(message["channel"], message["data"])
        elif message["type"] == "subscribe" and message["channel"] in self._channels:
            self._channels[message["channel"]].set()


def _client(endpoint: Endpoint, retry: Retry) -> Redis:
    pool = BlockingConnectionPool(
        host=endpoint.host, port=endpoint.port, username=endpoint.user, password=endpoint.password,
        decode_responses=True, max_connections=CONNECTIONS, socket_connect_timeout=CONNECT_LIMIT, retry=retry,
    )  # fmt: skip
    return Redis(connection_pool=pool)

"""
Cached pages of messages.

Each thread has a version in Redis that is part of every page's key; a change replaces it, so
a reader that was slow stores its page where nobody looks any more. The version changes before the database commits,
which refuses the change when Redis is away, and once more after it, for readers in between.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from backend_service.hub import channel_of

if TYPE_CHECKING:
    import uuid
    from collections.abc import Awaitable, Callable

    from platform_common.store import Store

PAGE_TTL: Final = 30  # seconds
VERSION_TTL: Final = 3600  # seconds; far beyond any page that could carry the version


class Pages:
    """The cache of all threads' pages."""

    def __init__(self, redis: Store) -> None:
        self._redis = redis

    async def read(
        self, thread: uuid.UUID, page: str, load: Callable[[], Awaitable[bytes]]
    ) -> tuple[str | bytes, bool]:
        """
        Return one page and whether it came from the cache.

        Args:
            thread: Whose page.
            page: Which one; any text that names it.
            load: Makes the page when the cache has none.

        Raises:
            Unavailable: If a store is away.
        """
        async with self._redis.use() as redis:
            version = await redis.get(_version_key(thread))
            key = f"page:{thread}:{version!s}:{page}"
            cached = await redis.get(key)
        if cached is not None:
            return cached, True
        fresh = await load()
        async with self._redis.use() as redis:
            await redis.set(key, fresh, ex=PAGE_TTL)
        return fresh, False

    async def forget(self, thread: uuid.UUID, event: bytes | None = None) -> None:
        """
        Make every cached page of *thread* unreachable, and tell its subscribers of *event*.

        Raises:
            Unavailable: If Redis is away.
        """
        async with self._redis.use() as redis, redis.pipeline(transaction=False) as commands:
            commands.set(_version_key(thread), secrets.token_hex(8), ex=VERSION_TTL)
            if event is not None:
                commands.publish(channel_of(thread), event)
            await commands.execute()


def _version_key(thread: uuid.UUID) -> str:
    return f"version:{thread}"

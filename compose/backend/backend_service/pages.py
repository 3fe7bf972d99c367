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

    from platform_common.store import Redis

PAGE_TTL: Final = 30  # seconds
VERSION_TTL: Final = 3600  # seconds; far beyond any page that could carry the version


class Pages:
    """The cache of all threads' pages."""

    def __init__(self, redis: Redis) -> None:
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
        (version,) = await self._redis.ask(("GET", _version_key(thread)))
        key = f"page:{thread}:{version}:{page}"
        (cached,) = await self._redis.ask(("GET", key))
        if cached is not None:
            return cached, True
        fresh = await load()
        await self._redis.ask(("SET", key, fresh, "EX", PAGE_TTL))
        return fresh, False

    async def forget(self, thread: uuid.UUID, event: bytes | None = None) -> None:
        """
        Make every cached page of *thread* unreachable, and tell its subscribers of *event*.

        Raises:
            Unavailable: If Redis is away.
        """
        replaced = ("SET", _version_key(thread), secrets.token_hex(8), "EX", VERSION_TTL)
        told = [] if event is None else [("PUBLISH", channel_of(thread), event)]
        await self._redis.ask(replaced, *told)


def _version_key(thread: uuid.UUID) -> str:
    return f"version:{thread}"

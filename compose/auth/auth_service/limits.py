"""How often one name may be tried from one address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_common.errors import Refused

if TYPE_CHECKING:
    from platform_common.settings import Settings
    from platform_common.store import Store


class Attempts:
    """Counts attempts in Redis, in fixed windows, for all instances together."""

    def __init__(self, redis: Store, settings: Settings) -> None:
        self._redis = redis
        self._limit = settings.rate_limit
        self._window = settings.rate_window

    async def count(self, action: str, name: str, address: str) -> None:
        """
        Count one attempt of *action* for *name* from *address*.

        Raises:
            Refused: 429 if the window's attempts are used up; `Retry-After` says how many seconds are left.
            Unavailable: If Redis is away.
        """
        key = f"rate:{action}:{name}:{address}"
        async with self._redis.use() as redis, redis.pipeline(transaction=False) as commands:
            commands.incr(key)
            commands.expire(key, self._window, nx=True)
            commands.ttl(key)
            used, _, left = await commands.execute()
        if used > self._limit:
            seconds = left if left > 0 else self._window
            raise Refused(429, "too_many_attempts", "too many attempts, wait a while", {"Retry-After": str(seconds)})

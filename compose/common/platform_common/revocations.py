"""
Tokens that no longer count.

PostgreSQL remembers them; Redis answers, in one round trip, and carries the news to open
WebSockets. A Redis that came back empty lacks the marker key, so it is filled again before its answer is believed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from platform_common.errors import unauthorized
from platform_common.settings import ACCESS_TTL_MAX

if TYPE_CHECKING:
    import uuid

    from platform_common.database import Database
    from platform_common.store import Store
    from platform_common.tokens import Claims

CHANNEL: Final = "revoked"
MARKER: Final = "revoked:loaded"
REMEMBER: Final = """
    INSERT INTO revocations (id, expires_at) SELECT unnest($1::uuid[]), now() + make_interval(secs => $2)
    ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
"""
LOAD: Final = """
    SELECT id, ceil(extract(epoch FROM expires_at - now()))::int AS seconds FROM revocations WHERE expires_at > now()
"""


class Revocations:
    """Which access tokens and sessions were ended before their time."""

    def __init__(self, database: Database, redis: Store) -> None:
        self._database = database
        self._redis = redis

    async def check(self, claims: Claims) -> None:
        """
        Return if the token still counts.

        Raises:
            Refused: 401 if it or its session was revoked.
            Unavailable: If a store is away; a guess lets no one in.
        """
        if claims.expires <= time.time():
            raise unauthorized()
        keys = (_key(claims.token), _key(claims.session))
        loaded, *revoked = await self._look_up(MARKER, *keys)
        if loaded is None:
            await self._load()
            revoked = await self._look_up(*keys)
        if any(value is not None for value in revoked):
            raise unauthorized()

    async def revoke(self, *ids: uuid.UUID) -> None:
        """
        End tokens or sessions; may be called twice.

        Raises:
            Unavailable: If a store is away.
        """
        # No access token outlives this, so a session need not be remembered longer either.
        async with self._database.connection() as link:
            await link.execute("DELETE FROM revocations WHERE expires_at < now()")
            await link.execute(REMEMBER, list(ids), float(ACCESS_TTL_MAX))
        async with self._redis.use() as redis, redis.pipeline(transaction=False) as commands:
            for identity in ids:
                commands.set(_key(identity), "1", ex=ACCESS_TTL_MAX)
                commands.publish(CHANNEL, str(identity))
            await commands.execute()

    async def _look_up(self, *keys: str) -> list[str | bytes | None]:
        async with self._redis.use() as redis:
            return list(await redis.mget(keys))

    async def _load(self) -> None:
        rows = await self._database.rows(LOAD)
        async with self._redis.use() as redis, redis.pipeline(transaction=False) as commands:
            for row in rows:
                commands.set(_key(row["id"]), "1", ex=row["seconds"])
            commands.set(MARKER, "1")
            await commands.execute()


def _key(id_: uuid.UUID) -> str:
    return f"revoked:{id_}"

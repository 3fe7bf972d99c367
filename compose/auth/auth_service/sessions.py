"""
Sessions of rotating refresh tokens.

A refresh token works once; showing a used one means that two parties hold it, so
the whole session ends: every refresh token of it and every access token issued in it.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from platform_common.errors import Refused

if TYPE_CHECKING:
    from platform_common.database import Database
    from platform_common.revocations import Revocations
    from platform_common.settings import Settings
    from platform_common.tokens import Claims, Tokens

ISSUE: Final = """
    INSERT INTO refresh_tokens (hash, session, user_id, expires_at)
    VALUES ($1, $2, $3, now() + make_interval(secs => $4))
"""
FIND: Final = """
    SELECT session, user_id, used_at IS NULL AND revoked_at IS NULL AS fresh, expires_at > now() AS current
    FROM refresh_tokens WHERE hash = $1 FOR UPDATE
"""
END: Final = "UPDATE refresh_tokens SET revoked_at = now() WHERE session = $1 AND revoked_at IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    What a login or a refresh gives.

    Attributes:
        access: Access token.
        refresh: Refresh token, good for one use.
        seconds: Life of the access token.
    """

    access: str
    refresh: str
    seconds: int


class Sessions:
    """Begins, continues and ends sessions."""

    def __init__(self, database: Database, revocations: Revocations, tokens: Tokens, settings: Settings) -> None:
        self._database = database
        self._revocations = revocations
        self._tokens = tokens
        self._settings = settings

    async def begin(self, user: uuid.UUID) -> Grant:
        """
        Return the first tokens of a new session.

        Raises:
            Unavailable: If the database is away.
        """
        async with self._database.connection() as link:
            return await self._grant(link, user, uuid.uuid4())

    async def renew(self, refresh: str) -> Grant:
        """
        Use up *refresh* and return new tokens.

        Raises:
            Refused: 401 if it is unknown, expired, revoked or used; the last ends the session.
            Unavailable: If a store is away.
        """
        async with self._database.transaction() as link:
            # The row lock makes two uses at once a first and a second one.
            found = await link.fetchrow(FIND, _digest(refresh))
            if found is not None and found["fresh"] and found["current"]:
                await link.execute("UPDATE refresh_tokens SET used_at = now() WHERE hash = $1", _digest(refresh))
                return await self._grant(link, found["user_id"], found["session"])
        if found is not None and not found["fresh"]:
            await self._end(found["session"])
        raise Refused(401, "invalid_refresh_token", "the refresh token is not valid, log in again")

    async def end(self, claims: Claims) -> None:
        """
        End the session *claims* belong to.

        Raises:
            Unavailable: If a store is away; what was done so far holds, and ending again completes it.
        """
        await self._end(claims.session, claims.token)

    async def _end(self, session: uuid.UUID, *tokens: uuid.UUID) -> None:
        await self._database.row(END, session)
        await self._revocations.revoke(session, *tokens)

    async def _grant(self, link: Any, user: uuid.UUID, session: uuid.UUID) -> Grant:
        refresh = secrets.token_urlsafe(32)
        await link.execute(ISSUE, _digest(refresh), session, user, float(self._settings.refresh_ttl))
        access = self._tokens.issue(user, session)
        return Grant(access=access, refresh=refresh, seconds=self._settings.access_ttl)


def _digest(refresh: str) -> bytes:
    """Return what is stored in the token's place: 256 random bits need no slow hash."""
    return hashlib.sha256(refresh.encode()).digest()

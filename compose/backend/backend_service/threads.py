"""
Threads and who may do what with them.

A private thread exists for its owner alone (404 for all others), a shared one
may be read and written to by every user, renamed and deleted by its owner (403 for all others).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from asyncpg import ForeignKeyViolationError  # type: ignore[import-untyped] # it ships no types
from platform_common.errors import Refused, unauthorized

if TYPE_CHECKING:
    import uuid

    from platform_common.database import Database

COLUMNS: Final = "id, number, owner_id AS owner, title, shared, created_at"
TITLE_LONGEST: Final = 200  # characters


class Threads:
    """All threads of the platform."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner: uuid.UUID, title: str, *, shared: bool) -> dict[str, Any]:
        """
        Return a new thread.

        Raises:
            Refused: 401 if the owner no longer exists.
            Unavailable: If the database is away.
        """
        query = f"INSERT INTO threads (owner_id, title, shared) VALUES ($1, $2, $3) RETURNING {COLUMNS}"  # noqa: S608 - a constant
        try:
            (row,) = await self._database.rows(query, owner, title, shared)
        except ForeignKeyViolationError:
            raise unauthorized() from None
        return row

    async def page(self, owner: uuid.UUID, after: int, limit: int) -> list[dict[str, Any]]:
        """
        Return up to *limit* of the owner's threads, oldest first, numbered above *after*.

        Raises:
            Unavailable: If the database is away.
        """
        query = f"SELECT {COLUMNS} FROM threads WHERE owner_id = $1 AND number > $2 ORDER BY number LIMIT $3"  # noqa: S608 - a constant
        return await self._database.rows(query, owner, after, limit)

    async def readable(self, thread: uuid.UUID, user: uuid.UUID) -> dict[str, Any]:
        """
        Return the thread.

        Raises:
            Refused: 404 if it does not exist for *user*.
            Unavailable: If the database is away.
        """
        query = f"SELECT {COLUMNS} FROM threads WHERE id = $1 AND (shared OR owner_id = $2)"  # noqa: S608 - a constant
        row = await self._database.row(query, thread, user)
        if row is None:
            raise Refused(404, "not_found", "there is no such thread")
        return row

    async def owned(self, thread: uuid.UUID, user: uuid.UUID) -> dict[str, Any]:
        """
        Return the thread if it is *user*'s own.

        Raises:
            Refused: 404 if it does not exist for *user*, 403 if it is another's.
            Unavailable: If the database is away.
        """
        found = await self.readable(thread, user)
        if found["owner"] != user:
            raise Refused(403, "forbidden", "only its owner may do this to a thread")
        return found

    async def rename(self, thread: uuid.UUID, user: uuid.UUID, title: str) -> dict[str, Any]:
        """
        Return the renamed thread.

        Raises:
            Refused: As *owned*.
            Unavailable: If the database is away.
        """
        found = await self.owned(thread, user)
        await self._database.row("UPDATE threads SET title = $2 WHERE id = $1", thread, title)
        return found | {"title": title}

    async def delete(self, thread: uuid.UUID, user: uuid.UUID) -> None:
        """
        Delete the thread and its messages.

        Raises:
            Refused: As *owned*.
            Unavailable: If the database is away.
        """
        await self.owned(thread, user)
        await self._database.row("DELETE FROM threads WHERE id = $1", thread)

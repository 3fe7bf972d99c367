"""Messages of a thread: written by its readers, changed by their author, deleted by author or thread owner."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from asyncpg import ForeignKeyViolationError  # type: ignore[import-untyped] # it ships no types
from platform_common.errors import Refused, Unavailable, unauthorized
from platform_common.web import encode

if TYPE_CHECKING:
    import uuid

    from platform_common.database import Database

    from backend_service.pages import Pages
    from backend_service.threads import Threads

log = logging.getLogger("platform")

COLUMNS: Final = "id, thread_id AS thread, author_id AS author, body, created_at"
BODY_LONGEST: Final = 4000  # characters


class Messages:
    """All messages of the platform."""

    def __init__(self, database: Database, threads: Threads, pages: Pages) -> None:
        self._database = database
        self._threads = threads
        self._pages = pages

    async def create(self, thread: uuid.UUID, author: uuid.UUID, body: str) -> dict[str, Any]:
        """
        Store a message, then tell every subscriber of the thread.

        Raises:
            Refused: 404 if the thread does not exist for *author*, 401 if *author* no longer exists.
            Unavailable: If a store is away; nothing was stored then.
        """
        await self._threads.readable(thread, author)
        query = f"INSERT INTO messages (thread_id, author_id, body) VALUES ($1, $2, $3) RETURNING {COLUMNS}"  # noqa: S608 - a constant
        try:
            return await self._change(thread, "message", query, thread, author, body)
        except ForeignKeyViolationError:
            raise unauthorized() from None

    async def page(self, thread: uuid.UUID, user: uuid.UUID, after: int, limit: int) -> tuple[str | bytes, bool]:
        """
        Return up to *limit* messages with ids above *after* as JSON, and whether they came from the cache.

        Raises:
            Refused: 404 if the thread does not exist for *user*.
            Unavailable: If a store is away.
        """

        async def load() -> bytes:
            query = f"SELECT {COLUMNS} FROM messages WHERE thread_id = $1 AND id > $2 ORDER BY id LIMIT $3"  # noqa: S608 - a constant
            rows = await self._database.rows(query, thread, after, limit)
            return encode({"messages": rows, "next": rows[-1]["id"] if len(rows) == limit else None})

        await self._threads.readable(thread, user)
        return await self._pages.read(thread, f"{after}:{limit}", load)

    async def get(self, thread: uuid.UUID, message: int, user: uuid.UUID) -> dict[str, Any]:
        """
        Return one message.

        Raises:
            Refused: 404 if thread or message does not exist for *user*.
            Unavailable: If the database is away.
        """
        await self._threads.readable(thread, user)
        query = f"SELECT {COLUMNS} FROM messages WHERE thread_id = $1 AND id = $2"  # noqa: S608 - a constant
        row = await self._database.row(query, thread, message)
        if row is None:
            raise Refused(404, "not_found", "there is no such message")
        return row

    async def edit(self, thread: uuid.UUID, message: int, user: uuid.UUID, body: str) -> dict[str, Any]:
        """
        Replace a message's text.

        Raises:
            Refused: As *get*, and 403 if *user* is not its author.
            Unavailable: If a store is away; nothing was changed then.
        """
        found = await self.get(thread, message, user)
        if found["author"] != user:
            raise Refused(403, "forbidden", "only its author may change a message")
        query = f"UPDATE messages SET body = $2 WHERE id = $1 RETURNING {COLUMNS}"  # noqa: S608 - a constant
        return await self._change(thread, "edited", query, message, body)

    async def delete(self, thread: uuid.UUID, message: int, user: uuid.UUID) -> None:
        """
        Delete a message.

        Raises:
            Refused: As *get*, and 403 if *user* is neither its author nor the thread's owner.
            Unavailable: If a store is away; nothing was changed then.
        """
        found = await self.get(thread, message, user)
        if found["author"] != user:
            await self._threads.owned(thread, user)
        await self._change(thread, "deleted", f"DELETE FROM messages WHERE id = $1 RETURNING {COLUMNS}", message)  # noqa: S608 - a constant

    async def _change(self, thread: uuid.UUID, event: str, query: str, *values: object) -> dict[str, Any]:
        async with self._database.transaction() as link:
            row = await link.fetchrow(query, *values)
            if row is None:
                raise Refused(404, "not_found", "there is no such message")
            await self._pages.forget(thread)
        payload = encode({"type": event, "thread": thread, "message": dict(row)})
        try:
            await self._pages.forget(thread, payload)
        except Unavailable as error:
            # The change is stored; who waits for the event gets `resync` when Redis is back.
            log.warning("event not sent: %s", error)
        return dict(row)


def ended(thread: uuid.UUID) -> bytes:
    """Return the event of a deleted thread."""
    return encode({"type": "ended", "thread": thread})

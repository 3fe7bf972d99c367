"""
PostgreSQL behind one pool.

Opening retries for ever in the background, so that a service starts before its database;
afterwards each use replaces what is broken. Every use has one deadline, and whatever the database's absence
looks like (refused, unresolved, shutting down, password not set yet, tables not there yet) becomes one error.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from platform_common.errors import DatabaseAway, Unavailable, reason_of
from platform_common.pauses import pauses
from platform_common.postgres import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from platform_common.postgres import Link, Row
    from platform_common.settings import Endpoint

CONNECT_LIMIT: Final = 1.5  # seconds of the most patient attempt, login included
FIRST_LIMIT: Final = 0.25  # seconds of the first attempt
REOPEN_LIMIT: Final = 0.5  # seconds; a request waits for this connection, and there is no next attempt
GROWTH: Final = 1.5  # of the next attempt's limit where nobody answered
USE_LIMIT: Final = 1.8  # seconds for everything done with one connection
POOL_SIZE: Final = 6  # of the server's 100, shared by two services and the tests
AWAY: Final = (OSError, TimeoutError, DatabaseAway)


class Database:
    """A pool of connections as the application's role."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self._endpoint = endpoint
        self._name = name
        self._trouble = "not connected yet"
        self._opened = False
        self._opening: asyncio.Task[None] | None = None
        self._links: set[Link] = set()
        self._free: list[Link] = []
        self._places = asyncio.Semaphore(POOL_SIZE)

    def start(self) -> None:
        """Begin to connect in the background."""
        self._opening = asyncio.create_task(self._open())

    async def stop(self) -> None:
        """Drop every connection without waiting for its query."""
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        for link in self._links:
            link.drop()

    async def _open(self) -> None:
        patience = FIRST_LIMIT
        for pause in pauses():
            try:
                self._free.append(await self._dial(patience))
            except AWAY as error:
                self._trouble = reason_of(error)
                # Docker answers a name before its network is up. A SYN lost in that gap is sent again after a second,
                # far longer than the server takes; a new attempt is sooner there, but not where the host is slow.
                if isinstance(error, TimeoutError):
                    patience = min(patience * GROWTH, CONNECT_LIMIT)
                await asyncio.sleep(pause)
            else:
                self._opened = True
                return

    async def _dial(self, limit: float) -> Link:
        link = await connect(self._endpoint, self._name, limit)
        self._links.add(link)
        link.lost.add_done_callback(lambda _why: self._lost(link))
        return link

    def _lost(self, link: Link) -> None:
        """
        Replace every connection as old as one that ended, before it is lent again.

        The server ends them one after the other, and a request must not be the first to notice.
        """
        if link in self._links:
            self._links, free, self._free = set(), self._free, []
            for other in free:
                other.drop()

    async def _take(self) -> Link:
        return self._free.pop() if self._free else await self._dial(REOPEN_LIMIT)

    def _give_back(self, link: Link) -> None:
        if link.idle and link in self._links:
            self._free.append(link)
        else:
            self._links.discard(link)
            link.drop()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Link]:
        """
        Lend one connection.

        Raises:
            Unavailable: If the database is away or the block takes longer than 1.8 s.
        """
        if not self._opened:
            raise Unavailable("database", self._trouble)
        try:
            async with asyncio.timeout(USE_LIMIT), self._places:
                link = await self._take()
                try:
                    yield link
                finally:
                    self._give_back(link)
        except AWAY as error:
            raise Unavailable("database", reason_of(error)) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Link]:
        """
        Lend one connection inside a transaction, committed when the block ends well.

        Raises:
            Unavailable: As *connection*.
        """
        async with self.connection() as link:
            await link.ask("BEGIN")
            try:
                yield link
            except Exception:
                if link.listens:  # of one that is lost or hangs, the end is the transaction's too
                    await link.ask("ROLLBACK")
                raise
            await link.ask("COMMIT")

    async def row(self, query: str, *values: object) -> Row | None:
        """
        Return the first row, or None.

        Raises:
            Unavailable: As *connection*.
            DatabaseFault: If the server refused the statement.
        """
        async with self.connection() as link:
            return await link.row(query, *values)

    async def rows(self, query: str, *values: object) -> list[Row]:
        """
        Return all rows.

        Raises:
            Unavailable: As *connection*.
            DatabaseFault: If the server refused the statement.
        """
        async with self.connection() as link:
            return await link.ask(query, *values)

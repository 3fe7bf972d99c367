"""
PostgreSQL through a pool of asyncpg's.

A service starts before its database: the first connection is tried again and again in the background. Every use has
one deadline, and whatever the database's absence looks like (refused, shutting down, tables not there yet) becomes one
error.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg  # type: ignore[import-untyped] # it ships no types

from platform_common.errors import Unavailable
from platform_common.outages import Outage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from platform_common.settings import Settings

    Row = dict[str, Any]

USE_LIMIT: Final = 2.4  # seconds for everything done with one connection, a new one included
CONNECT_LIMIT: Final = 1.5  # seconds
POOL_SIZE: Final = 6  # of the server's 100, shared by two services and the tests
PAUSE: Final = 0.1  # seconds between two attempts at the start
# What a use meets of a connection whose session the server has ended.
STALE: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError)
# What passes: the server is not up, stops, is full, or comes back empty and lacks database or tables for a moment.
AWAY: Final = (
    OSError,
    TimeoutError,
    *STALE,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.UndefinedTableError,
)


class Database:
    """A pool of connections as the application's role; *name* is what the server's list of sessions calls us."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._outage = Outage("postgres", settings.postgres)
        self._opening: asyncio.Task[None] | None = None
        self._pool: Any = None

    async def start(self) -> None:
        """Begin to connect in the background."""
        endpoint = self._settings.postgres
        self._pool = await asyncpg.create_pool(
            host=endpoint.host, port=endpoint.port, user=endpoint.user, password=endpoint.password,
            database=self._settings.database, ssl=False, timeout=CONNECT_LIMIT, min_size=0, max_size=POOL_SIZE,
            server_settings={"application_name": self._name}, setup=_ping,
        )  # fmt: skip
        self._opening = asyncio.create_task(self._open())

    async def stop(self) -> None:
        """Drop every connection without waiting for its query."""
        if self._opening is not None:
            self._opening.cancel()
        self._pool.terminate()

    async def _open(self) -> None:
        while True:
            with suppress(Unavailable):
                await self.row("SELECT 1")
                return
            await asyncio.sleep(PAUSE)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """
        Lend one connection of asyncpg's.

        Raises:
            Unavailable: If the database is away or the block takes longer than 2.4 s.
        """
        try:
            async with asyncio.timeout(USE_LIMIT):
                link = await self._take()
                try:
                    yield link
                except asyncio.CancelledError:
                    # what hangs would hang on while asyncpg asks the server to cancel it
                    link.terminate()
                    raise
                finally:
                    await self._pool.release(link)
        except AWAY as error:
            raise self._outage.goes_on(error) from error
        self._outage.over()

    async def _take(self) -> Any:
        """Return a connection that answers: the server may have ended the sessions of any that was idle."""
        for _ in range(POOL_SIZE):
            with suppress(*STALE):
                return await self._pool.acquire()
        return await self._pool.acquire()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """
        Lend one connection inside a transaction, committed when the block ends well.

        Raises:
            Unavailable: As *connection*.
        """
        async with self.connection() as link, link.transaction():
            try:
                yield link
            except asyncio.CancelledError:
                link.terminate()
                raise

    async def row(self, query: str, *values: object) -> Row | None:
        """
        Return the first row, or None.

        Raises:
            Unavailable: As *connection*.
            PostgresError: If the server refused the statement.
        """
        async with self.connection() as link:
            found = await link.fetchrow(query, *values)
            return None if found is None else dict(found)

    async def rows(self, query: str, *values: object) -> list[Row]:
        """
        Return all rows.

        Raises:
            Unavailable: As *connection*.
            PostgresError: If the server refused the statement.
        """
        async with self.connection() as link:
            return [dict(row) for row in await link.fetch(query, *values)]


async def _ping(link: Any) -> None:
    await link.execute("SELECT 1")

"""
PostgreSQL behind one pool.

Opening retries for ever in the background, so that a service starts before its database;
afterwards the pool replaces broken connections itself. Every use has one deadline, and whatever the database's absence
looks like (refused, unresolved, shutting down, password not set yet, tables not there yet) becomes one error.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg  # type: ignore[import-untyped] # it ships no types

from platform_common.errors import Unavailable, reason_of
from platform_common.pauses import pauses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from platform_common.settings import Endpoint

CONNECT_LIMIT: Final = 1.5  # seconds of the most patient attempt, login included
FIRST_LIMIT: Final = 0.25  # seconds of the first attempt
REOPEN_LIMIT: Final = 0.5  # seconds; a request waits for this connection, and there is no next attempt
GROWTH: Final = 1.5  # of the next attempt's limit where nobody answered
USE_LIMIT: Final = 1.8  # seconds for everything done with one connection
POOL_SIZE: Final = 6  # of the server's 100, shared by two services and the tests

# A server that restarts says all of these before it is itself again; one that comes back empty also lacks role
# or tables for a moment.
AWAY: Final = (
    OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError, asyncpg.InsufficientResourcesError, asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError, asyncpg.UndefinedTableError,
    # a database that accepts no connections, for the moment in which it is replaced
    asyncpg.ObjectNotInPrerequisiteStateError,
)  # fmt: skip


class Database:
    """A pool of connections as the application's role."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self._endpoint = endpoint
        self._name = name
        self._pool: Any = None
        self._trouble = "not connected yet"
        self._patience = FIRST_LIMIT
        self._opening: asyncio.Task[None] | None = None
        self._age = 0
        self._expiry: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect in the background."""
        self._opening = asyncio.create_task(self._open())

    async def stop(self) -> None:
        """Drop every connection without waiting for its query."""
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        if self._pool is not None:
            self._pool.terminate()

    async def _open(self) -> None:
        for pause in pauses():
            try:
                self._pool = await self._connect()
            except AWAY as error:
                self._trouble = reason_of(error)
                # Docker answers a name before its network is up. A SYN lost in that gap is sent again after a second,
                # far longer than the server takes; a new attempt is sooner there, but not where the host is slow.
                if isinstance(error, TimeoutError):
                    self._patience = min(self._patience * GROWTH, CONNECT_LIMIT)
                await asyncio.sleep(pause)
            else:
                self._patience = REOPEN_LIMIT
                return

    async def _connect(self) -> Any:
        where = self._endpoint
        return await asyncpg.create_pool(
            host=where.host, port=where.port, user=where.user, password=where.password, database=where.database,
            min_size=1, max_size=POOL_SIZE, ssl=False, reset=_keep, connect=self._dial,
            # A server that comes back empty no longer knows the statements a client had prepared.
            statement_cache_size=0,
            server_settings={"application_name": self._name},
        )  # fmt: skip

    async def _dial(self, *args: Any, **options: Any) -> Any:
        age = self._age
        link = await asyncpg.connect(*args, **options | {"timeout": self._patience})
        link.add_termination_listener(lambda _link: self._lost(age))
        return link

    def _lost(self, age: int) -> None:
        """
        Replace every connection as old as one that ended, before it is lent again.

        The server ends them one after the other, and a request must not be the first to notice.
        """
        if age == self._age and self._pool is not None:
            self._age += 1
            self._expiry = asyncio.create_task(self._pool.expire_connections())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """
        Lend one connection.

        Raises:
            Unavailable: If the database is away or the block takes longer than 1.8 s.
        """
        if self._pool is None:
            raise Unavailable("database", self._trouble)
        try:
            async with asyncio.timeout(USE_LIMIT):
                link = await self._pool.acquire()
                try:
                    yield link
                except (asyncio.CancelledError, *AWAY):
                    # Releasing would first wait for the server to confirm that the query was cancelled.
                    link.terminate()
                    raise
                finally:
                    await self._pool.release(link)
        except AWAY as error:
            raise Unavailable("database", reason_of(error)) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """
        Lend one connection inside a transaction, committed when the block ends well.

        Raises:
            Unavailable: As *connection*.
        """
        async with self.connection() as link, link.transaction():
            yield link

    async def row(self, query: str, *values: object) -> Any:
        """
        Return the first row, or None.

        Raises:
            Unavailable: As *connection*.
        """
        async with self.connection() as link:
            return await link.fetchrow(query, *values)

    async def rows(self, query: str, *values: object) -> list[Any]:
        """
        Return all rows.

        Raises:
            Unavailable: As *connection*.
        """
        async with self.connection() as link:
            return list(await link.fetch(query, *values))


async def _keep(_link: object) -> None:
    """Skip the pool's reset query: no session here sets, listens or locks, and it would cost a round trip each time."""

"""
Databases in a stack's PostgreSQL, made and dropped with the application's own role.

A new database is a copy of the template's files (`STRATEGY file_copy`). This takes a third of the time of a copy
through the log (measured, docs/performance.md). A drop first forbids new connections and then ends the sessions,
because the server's own `WITH (FORCE)` checks only every 100 ms whether they have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from stackyard._util.advice import Action, how
from stackyard.errors import NotReadyError, StackyardError, UsageError
from stackyard.probes.endpoints import Endpoint, describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from types import TracebackType

TEMPLATE: Final = "app_template"  # made by compose/postgres/seed: the application's database before its first use
MAINTENANCE: Final = "postgres"  # the database to connect to while others are made and dropped
TAKEN: Final = frozenset({"app", "app_next", "app_old", TEMPLATE, MAINTENANCE, "template0", "template1"})
NAME: Final = re.compile(
    r"[a-z_][a-z0-9_]{0,62}"
)  # needs no quotes in SQL, URLs or shells; 63 bytes is PostgreSQL's limit
CONNECT_TIMEOUT_S: Final = 60.0  # seconds to wait for a connection: fifty at once take longer on a busy host
SESSION_TIMEOUT_S: Final = 10.0  # seconds to wait for sessions to end
PAUSE: Final = 0.001  # seconds between two checks; a session needs one or two to end
CROWDED_PAUSE: Final = 0.02  # seconds
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """
    A database for one test, dropped when its `with` or `async with` block ends.

    Attributes:
        name: Its name.
        url: postgresql://app:PASSWORD@HOST:PORT/NAME
    """

    name: str
    url: str = field(repr=False)

    def drop(self) -> None:
        """
        Drop it with its content and end its sessions; do nothing if it is gone already.

        Raises:
            NotReadyError: If PostgreSQL does not answer.
            StackyardError: If a session does not end.
        """
        run(self.adrop())

    async def adrop(self) -> None:
        """Drop it as *drop* does, inside an event loop."""
        async with maintenance(self.url) as link:
            await drop(link, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        await self.adrop()


def clone(url: str, name: str | None = None) -> Database:
    """
    Make a database like the application's before its first use: all tables, no rows.

    Args:
        url: PostgreSQL of a stack, as STACKYARD_POSTGRES_URL.
        name: Small letters, digits and underscores, at most 63; None makes an unused one.

    Raises:
        UsageError: If the name cannot be used or is taken, or an event loop already runs in this thread.
        NotReadyError: If PostgreSQL does not answer, or has no free connection for 10 s.
        StackyardError: If PostgreSQL refuses.
    """
    return run(aclone(url, name))


async def aclone(url: str, name: str | None = None) -> Database:
    """Make a database as *clone* does, inside an event loop; `async with await ...` drops it again."""
    chosen = f"test_{os.urandom(6).hex()}" if name is None else _checked(name)
    async with maintenance(url) as link:
        await create(link, chosen)
    return Database(name=chosen, url=urlsplit(url)._replace(path=f"/{chosen}").geturl())


@contextlib.asynccontextmanager
async def maintenance(url: str) -> AsyncIterator[Any]:
    """
    Log in to the maintenance database as the role of *url*; if all connections are in use, wait for one.

    Raises:
        NotReadyError: If PostgreSQL does not answer or has no free connection for 10 s; the text has no password.
        StackyardError: If it refuses a request of the block.
    """
    import asyncpg  # type: ignore[import-untyped]

    endpoint = Endpoint.parse(url, "postgresql")
    link = await _connected(endpoint)
    try:
        yield link
        await link.close(timeout=SESSION_TIMEOUT_S)
    except (OSError, asyncpg.InterfaceError) as error:
        raise NotReadyError(endpoint.hide(f"the connection to PostgreSQL broke: {describe(error)}")) from None
    except asyncpg.PostgresError as error:
        raise StackyardError(f"PostgreSQL refused: {describe(error)}") from None
    finally:
        link.terminate()


async def _connected(endpoint: Endpoint) -> Any:
    import asyncpg

    end = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            return await asyncpg.connect(
                host=endpoint.host, port=endpoint.port, user=endpoint.user, password=endpoint.password,
                database=MAINTENANCE, ssl=False, target_session_attrs="any", statement_cache_size=0,
                timeout=CONNECT_TIMEOUT_S,
            )  # fmt: skip
        except asyncpg.TooManyConnectionsError as error:
            if time.monotonic() >= end:
                raise _silent(endpoint, error) from None
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            raise _silent(endpoint, error) from None
        await asyncio.sleep(CROWDED_PAUSE)


def _silent(endpoint: Endpoint, error: Exception) -> NotReadyError:
    return NotReadyError(
        f"PostgreSQL on port {endpoint.port} gives no connection ({endpoint.hide(describe(error))}); "
        f"{how(Action.STATUS)}"
    )


async def create(link: Any, name: str) -> None:
    """
    Copy the template to a database called *name*; the caller has checked the name.

    Raises:
        UsageError: If this database exists.
    """
    import asyncpg

    try:
        await link.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}" STRATEGY file_copy')
    except asyncpg.DuplicateDatabaseError:
        raise UsageError(f"a database {name!r} exists already; choose another name, or none") from None


async def drop(link: Any, *names: str) -> None:
    """
    Drop the databases *names* that exist, and end their sessions.

    Raises:
        StackyardError: If a session does not end.
    """
    for row in await link.fetch("SELECT datname FROM pg_database WHERE datname = any($1::text[])", names):
        with _gone_is_fine():
            await seclude(link, row["datname"])
            await link.execute(f'DROP DATABASE IF EXISTS "{row["datname"]}"')


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    import asyncpg

    with contextlib.suppress(asyncpg.InvalidCatalogNameError):
        yield


async def seclude(link: Any, name: str) -> None:
    """
    Forbid new connections to the database *name*, end its sessions and wait until they have ended.

    Raises:
        StackyardError: If a session belongs to another role, or does not end within 10 s.
    """
    await link.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    end = time.monotonic() + SESSION_TIMEOUT_S
    ask = """SELECT usename, CASE WHEN usename = current_user THEN pg_terminate_backend(pid) END
             FROM pg_stat_activity WHERE datname = $1"""
    while sessions := await link.fetch(ask, name):
        strangers = {row["usename"] for row in sessions if row["usename"] != "app"}
        if strangers or time.monotonic() >= end:
            await link.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            whose = ", ".join(sorted(map(str, strangers))) or "app"
            raise StackyardError(
                f"database {name!r} has a session of role {whose} that stackyard cannot end; end it and try again"
            )
        await asyncio.sleep(PAUSE)


def run(work: Coroutine[Any, Any, T]) -> T:
    """
    Run *work* in an event loop of its own.

    Raises:
        UsageError: If an event loop already runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise UsageError("an event loop already runs in this thread; await the async function instead, such as adatabase")


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        shown = name if len(name) <= 63 else f"{name[:60]}..."  # noqa: PLR2004 - as NAME
        raise UsageError(f"a database's name has 1 to 63 of a-z, 0-9 and _, no digit first, got {shown!r}")
    if name in TAKEN:
        raise UsageError(f"database {name!r} belongs to the platform; choose another name, or none")
    return name

"""
Databases of one stack's PostgreSQL, made and dropped by the application's own role.

A new one is a copy of the template's files (`STRATEGY file_copy`), which takes a third of the time that writing every
page through the log takes (measured, docs/performance.md). Dropping first forbids new connections and then ends the
sessions: the server's own `WITH (FORCE)` looks whether they have gone only every 100 ms.
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

from stackyard.errors import NotReadyError, StackyardError, UsageError
from stackyard.probes.endpoints import Endpoint, describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from types import TracebackType

TEMPLATE: Final = "app_template"  # compose/postgres/seed makes it: the application's database as it is born
MAINTENANCE: Final = "postgres"  # where one is while other databases come and go
TAKEN: Final = frozenset({"app", "app_next", "app_old", TEMPLATE, MAINTENANCE, "template0", "template1"})
NAME: Final = re.compile(
    r"[a-z_][a-z0-9_]{0,62}"
)  # needs no quotes in SQL, URLs or shells; 63 bytes is PostgreSQL's limit
PATIENCE: Final = 10.0  # seconds to wait for a free connection, and for sessions to end
PAUSE: Final = 0.001  # seconds between two looks; a session needs one or two to end
CROWDED_PAUSE: Final = 0.02  # seconds
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """
    A database of one's own, dropped when its `with` or `async with` block ends.

    Attributes:
        name: Its name.
        url: postgresql://app:PASSWORD@HOST:PORT/NAME
    """

    name: str
    url: str = field(repr=False)

    def drop(self) -> None:
        """
        Drop it with everything in it, ending its sessions; nothing happens when it has gone already.

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
    Make a database like the application's at its birth: all tables, no rows.

    Args:
        url: PostgreSQL of a stack, as STACKYARD_POSTGRES_URL.
        name: Small letters, digits and underscores, at most 63; one that nobody has when left out.

    Raises:
        UsageError: If the name cannot be used or is taken, or an event loop runs here already.
        NotReadyError: If PostgreSQL does not answer, or has no free connection for 10 s.
        StackyardError: If PostgreSQL refuses.
    """
    return run(aclone(url, name))


async def aclone(url: str, name: str | None = None) -> Database:
    """Do as *clone* does, inside an event loop; `async with await ...` drops it again."""
    chosen = f"test_{os.urandom(6).hex()}" if name is None else _checked(name)
    async with maintenance(url) as link:
        await create(link, chosen)
    return Database(name=chosen, url=urlsplit(url)._replace(path=f"/{chosen}").geturl())


@contextlib.asynccontextmanager
async def maintenance(url: str) -> AsyncIterator[Any]:
    """
    Log in beside the databases, as the role *url* names; wait for a place where all connections are taken.

    Raises:
        NotReadyError: If PostgreSQL does not answer or has no place for 10 s; no password is in it.
        StackyardError: If it refuses what the block asks for.
    """
    import asyncpg  # type: ignore[import-untyped] # noqa: PLC0415 - no stubs; 50 ms only who needs it pays

    endpoint = Endpoint.parse(url, "postgresql")
    link = await _connected(endpoint)
    try:
        yield link
        await link.close(timeout=PATIENCE)
    except (OSError, asyncpg.InterfaceError) as error:
        raise NotReadyError(endpoint.hide(f"PostgreSQL went away: {describe(error)}")) from None
    except asyncpg.PostgresError as error:
        raise StackyardError(f"PostgreSQL refused: {describe(error)}") from None
    finally:
        link.terminate()


async def _connected(endpoint: Endpoint) -> Any:
    import asyncpg  # noqa: PLC0415 - as above

    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await asyncpg.connect(
                host=endpoint.host, port=endpoint.port, user=endpoint.user, password=endpoint.password,
                database=MAINTENANCE, ssl=False, target_session_attrs="any", statement_cache_size=0, timeout=PATIENCE,
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
        "'invoke env.status' shows the stack"
    )


async def create(link: Any, name: str) -> None:
    """
    Copy the template to a database called *name*, which the caller has checked.

    Raises:
        UsageError: If there is such a database.
    """
    import asyncpg  # noqa: PLC0415 - as above

    try:
        await link.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}" STRATEGY file_copy')
    except asyncpg.DuplicateDatabaseError:
        raise UsageError(f"there is a database {name!r} already; choose another name, or none") from None


async def drop(link: Any, *names: str) -> None:
    """
    Drop the databases *names*, those of them that are there, with their sessions.

    Raises:
        StackyardError: If a session does not end.
    """
    for row in await link.fetch("SELECT datname FROM pg_database WHERE datname = any($1::text[])", names):
        with _gone_is_fine():
            await seclude(link, row["datname"])
            await link.execute(f'DROP DATABASE IF EXISTS "{row["datname"]}"')


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    import asyncpg  # noqa: PLC0415 - as above

    with contextlib.suppress(asyncpg.InvalidCatalogNameError):
        yield


async def seclude(link: Any, name: str) -> None:
    """
    Let nobody connect to the database *name* any more and wait until nobody is in it.

    Raises:
        StackyardError: If a session is another role's, or does not end within 10 s.
    """
    await link.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    end = time.monotonic() + PATIENCE
    ask = """SELECT usename, CASE WHEN usename = current_user THEN pg_terminate_backend(pid) END
             FROM pg_stat_activity WHERE datname = $1"""
    while sessions := await link.fetch(ask, name):
        strangers = {row["usename"] for row in sessions if row["usename"] != "app"}
        if strangers or time.monotonic() >= end:
            await link.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            whose = ", ".join(sorted(map(str, strangers))) or "app"
            raise StackyardError(
                f"database {name!r} has a session of role {whose} that cannot be ended; end it, try again"
            )
        await asyncio.sleep(PAUSE)


def run(work: Coroutine[Any, Any, T]) -> T:
    """
    Run *work* in an event loop of its own.

    Raises:
        UsageError: If one runs in this thread already.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise UsageError("an event loop runs here; await the function whose name begins with an a, such as adatabase")


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        shown = name if len(name) <= 63 else f"{name[:60]}..."  # noqa: PLR2004 - as NAME
        raise UsageError(f"a database's name has 1 to 63 of a-z, 0-9 and _, no digit first, got {shown!r}")
    if name in TAKEN:
        raise UsageError(f"database {name!r} is the platform's own; choose another name, or none")
    return name

"""
Reset a stack to the state after the start, without a new start.

A reset copies the template, and swaps the copy with the live database within a few milliseconds: it blocks new
connections to the old one, ends its sessions, and renames both in one transaction. This undoes changes to rows,
sequences and definitions. Then it empties Redis, so that no service writes old data back, and publishes a message for
services that keep state in memory. Finally, each service must answer that it is ready over a connection to the new
database. So it has noticed that its old connections are gone, and no later request uses one of them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.task_group import run_all
from stackyard.probes import Endpoint, HttpProbe, wait_until_ready
from stackyard.probes.url_probes import ask_redis
from stackyard.stacks.environments.databases import create, drop, maintenance, run, seclude

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_SERVICES: Final[Mapping[str, str]] = MappingProxyType({})
LIVE: Final = "app"
NEXT: Final = "app_next"
OLD: Final = "app_old"
CHANNEL: Final = "stackyard:reset"  # published in Redis; services that keep state in memory drop it
READY_LIMIT: Final = 10.0  # seconds until the services must have noticed
READY_PAUSE: Final = 0.002  # seconds between two tries
REDIS_LIMIT: Final = 5.0  # seconds
# everything a client without administration rights can leave behind, in all sixteen databases
FORGET: Final = (("FLUSHALL", "SYNC"), ("SCRIPT", "FLUSH", "SYNC"), ("FUNCTION", "FLUSH", "SYNC"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentReset:
    """
    The times of one reset, in seconds.

    Attributes:
        seconds: From the call until every service answered again.
        copied: Until the new database existed.
        swapped: Until it was the live one.
        emptied: Until Redis was empty.
    """

    seconds: float
    copied: float
    swapped: float
    emptied: float


def reset(postgres: str, redis: str, services: Mapping[str, str] = NO_SERVICES) -> EnvironmentReset:
    """
    Reset PostgreSQL's database `app` and Redis to the state after the start.

    Other databases than `app` stay as they are, because tests use them.

    Args:
        postgres: URL, as STACKYARD_POSTGRES_URL.
        redis: URL, as STACKYARD_REDIS_URL.
        services: HTTP services, URL by name, that must answer at `/readyz` that they are ready again.

    Raises:
        UsageError: If a URL is wrong, or an event loop already runs in this thread.
        NotReadyError: If a store or service does not answer.
        StackyardError: If a session cannot be ended or PostgreSQL refuses.
    """
    return run(areset(postgres, redis, services))


async def areset(postgres: str, redis: str, services: Mapping[str, str] = NO_SERVICES) -> EnvironmentReset:
    """Reset as *reset* does, inside an event loop."""
    began = time.monotonic()
    marks: list[float] = []

    def mark() -> None:
        marks.append(time.monotonic() - began)

    async with maintenance(postgres) as link:
        await drop(link, NEXT, OLD)  # databases that a killed reset may have left
        await create(link, NEXT)
        mark()
        await _swap(link)
        mark()
        await _forget(redis)
        mark()
        await run_all(drop(link, OLD), _ready(services))
    return EnvironmentReset(seconds=time.monotonic() - began, copied=marks[0], swapped=marks[1], emptied=marks[2])


async def _swap(link: Any) -> None:
    await seclude(link, LIVE)
    # one message is one transaction, so a database of this name always exists
    await link.execute(
        f'ALTER DATABASE "{LIVE}" RENAME TO "{OLD}"; ALTER DATABASE "{NEXT}" RENAME TO "{LIVE}"; '
        "ALTER ROLE CURRENT_USER RESET ALL"
    )


async def _forget(url: str) -> None:
    endpoint = Endpoint.parse(url, "redis")
    with endpoint.failures():
        async with asyncio.timeout(REDIS_LIMIT), endpoint.connect() as (reader, writer):
            await ask_redis(reader, writer, b"+OK", "AUTH", endpoint.user, endpoint.password)
            for words in FORGET:
                await ask_redis(reader, writer, b"+OK", *words)
            await ask_redis(reader, writer, b":", "PUBLISH", CHANNEL, "all")


async def _ready(services: Mapping[str, str]) -> None:
    probes = [HttpProbe(service=name, url=url) for name, url in services.items()]
    await wait_until_ready(probes, deadline=READY_LIMIT, interval=READY_PAUSE)

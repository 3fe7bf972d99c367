"""
Back to the state after the start, without a new start.

A fresh copy of the template is made beside the live database, then the two change names within a few milliseconds:
no new connections to the old one, its sessions ended, two renames in one transaction. That undoes rows, sequences and
definitions alike. Redis is emptied afterwards, so that nothing read from the old data comes back into it, and whoever
keeps state in memory is told. In the end each service must answer that it is ready, over a connection to the new
database: it has noticed that its old ones are gone, and no request sent after that meets one of them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from stackyard.databases import create, drop, maintenance, run, seclude
from stackyard.probes import Endpoint, HttpProbe, wait_until_ready
from stackyard.probes.kinds import ask_redis
from stackyard.together import together

if TYPE_CHECKING:
    from collections.abc import Mapping

NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
LIVE: Final = "app"
NEXT: Final = "app_next"
OLD: Final = "app_old"
CHANNEL: Final = "stackyard:reset"  # published in Redis; who keeps state in memory drops it
READY_LIMIT: Final = 10.0  # seconds for the services to notice
READY_PAUSE: Final = 0.002  # seconds between two tries
REDIS_LIMIT: Final = 5.0  # seconds
# everything a client without administration rights can leave behind, in all sixteen databases
FORGET: Final = (("FLUSHALL", "SYNC"), ("SCRIPT", "FLUSH", "SYNC"), ("FUNCTION", "FLUSH", "SYNC"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """
    How one reset went, in seconds.

    Attributes:
        seconds: From the call until every service answered again.
        copied: Until a fresh database was there.
        swapped: Until it was the live one.
        emptied: Until Redis had forgotten everything.
    """

    seconds: float
    copied: float
    swapped: float
    emptied: float


def reset(postgres: str, redis: str, services: Mapping[str, str] = NOBODY) -> Reset:
    """
    Bring PostgreSQL's database `app` and Redis back to the state after the start.

    Databases other than `app` stay as they are: they are somebody's own.

    Args:
        postgres: URL, as STACKYARD_POSTGRES_URL.
        redis: URL, as STACKYARD_REDIS_URL.
        services: HTTP services, URL by name, that must say at `/readyz` that they are ready again.

    Raises:
        UsageError: If a URL is wrong, or an event loop runs here already.
        NotReadyError: If a store or service does not answer.
        StackyardError: If a session cannot be ended or PostgreSQL refuses.
    """
    return run(areset(postgres, redis, services))


async def areset(postgres: str, redis: str, services: Mapping[str, str] = NOBODY) -> Reset:
    """Reset as *reset* does, inside an event loop."""
    began = time.monotonic()
    marks: list[float] = []

    def mark() -> None:
        marks.append(time.monotonic() - began)

    async with maintenance(postgres) as link:
        await drop(link, NEXT, OLD)  # what a killed reset may have left
        await create(link, NEXT)
        mark()
        await _swap(link)
        mark()
        await _forget(redis)
        mark()
        await together(drop(link, OLD), _ready(services))
    return Reset(seconds=time.monotonic() - began, copied=marks[0], swapped=marks[1], emptied=marks[2])


async def _swap(link: Any) -> None:
    await seclude(link, LIVE)
    # one message is one transaction: at no time is there no database of this name
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

"""
Waiting until every probe has passed once.

All probes run at once, each on its own rhythm: try, sleep, try again. Three things can end the wait: the last probe
passes, the deadline passes, or *stop* gives a reason why waiting is futile, such as a container that has exited.
Whichever it is, every task and socket is gone before the call returns or raises.

Too early a try is not free. The engine's port proxy accepts before the container has its network; the host then asks
for the container's hardware address, hears nothing, and asks again only a second later, and until then nothing reaches
that service. So *gate* holds the first try back until its container runs (measured: ready after 1.2 s, not 1.4).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.task_group import run_all
from stackyard.errors import NotReadyError
from stackyard.probes.endpoints import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from stackyard.probes.url_probes import Probe

ATTEMPT: Final = 1.0  # seconds the first try may take; after each silence twice as long, for a host that is only slow
LONGEST_ATTEMPT: Final = 8.0  # seconds
# Seconds after a failed try. A service that is not there as soon as its container runs has its imports to do; then each
# moment counts, for a while. Against 0.02 s throughout: 6 to 9 of 295 ms (docs/performance.md).
FIRST_PAUSE: Final = 0.04
SHORT_PAUSES: Final = (0.005,) * 12
PAUSE: Final = 0.02
STOP_INTERVAL: Final = 0.2  # seconds between two questions to *stop*; it usually asks the engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """
    The end of a successful wait.

    Attributes:
        seconds: For each service, seconds from the start of the wait until its probe passed.
        attempts: For each service, tries it took, the good one included.
    """

    seconds: Mapping[str, float]
    attempts: Mapping[str, int]


async def wait_until_ready(
    probes: Sequence[Probe],
    *,
    deadline: float,
    interval: float | None = None,
    stop: Callable[[], str | None] | None = None,
    gate: Callable[[str], Awaitable[object]] | None = None,
    clock: Callable[[], float] = time.monotonic,
    began: float | None = None,
) -> Readiness:
    """
    Try all *probes* at once, again and again, until each has passed.

    Args:
        probes: What has to pass, each for a service of its own; none at all is ready at once.
        deadline: Seconds from now until giving up.
        interval: Seconds between a failed try and the next; the rhythm of a start unless given.
        stop: Asked about five times a second, in a thread; a text it returns ends the wait, and so does an error.
        gate: Awaited with the service's name before its first try; should return once its container runs.
        clock: Monotonic seconds, for the figures in the result.
        began: What these figures count from, as *clock* tells it; now unless given.

    Raises:
        NotReadyError: If the deadline passed or *stop* gave a reason; names each service not ready and its last
            failure.
    """
    started = clock() if began is None else began
    watches = [_Watch(probe) for probe in probes]
    probing = asyncio.create_task(_run_all(watches, interval, gate, lambda: clock() - started))
    stopping = asyncio.create_task(_reason(stop))
    try:
        done, _ = await asyncio.wait({probing, stopping}, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(probing, stopping)
    if probing in done:
        probing.result()
    else:
        reason = stopping.result() if stopping in done else None
        raise NotReadyError(_failure(watches, clock() - started, reason))
    return Readiness(
        seconds={watch.service: watch.passed for watch in watches if watch.passed is not None},
        attempts={watch.service: watch.attempts for watch in watches},
    )


def start_pauses() -> Iterator[float]:
    """Yield, without end, the seconds to wait before each next try of a service whose container has just started."""
    return itertools.chain([FIRST_PAUSE], SHORT_PAUSES, itertools.repeat(PAUSE))


async def _run_all(
    watches: Sequence[_Watch],
    interval: float | None,
    gate: Callable[[str], Awaitable[object]] | None,
    elapsed: Callable[[], float],
) -> None:
    async def run(watch: _Watch) -> None:
        if gate is not None:
            await gate(watch.service)
        await watch.run(start_pauses() if interval is None else itertools.repeat(interval), elapsed)

    await run_all(*map(run, watches))


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _reason(stop: Callable[[], str | None] | None) -> str:
    """Return the reason *stop* gives, once it gives one."""
    while True:
        await asyncio.sleep(STOP_INTERVAL)
        reason = await asyncio.to_thread(stop) if stop else None
        if reason:
            return reason


def _failure(watches: Sequence[_Watch], waited: float, reason: str | None) -> str:
    missing = [watch for watch in watches if watch.passed is None]
    names = ", ".join(watch.service for watch in missing)
    lines = [f"  {watch.service}: {watch.failure} (attempt {watch.attempts})" for watch in missing]
    return "\n".join([f"not ready after {waited:.1f} s: {names}{f'; {reason}' if reason else ''}", *lines])


class _Watch:
    """One probe's tries."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.service = probe.service
        self.attempts = 0
        self.limit = ATTEMPT
        self.failure = "no answer yet"
        self.passed: float | None = None

    async def run(self, pauses: Iterator[float], elapsed: Callable[[], float]) -> None:
        while not await self._attempt():  # noqa: ASYNC110 - a service elsewhere has no event to wait for
            await asyncio.sleep(next(pauses))
        self.passed = elapsed()

    async def _attempt(self) -> bool:
        self.attempts += 1
        try:
            async with asyncio.timeout(self.limit):
                await self.probe.check()
        except TimeoutError:
            self.failure = f"no answer within {self.limit:g} s"
            self.limit = min(2 * self.limit, LONGEST_ATTEMPT)
        except NotReadyError as error:
            self.failure = str(error)
        except Exception as error:  # noqa: BLE001 - a project's own probe may raise anything; it means "not yet"
            self.failure = describe(error)
        else:
            return True
        return False

"""
The two duties of a reaper: clean-ups of stale leases, and warm stacks. Child processes (`workers`) do the work.

A duty decides what to start from the content of the book and from what it has started before. It repeats what has
failed, later each time; this does not delay new work.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from stackyard._util.durations import said
from stackyard.leases.owners import Owner
from stackyard.reaper import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from stackyard.leases.records import Lease
    from stackyard.leases.warm import Pool, Warm

log = logging.getLogger("stackyard")

SWEEPS: Final = 3  # at once; one may wait long for a stack on which another command works
FIRST: Final = 2.0  # seconds until the first repetition after a failure; doubled each time
LAST: Final = 60.0  # seconds at most
NOTICE: Final = 300.0  # seconds before a deadline at which the log says that the stack will end


class Child(Protocol):
    """A process that was started, as `subprocess.Popen` has it."""

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...


class Backoff:
    """
    When to try again.

    Attributes:
        due: Not before this time, on the boot-time clock.
    """

    def __init__(self) -> None:
        self.due = 0.0
        self._pause = FIRST

    def failed(self, now: float) -> None:
        """Set the next attempt, later than the last time."""
        self.due = now + self._pause
        self._pause = min(2 * self._pause, LAST)

    def reset(self) -> None:
        """Start again without a pause."""
        self.due, self._pause = 0.0, FIRST


class Sweeping:
    """
    Starts clean-ups of stale leases.

    Args:
        start: Starts a command.
    """

    def __init__(self, start: Callable[[Sequence[str]], Child]) -> None:
        self._start = start
        self._running: list[Child] = []
        self._tried: set[tuple[str, float]] = set()
        self._backoff = Backoff()

    def reap(self, leases: Collection[Lease], stale: Collection[Lease], now: float) -> None:
        """
        Note clean-ups that have ended, and leases that they could not remove.

        Args:
            leases: All in the book. A lease that a clean-up has taken over is not stale, but may become stale again.
            stale: The stale ones.
            now: Seconds on the boot-time clock.
        """
        ended = [child for child in self._running if child.poll() is not None]
        self._running = [child for child in self._running if child not in ended]
        self._tried &= {_key(lease) for lease in leases}
        if not self._tried:
            self._backoff.reset()
        elif ended and self._tried & {_key(lease) for lease in stale}:
            self._backoff.failed(now)

    def see(self, stale: Collection[Lease], now: float) -> None:
        """Start a clean-up if there is a new stale lease, or if it is time to try again."""
        wanted = {_key(lease) for lease in stale}
        again = bool(wanted) and not self._running and now >= self._backoff.due
        if len(self._running) < SWEEPS and (again or wanted - self._tried):
            self._running.append(self._start(workers.words(*workers.SWEEP)))
            self._tried |= wanted

    @property
    def busy(self) -> bool:
        """True while a clean-up runs."""
        return bool(self._running)

    @property
    def due(self) -> float | None:
        """When to try again, on the boot-time clock; None if no lease is left."""
        return self._backoff.due if self._tried and not self._running else None


class Reminding:
    """Saying in the log, some minutes before, which stacks end at their deadline; once for each deadline."""

    def __init__(self) -> None:
        self._said: set[tuple[str, float]] = set()

    def see(self, leases: Collection[Lease], now: float) -> None:
        """
        Write a line for each lease whose deadline is near.

        Args:
            leases: All that are in the book.
            now: Seconds since 1970.
        """
        near = {
            (lease.id, lease.deadline): lease
            for lease in leases
            if lease.deadline is not None and 0 < lease.deadline - now <= NOTICE
        }
        for (_, deadline), lease in near.items():
            if (lease.id, deadline) not in self._said:
                left = said(round(deadline - now))
                log.info(
                    "the %s stack of lease %s ends in %s unless it is renewed", lease.environment, lease.title, left
                )
        self._said = set(near)


class Warming:
    """
    Keeps pools full, one start at a time, to slow other starts little.

    Args:
        start: Starts a command.
    """

    def __init__(self, start: Callable[[Sequence[str]], Child]) -> None:
        self._start = start
        self._child: Child | None = None
        self._pool: Pool | None = None
        self._backoff: dict[tuple[str, str], Backoff] = {}
        self.trouble = ""

    def reap(self, now: float) -> None:
        """Note a start that has ended."""
        code = self._child.poll() if self._child else None
        if code is None or self._pool is None:
            return
        backoff = self._backoff.setdefault(_name(self._pool), Backoff())
        if code:
            backoff.failed(now)
            self.trouble = f"no warm stack of {self._pool.environment} could be started (exit code {code})"
        else:
            backoff.reset()
            self.trouble = ""
        self._child = self._pool = None

    def see(self, pools: Collection[Pool], warm: Collection[Warm], now: float) -> None:
        """Start a stack for the pool that needs most, unless a start runs or the pool's last one has just failed."""
        if self._child is not None:
            return
        lacking = [
            (pool.size - sum(item.fits(pool) for item in warm), pool) for pool in pools if self._due_of(pool) <= now
        ]
        lack, pool = max(lacking, key=lambda item: item[0], default=(0, None))
        if pool is not None and lack > 0:
            words = workers.words(workers.WARM, str(pool.root), pool.environment, Owner.current().label())
            self._child, self._pool = self._start(words), pool

    def stop(self) -> None:
        """End a running start; its lease becomes stale."""
        if self._child is not None:
            self._child.terminate()

    @property
    def busy(self) -> bool:
        """True while a stack starts."""
        return self._child is not None

    def due(self, pools: Collection[Pool], now: float) -> float | None:
        """When a pool whose last start failed is tried again, on the boot-time clock; None if there is none."""
        return min((due for pool in pools if (due := self._due_of(pool)) > now), default=None)

    def _due_of(self, pool: Pool) -> float:
        backoff = self._backoff.get(_name(pool))
        return backoff.due if backoff else 0.0


def excess(pools: Collection[Pool], warm: Collection[Warm]) -> set[str]:
    """Return the ids of the warm stacks that no pool needs; if a pool has too many, the oldest ones."""
    kept: set[str] = set()
    for pool in pools:
        fitting = [item.lease.id for item in warm if item.fits(pool)]
        kept |= set(fitting[-pool.size :])
    return {item.lease.id for item in warm} - kept


def _key(lease: Lease) -> tuple[str, float]:
    return lease.id, lease.created


def _name(pool: Pool) -> tuple[str, str]:
    return str(pool.root), pool.environment

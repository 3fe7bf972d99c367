"""
Leave to start a stack now: of all processes and threads that share a state directory, only a few start one at a time.

A start is bound by the processors. Fifty at once make each of them slow, until probes and deadlines give up; a few at
a time, the others waiting, are all ready sooner, and the first long before the last. So whoever starts a stack draws a
ticket, the time in nanoseconds since boot, and takes one of the places when nobody has an older one.

Tickets and places are locked bytes of one file: the kernel gives them back however their holder ends, and there is
nothing to tidy up. A waiter that is stopped would hold up all behind it, so a place that stays free for `COURTESY` is
anybody's. Where the file system knows no such locks, nobody waits.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard import files, statedir
from stackyard.errors import BookError, NotReadyError
from stackyard.leases import owners, turnstile
from stackyard.settings import MOST_STARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.settings import Settings

FEWEST: Final = 2  # places; a start that waits for the engine leaves its processor to another
PATIENCE: Final = 600.0  # seconds; fifty stacks on two processors need a tenth of it
TELL_AFTER: Final = 1.0  # seconds of waiting that a user wonders about
TELL_AGAIN: Final = 60.0  # seconds between two lines about one wait
COURTESY: Final = 0.5  # seconds a free place is left to each who came before: ten looks of who is first
LOOK: Final = 0.05  # seconds between two looks of who is first; who stands behind looks less often
LONGEST: Final = 1.0  # seconds between two looks of anybody
_LAST: Final = 1 << 62  # nanoseconds; behind all who did not wait for centuries
_RECORD: Final = 16  # bytes: a holder's pid, for those who wait in vain
_QUOTAS: Final = (
    "/sys/fs/cgroup/cpu.max",  # quota and period; or, before cgroup v2, each in a file
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us",
)


def places(settings: Settings) -> int | None:
    """Return how many may start at a time; None without a limit."""
    if settings.starts_at_once == "off":
        return None
    return processors() if settings.starts_at_once == "auto" else settings.starts_at_once


def processors(quotas: Sequence[str] = _QUOTAS) -> int:
    """
    Return how many processors this process may use, at least `FEWEST`.

    Args:
        quotas: Files that hold a quota and its period in microseconds, separated by spaces where there are two.
    """
    usable = len(os.sched_getaffinity(0))
    for names in quotas:
        with contextlib.suppress(OSError, ValueError):  # no such file, and "max": no quota
            quota, period = " ".join(Path(name).read_text(encoding="ascii") for name in names.split()).split()
            if int(quota) > 0:
                usable = min(usable, int(quota) // int(period))
    return max(usable, FEWEST)


@contextlib.contextmanager
def turn(
    settings: Settings,
    *,
    last: bool = False,
    progress: Callable[[str], None] | None = None,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[float]:
    """
    Wait for leave to start a stack, and hold one of the places until the block ends.

    Args:
        settings: How many places there are, and where their file is.
        last: Let everybody else go first, those who come later too.
        progress: Is given a line when the wait gets long.
        patience: Seconds to wait at most.
        clock: Monotonic seconds.
        sleep: Waits between two looks; what a signal handler raises there ends the wait.

    Yields:
        The seconds waited.

    Raises:
        NotReadyError: If no turn came within *patience* seconds; the text names who has them.
        BookError: If the file of the places cannot be opened.
    """
    count = places(settings)
    if count is None:
        yield 0.0
        return
    handle = _open(settings.state_dir / "turns.lock")
    try:
        yield _Line(handle, count, clock, sleep).wait(patience, last=last, progress=progress)
    finally:
        turnstile.unlock(handle)
        os.close(handle)


def _open(path: Path) -> int:
    try:
        statedir.check(path.parent)
        return files.open_plain(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise BookError(f"{path}: {error.strerror or error}; without it nobody can tell whose turn it is") from None


class _Line:
    """One waiter's view of the line, through the file open as *handle*."""

    def __init__(self, handle: int, places: int, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.handle = handle
        self.places = places
        self.clock = clock
        self.sleep = sleep
        self.ticket = 0

    def wait(self, patience: float, *, last: bool, progress: Callable[[str], None] | None) -> float:
        """Return once a place is ours; the seconds that took."""
        self.ticket = turnstile.draw(self.handle, later=_LAST if last else 0)
        began = seen = self.clock()
        idle, tell = 0.0, TELL_AFTER
        while True:
            before, busy = self._before(), self._busy()
            now = self.clock()
            idle, seen = (0.0 if busy >= self.places else idle + now - seen), now
            if idle >= before * COURTESY and self._take():
                return now - began
            if now - began >= patience:
                raise NotReadyError(self._in_vain(now - began, before))
            if progress is not None and now - began >= tell:
                progress(self._told(busy, before))
                tell = now - began + TELL_AGAIN
            self.sleep(LOOK if busy < self.places else min(LOOK * (before + 1), LONGEST))

    def _before(self) -> int:
        """Return how many tickets are older than ours."""
        return turnstile.count(self.handle, MOST_STARTS, self.ticket)

    def _busy(self) -> int:
        return turnstile.count(self.handle, 0, self.places)

    def _take(self) -> bool:
        """Lock a place if one is free, note whose it is, and give the ticket back."""
        try:
            place = next((number for number in range(self.places) if turnstile.lock(self.handle, number)), None)
        except OSError:
            return True  # no such locks here
        if place is None:
            return False
        turnstile.unlock(self.handle, MOST_STARTS)
        with contextlib.suppress(OSError):  # a full disk
            os.pwrite(self.handle, f"{os.getpid():<{_RECORD}}".encode(), place * _RECORD)
        return True

    def _told(self, busy: int, before: int) -> str:
        more = f", {before} more before this one" if before else ""
        starting = "1 stack is" if busy == 1 else f"{busy} stacks are"
        return f"waiting for a turn: {starting} starting on this host{more}"

    def _in_vain(self, waited: float, before: int) -> str:
        holders = ", ".join(self._holders()) or "nobody any more"
        return (
            f"no turn to start a stack within {waited:.0f} s, and {before} more before this one; "
            f"{self.places} may start at a time, now {holders}; "
            f"see what they do, or set STACKYARD_STARTS_AT_ONCE to more, or to off"
        )

    def _holders(self) -> list[str]:
        taken = [number for number in range(self.places) if turnstile.count(self.handle, number, number + 1)]
        pids = [os.pread(self.handle, _RECORD, number * _RECORD).decode(errors="replace").strip() for number in taken]
        return [f"pid {pid} ({owners.command_line(int(pid))})" for pid in pids if pid.isdecimal()]

"""
Turns: only a few of the processes and threads with one state directory start a stack at a time.

A start needs processors. Fifty starts at once make each of them slow, until probes and deadlines fail. If only a few
start at a time and the others wait, all are ready sooner. So each start draws a ticket, the time in nanoseconds since
boot, and takes one of the places when no other start has an older ticket.

Tickets and places are locked bytes of one file. The kernel releases them in whatever way their holder ends, so nothing
has to be cleaned up. A stopped waiter would block all behind it, so after `COURTESY` the next waiter may take a free
place. If the file system does not support such locks, no start waits.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util import files, state_directory
from stackyard.errors import BookError, NotReadyError
from stackyard.leases import fair_lock, owners
from stackyard.settings import MOST_STARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.settings import Settings

FEWEST: Final = 2  # places; while one start waits for the engine, another can use its processor
TURN_TIMEOUT_S: Final = 600.0  # seconds; fifty stacks on two processors need a tenth of this
TELL_AFTER: Final = 1.0  # seconds of waiting after which the user gets a line
TELL_AGAIN: Final = 60.0  # seconds between two lines about the same wait
COURTESY: Final = 0.5  # seconds for which a free place is kept for each earlier ticket: ten attempts of the first
POLL_S: Final = 0.05  # seconds between two attempts of the first waiter; the others try less often
LONGEST_POLL_S: Final = 1.0  # seconds between two attempts at most
_LAST: Final = 1 << 62  # nanoseconds; behind every ticket without it
_RECORD: Final = 16  # bytes: a holder's pid, for the error of a waiter that gives up
_QUOTAS: Final = (
    "/sys/fs/cgroup/cpu.max",  # quota and period; or, before cgroup v2, each in a file
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us",
)


def places(settings: Settings) -> int | None:
    """Return how many stacks may start at a time; None without a limit."""
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
    patience: float = TURN_TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[float]:
    """
    Wait for a turn to start a stack, and hold one of the places until the block ends.

    Args:
        settings: How many places there are, and where their file is.
        last: Let all other starts go first, later ones too.
        progress: Called with a line when the wait gets long.
        patience: Seconds to wait at most.
        clock: Monotonic seconds.
        sleep: Waits between two attempts; an exception from a signal handler ends the wait.

    Yields:
        The seconds waited.

    Raises:
        NotReadyError: If no turn came within *patience* seconds; the text names the processes that have one.
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
        fair_lock.unlock(handle)
        os.close(handle)


def _open(path: Path) -> int:
    try:
        state_directory.check(path.parent)
        return files.open_plain(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise BookError(
            f"{path}: {error.strerror or error}; without this file stackyard cannot tell which start is next"
        ) from None


class _Line:
    """The queue as one waiter sees it, through the file open as *handle*."""

    def __init__(self, handle: int, places: int, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.handle = handle
        self.places = places
        self.clock = clock
        self.sleep = sleep
        self.ticket = 0

    def wait(self, patience: float, *, last: bool, progress: Callable[[str], None] | None) -> float:
        """Wait for a place, and return the seconds that it took."""
        self.ticket = fair_lock.draw(self.handle, later=_LAST if last else 0)
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
            self.sleep(POLL_S if busy < self.places else min(POLL_S * (before + 1), LONGEST_POLL_S))

    def _before(self) -> int:
        """Return how many tickets are older than this one."""
        return fair_lock.count(self.handle, MOST_STARTS, self.ticket)

    def _busy(self) -> int:
        return fair_lock.count(self.handle, 0, self.places)

    def _take(self) -> bool:
        """Lock a place if one is free, note this process as its holder, and release the ticket."""
        try:
            place = next((number for number in range(self.places) if fair_lock.lock(self.handle, number)), None)
        except OSError:
            return True  # the file system does not support such locks
        if place is None:
            return False
        fair_lock.unlock(self.handle, MOST_STARTS)
        with contextlib.suppress(OSError):  # a full disk
            os.pwrite(self.handle, f"{os.getpid():<{_RECORD}}".encode(), place * _RECORD)
        return True

    def _told(self, busy: int, before: int) -> str:
        more = f"; this one is number {before + 1} in the queue" if before else ""
        starting = "1 stack is" if busy == 1 else f"{busy} stacks are"
        return f"waiting for a turn: {starting} starting on this host{more}"

    def _in_vain(self, waited: float, before: int) -> str:
        holders = ", ".join(self._holders()) or "none now"
        return (
            f"gave up after {waited:.0f} s of waiting to start (number {before + 1} in the queue); "
            f"{self.places} may start at once, starting: {holders}; "
            "check those processes, or set STACKYARD_STARTS_AT_ONCE to a larger number, or to off"
        )

    def _holders(self) -> list[str]:
        taken = [number for number in range(self.places) if fair_lock.count(self.handle, number, number + 1)]
        pids = [os.pread(self.handle, _RECORD, number * _RECORD).decode(errors="replace").strip() for number in taken]
        return [f"pid {pid} ({owners.command_line(int(pid))})" for pid in pids if pid.isdecimal()]

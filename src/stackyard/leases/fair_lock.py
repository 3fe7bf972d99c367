"""
A lock that one process at a time holds, first come first served.

An ``flock`` wakes all waiters, and the quickest gets it; of sixteen that want it repeatedly, some wait ten times as
long as others. So a process that finds it taken draws a ticket: it locks the byte of the same file whose number is the
time, in nanoseconds since boot. It tries the ``flock`` only while no other process has an older ticket. Only the order
depends on tickets. The kernel drops the ticket of a dead process; the ticket of a stopped process counts for `COURTESY`
seconds. If the file system does not support such locks, the quickest process goes first. `filelock` has no order.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import struct
import time
from typing import TYPE_CHECKING, Final

from stackyard.errors import BookError
from stackyard.leases import owners

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE: Final = 30.0  # seconds; a transaction takes milliseconds, so who holds it that long is stopped or hangs
COURTESY: Final = 2.0  # seconds for which a ticket counts: longer than any wait in a queue that moves
_STEP: Final = 0.0004  # seconds for which one transaction holds the lock, about; the third waiter tries again after two
_SHORTEST: Final = 0.0002  # seconds between two attempts of the first waiter: twice the delay of a sleep
_LONGEST: Final = 0.02  # seconds between them once something is probably wrong
_FLOCK: Final = "hhqqi"  # struct flock of fcntl(2): l_type, l_whence, l_start, l_len, l_pid


def take_lock(handle: int, path: Path, deadline: float = DEADLINE) -> None:
    """
    Lock the file at *path*, open as *handle*; closing it releases lock and ticket.

    Args:
        handle: A descriptor of its own.
        path: The file, for the message.
        deadline: Seconds that one holder may have it; while it passes from hand to hand, there is no end.

    Raises:
        BookError: If the deadline passes; the text names the holder.
        OSError: If the file cannot be locked.
    """
    began = time.monotonic()
    ticket, holders = None, _Holders(path, deadline)
    while (ahead := _ahead(handle, ticket)) or not _grab(handle):
        if ticket is None:
            ticket = draw(handle)
        waited = time.monotonic() - began
        if holder := holders.stuck(waited):
            raise BookError(f"{path}: locked for over {deadline:g} s by {holder}; check that process")
        time.sleep(ahead * _STEP or (_SHORTEST if waited < COURTESY else _LONGEST))


class _Holders:
    """Who has the lock on *path*, looked up a few times in *deadline* seconds."""

    def __init__(self, path: Path, deadline: float) -> None:
        self.path = path
        self.deadline = deadline
        self.since = 0.0
        self.look = deadline / 4
        self.last = ""

    def stuck(self, waited: float) -> str:
        """Return who has had the lock for the whole deadline, *waited* seconds after the wait began; "" if no one."""
        if waited <= min(self.look, self.since + self.deadline):
            return ""
        before, self.last, self.look = self.last, lock_holder(self.path), waited + self.deadline / 4
        if before and before != self.last:
            self.since = waited
        return self.last if before and waited > self.since + self.deadline else ""


def _grab(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            raise
        return False
    return True


def draw(handle: int, *, later: int = 0) -> int:
    """
    Take a ticket and return its number.

    Args:
        handle: An open description of its own: closing it releases the ticket.
        later: Added to the time; a ticket with more goes behind all with less.
    """
    ticket = time.monotonic_ns() + later
    with contextlib.suppress(OSError):
        lock(handle, ticket)
    return ticket


def _ahead(handle: int, ticket: int | None) -> int:
    """Return how many older tickets there are; without a ticket, return how many there are."""
    now = time.monotonic_ns()
    return count(handle, max(now - int(COURTESY * 1e9), 0), ticket or now)


def count(handle: int, first: int, end: int) -> int:
    """Return how many locks others have on bytes from *first* up to *end*; a lock may be on many bytes."""
    found, spans = 0, [(first, end)]
    while spans:
        first, end = spans.pop()
        if first < end and (held := _any_locked(handle, first, end)) is not None:
            found += 1
            spans += [(first, held[0]), (held[1], end)]
    return found


def lock(handle: int, number: int) -> bool:
    """
    Lock one byte of the file open as *handle*; return False if another process or thread has it.

    Args:
        handle: An open description of its own: the lock belongs to it, not to the process, and ends with it.
        number: Which byte; the file may be shorter.

    Raises:
        OSError: If the file system does not support such locks.
    """
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, number, 1, 0))
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            raise
        return False
    return True


def share(handle: int, number: int) -> None:
    """
    Wait until no other has byte *number* alone, then have it together with all that share it; `lock` takes it alone.

    Raises:
        OSError: If the file system does not support such locks.
    """
    fcntl.fcntl(handle, fcntl.F_OFD_SETLKW, struct.pack(_FLOCK, fcntl.F_RDLCK, 0, number, 1, 0))


def unlock(handle: int, first: int = 0) -> None:
    """Release every byte from *first* on that is locked through *handle*, even if a fork has a copy of it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_UNLCK, 0, first, 0, 0))


def _any_locked(handle: int, first: int, end: int) -> tuple[int, int] | None:
    """Return where a lock of another description begins and ends; None if there is none."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, first, end - first, 0)
    try:
        answer = fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked)
    except OSError:
        return None
    kind, _, start, length, _ = struct.unpack(_FLOCK, answer)
    if kind == fcntl.F_UNLCK:
        return None
    return start, start + length if length else end  # 0 means all that follow


def lock_holder(path: Path) -> str:
    """Return which process holds the flock on *path*, from the kernel's table of locks."""
    inode = path.stat().st_ino
    with open("/proc/locks", encoding="ascii") as table:  # noqa: PTH123 - not a file of ours
        for line in table:
            words = line.split()
            if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                return f"pid {words[4]} ({owners.command_line(int(words[4]))})"
    return "a process that has released it by now"

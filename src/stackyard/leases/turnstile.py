"""
The lock that one process at a time holds, taken first come first served.

An ``flock`` wakes everybody who waits and lets the quickest have it; of sixteen that want it again and again, some wait
ten times as long as others. So whoever finds it taken draws a ticket: it locks the byte of the same file whose number
is the time, in nanoseconds since boot, and tries the ``flock`` only while nobody has an older ticket. Tickets are a
courtesy that nothing depends on. The kernel drops a dead process's; one of a process that is stopped counts for
`COURTESY` seconds and no longer; and where a file system has none, the quickest goes first as before.
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

DEADLINE: Final = 30.0  # seconds; a piece of work takes milliseconds, so by then its process is stopped or hung
COURTESY: Final = 2.0  # seconds that a ticket counts: longer than any line that moves
_STEP: Final = 0.0004  # seconds that one piece of work holds the lock, about; who is third looks again after two
_SHORTEST: Final = 0.0002  # seconds between two looks of who is first: twice what a sleep is late by itself
_LONGEST: Final = 0.02  # seconds between them once something must be wrong
_FLOCK: Final = "hhqqi"  # struct flock of fcntl(2): type, whence, start, length, pid


def take_lock(handle: int, path: Path, deadline: float = DEADLINE) -> None:
    """
    Lock the file at *path*, open as *handle*; closing it gives lock and ticket back.

    Args:
        handle: A descriptor of its own.
        path: The file, for the message.
        deadline: Seconds to wait.

    Raises:
        BookError: If the deadline passes; the text names the holder.
        OSError: If the file cannot be locked.
    """
    began = time.monotonic()
    ticket = None
    while (ahead := _ahead(handle, ticket)) or not _grab(handle):
        if ticket is None:
            ticket = draw(handle)
        waited = time.monotonic() - began
        if waited > deadline:
            raise BookError(
                f"{path}: locked for over {deadline:g} s by {lock_holder(path)}; see what that process does"
            )
        time.sleep(ahead * _STEP or (_SHORTEST if waited < COURTESY else _LONGEST))


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
        handle: An open description of its own: closing it gives the ticket back.
        later: Is added to the time; who has more of it stands behind all that have less.
    """
    ticket = time.monotonic_ns() + later
    with contextlib.suppress(OSError):
        lock(handle, ticket)
    return ticket


def _ahead(handle: int, ticket: int | None) -> int:
    """Return how many older tickets there are; all are older than none."""
    now = time.monotonic_ns()
    return count(handle, max(now - int(COURTESY * 1e9), 0), ticket or now)


def count(handle: int, first: int, end: int) -> int:
    """Return how many bytes from *first* up to *end* others have locked."""
    found, spans = 0, [(first, end)]
    while spans:
        first, end = spans.pop()
        if first < end and (held := _any_locked(handle, first, end)) is not None:
            found += 1
            spans += [(first, held), (held + 1, end)]
    return found


def lock(handle: int, number: int) -> bool:
    """
    Lock one byte of the file open as *handle*, unless somebody else has; return whether it is ours.

    Args:
        handle: An open description of its own: the lock is its, not the process's, and ends with it.
        number: Which byte; the file need not be that long.

    Raises:
        OSError: If the file system has no such locks.
    """
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, number, 1, 0))
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            raise
        return False
    return True


def unlock(handle: int, first: int = 0) -> None:
    """Give back every byte from *first* on that is locked through *handle*, even if a fork has a copy of it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_UNLCK, 0, first, 0, 0))


def _any_locked(handle: int, first: int, end: int) -> int | None:
    """Return one of the bytes that somebody else has locked; None if there is none."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, first, end - first, 0)
    try:
        answer = fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked)
    except OSError:
        return None
    kind, _, start, _, _ = struct.unpack(_FLOCK, answer)
    return None if kind == fcntl.F_UNLCK else start


def lock_holder(path: Path) -> str:
    """Say which process holds the flock on *path*, as the kernel's table of locks has it."""
    inode = path.stat().st_ino
    with open("/proc/locks", encoding="ascii") as table:  # noqa: PTH123 - not a file of ours
        for line in table:
            words = line.split()
            if "->" not in words and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                return f"pid {words[4]} ({owners.command_line(int(words[4]))})"
    return "nobody any more"

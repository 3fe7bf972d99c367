"""
The lock that one process at a time holds, taken first come first served.

An ``flock`` wakes everybody who waits and lets the quickest have it; of sixteen that want it again and again, some wait
ten times as long as others. So whoever finds it taken draws a ticket: it locks the byte of the same file whose number
is the time, in nanoseconds since boot, and tries the ``flock`` only while nobody has an older ticket. Tickets are a
courtesy that nothing depends on. The kernel drops a dead process's; one of a process that is stopped counts for
`COURTESY` seconds and no longer; and where a file system has none, the quickest goes first as before.
"""

from __future__ import annotations

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
            ticket = _draw(handle)
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


def _draw(handle: int) -> int:
    """Take a ticket and return its number."""
    ticket = time.monotonic_ns()
    _control(handle, fcntl.F_OFD_SETLK, ticket, 1)
    return ticket


def _ahead(handle: int, ticket: int | None) -> int:
    """Return how many older tickets there are, at least; all are older than none."""
    now = time.monotonic_ns()
    first, end = max(now - int(COURTESY * 1e9), 0), ticket or now
    count = 0
    while first < end and (found := _control(handle, fcntl.F_OFD_GETLK, first, end - first)) is not None:
        count, first = count + 1, found + 1
    return count


def _control(handle: int, command: int, first: int, length: int) -> int | None:
    """Return the number of a ticket of somebody else's that is in the way; None if there is none."""
    try:
        answer = fcntl.fcntl(handle, command, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, first, length, 0))
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

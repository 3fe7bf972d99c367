"""
Sleeping until something happens: a process ends, a signal comes, or the book changes.

The kernel reports the end of a process (pidfd). The book is checked once a second: reading the four bytes in which
SQLite counts its changes takes microseconds, so an idle reaper uses almost no CPU.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import FrameType

    from stackyard.leases.owners import Owner

TICK: Final = 1.0  # seconds between two checks of the book's file
COUNTER: Final = 24  # offset of the file change counter in a SQLite file's header
ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Watch:
    """
    What a reaper waits for.

    Args:
        book: The book's file.
        clock: Monotonic seconds.

    Attributes:
        ending: Whether a signal has asked this process to end.
    """

    def __init__(self, book: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._book = book
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._processes: dict[Owner, int] = {}
        self._seen = self._look()
        self.ending = False
        self._wake, self._alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def close(self) -> None:
        """Close everything."""
        for owner in list(self._processes):
            self._drop(owner)
        self._selector.close()
        os.close(self._wake)
        os.close(self._alarm)

    def listen(self) -> None:
        """From now on only note signals that end a process, and wake up when a child process ends."""

        def note(number: int, _frame: FrameType | None) -> None:
            self.ending = self.ending or number in ENDING

        for number in (*ENDING, signal.SIGCHLD):
            signal.signal(number, note)
        signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)

    def follow(self, owners: Iterable[Owner]) -> set[Owner]:
        """
        Watch these processes and no others; return those that cannot be watched.

        The next `wait` reports one that has ended; a process of another pid namespace cannot be watched.
        """
        wanted = set(owners)
        for gone in self._processes.keys() - wanted:
            self._drop(gone)
        return {owner for owner in wanted - self._processes.keys() if not self._add(owner)}

    def wait(self, seconds: float) -> bool:
        """Sleep for *seconds* at most; True as soon as a process ends, a signal comes or the book changes."""
        end = self._clock() + seconds
        while True:
            left = end - self._clock()
            events = self._selector.select(max(min(left, TICK), 0.0))
            for key, _ in events:
                self._settle(key.data)
            if events:
                return True
            if self.changed():
                return True
            if left <= TICK:
                return False

    def changed(self) -> bool:
        """Say whether the book's file has changed since the last call."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> tuple[int, bytes]:
        """Return the file's inode and SQLite's change counter; two changes can have the same time."""
        try:
            handle = os.open(self._book, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0, b""
        try:
            return os.fstat(handle).st_ino, os.pread(handle, 4, COUNTER)
        finally:
            os.close(handle)

    def _settle(self, ended: Owner | None) -> None:
        """Handle the event, so that it does not wake this process again."""
        if ended is not None:
            self._drop(ended)
            return
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 64)

    def _add(self, owner: Owner) -> bool:
        try:
            handle = os.pidfd_open(owner.pid)
        except OSError:
            return False
        # another process may have got the pid before pidfd_open
        if not owner.runs():
            os.close(handle)
            return False
        self._processes[owner] = handle
        self._selector.register(handle, selectors.EVENT_READ, owner)
        return True

    def _drop(self, owner: Owner) -> None:
        handle = self._processes.pop(owner)
        self._selector.unregister(handle)
        os.close(handle)

"""
Sleeping until something happens: a process ends, a signal comes, or the book changes.

The ends of processes come from the kernel (pidfd). The book is looked at once a second: the four bytes in which SQLite
counts its changes cost microseconds, so that an idle yardmaster uses next to no CPU.
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

TICK: Final = 1.0  # seconds between two looks at the book's file
COUNTER: Final = 24  # offset of the file change counter in a SQLite file's header
ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Watch:
    """
    What a yardmaster waits for.

    Args:
        book: The book's file.
        clock: Monotonic seconds.

    Attributes:
        told: Whether a signal has told this process to end.
    """

    def __init__(self, book: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._book = book
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._processes: dict[Owner, int] = {}
        self._seen = self._look()
        self.told = False
        self._wake, self._alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def close(self) -> None:
        """Let go of everything."""
        for owner in list(self._processes):
            self._drop(owner)
        self._selector.close()
        os.close(self._wake)
        os.close(self._alarm)

    def listen(self) -> None:
        """From now on only note the signals that end a process, and wake up when a child ends."""

        def note(number: int, _frame: FrameType | None) -> None:
            self.told = self.told or number in ENDING

        for number in (*ENDING, signal.SIGCHLD):
            signal.signal(number, note)
        signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)

    def follow(self, owners: Iterable[Owner]) -> set[Owner]:
        """
        Watch exactly these processes; return those that cannot be watched.

        One that has ended is reported by the next `wait`; one of another pid namespace cannot be watched.
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
        """Say whether the book's file is another than when this was last asked."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> tuple[int, bytes]:
        """Return the file's inode and SQLite's own counter of changes: two in one tick of the clock have one time."""
        try:
            handle = os.open(self._book, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0, b""
        try:
            return os.fstat(handle).st_ino, os.pread(handle, 4, COUNTER)
        finally:
            os.close(handle)

    def _settle(self, ended: Owner | None) -> None:
        """Take note of what woke us, so that it does not again."""
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
        # the pid may have been given to another process before we had hold of it
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

"""
The files of a reaper in the state directory of its book: its lock, its notice and its log.

The process that holds the lock is the reaper; the notice only says which process that is and what it does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import stackyard
from stackyard._util import files, json_text, state_directory
from stackyard.leases.owners import Owner, is_held

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_LIMIT: Final = 1_000_000  # bytes; a reaper that finds a longer log empties it
POLL: Final = 0.02  # seconds between two attempts on a lock that another process will release soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """
    A reaper's notice.

    Attributes:
        owner: Which process it is, as `Owner.label` writes it.
        code: Which stackyard it runs: its version and when the newest of its files was written.
        since: When it started, in seconds since 1970.
        watched: Ids of the leases whose owner or deadline it watches.
        warm: Ids of the warm stacks.
        pools: How many warm stacks each environment should have.
        trouble: What failed in its last attempt; empty if nothing did.
    """

    owner: str
    code: str
    since: float
    watched: list[str] = field(default_factory=list)
    warm: list[str] = field(default_factory=list)
    pools: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""

    @property
    def process(self) -> Owner | None:
        """The process that wrote it; None if this version cannot read it."""
        return Owner.parse(self.owner)


class Post:
    """
    The reaper's files in one state directory.

    Args:
        directory: The state directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = directory / "reaper.lock"
        self.notice = directory / "reaper.json"
        self.log = directory / "reaper.log"
        self._held: int | None = None

    def is_taken(self) -> bool:
        """Say whether a reaper runs, by its lock."""
        return is_held(self.lock) is True

    def take(self, *, patience: float = 1.0, clock: Callable[[], float] = time.monotonic) -> bool:
        """
        Become the reaper; False if another process still is after *patience* seconds.

        A process that only checks holds the lock for an instant, so one attempt is not enough.

        Raises:
            OSError: If the state directory cannot be used.
        """
        state_directory.check(self.directory)
        handle = files.open_plain(self.lock, os.O_RDWR | os.O_CREAT)
        end = clock() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock() >= end:
                    os.close(handle)
                    return False
                time.sleep(POLL)
            else:
                self._held = handle
                return True

    def leave(self) -> None:
        """Stop being the reaper."""
        handle, self._held = self._held, None
        if handle is not None:
            os.close(handle)

    def is_mine(self) -> bool:
        """Say whether this process is still the reaper; False if the directory was deleted or replaced."""
        if self._held is None:
            return False
        try:
            return os.path.samestat(self.lock.lstat(), os.fstat(self._held))
        except OSError:
            return False

    def tell(self, notice: Notice) -> None:
        """
        Write the notice in one step.

        Raises:
            OSError: If it cannot be written.
        """
        files.write(self.notice, json.dumps(asdict(notice)).encode())

    def read(self) -> Notice | None:
        """Return the notice of this or the last reaper; None if it cannot be read."""
        try:
            found = json_text.read(files.read(self.notice))
            return Notice(**{item.name: found[item.name] for item in fields(Notice)})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def open_log(self) -> int:
        """
        Open the log for a reaper, mode 0600; empty it if it is too long.

        Raises:
            OSError: If it cannot be opened.
        """
        state_directory.check(self.directory)
        handle = files.open_plain(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if os.fstat(handle).st_size > LOG_LIMIT:
            os.ftruncate(handle, 0)
        return handle

    def dismiss(self, *, patience: float = 30.0, clock: Callable[[], float] = time.monotonic) -> bool:
        """
        Tell the running reaper to end and wait until it has; do not touch one that starts after it.

        Args:
            patience: Seconds to wait.
            clock: Monotonic seconds.

        Returns:
            Whether it has ended, or none was running.
        """
        end = clock() + patience
        announced: Owner | None = None
        while self.is_taken():
            who = notice.process if (notice := self.read()) else None
            runs = who is not None and who.runs()
            if announced is not None and (who != announced or not runs):
                return True
            if announced is None and who is not None and runs:
                announced = who
                _terminate(who)
            if clock() >= end:
                return False
            time.sleep(POLL)
        return True


def _terminate(who: Owner) -> None:
    """Send SIGTERM to process *who*, but not to another process that got its pid."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(who.pid)
        try:
            if who.runs():
                signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)


@cache
def code() -> str:
    """Return which stackyard this is: its version and when its newest file was written, in nanoseconds since 1970."""
    folder = Path(stackyard.__file__).parent
    return f"{stackyard.__version__}+{_newest(str(folder))}"


def _newest(folder: str) -> int:
    """Return when the newest Python file in *folder* was written; fast, because every start of a stack needs it."""
    with os.scandir(folder) as entries:
        return max(
            (
                _newest(entry.path) if entry.is_dir(follow_symlinks=False) else entry.stat().st_mtime_ns
                for entry in entries
                if entry.name.endswith(".py") or (entry.is_dir() and entry.name != "__pycache__")
            ),
            default=0,
        )


def is_older(theirs: str, mine: str) -> bool:
    """Say whether *theirs* is an older stackyard than *mine*, both as `code` writes them."""
    return _order(theirs) < _order(mine)


def _order(text: str) -> tuple[tuple[int, ...], int]:
    version, _, written = text.partition("+")
    numbers = tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit())
    return numbers, int(written) if written.isascii() and written.isdigit() else 0

"""
One command at a time on one stack.

Two `docker compose up` at once on one project disturb each other, and an `up` that fails while a `down` runs removes
what the other one still lists. So a command that starts or removes a stack first locks its lease's directory. The
kernel releases the lock in whatever way the holder ends, and no lock file can be left behind. `filelock` locks files
only: a file in the directory would move away with it at a release, while others still wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from stackyard.errors import LeaseNotFoundError, StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.leases import Lease

LOCK_TIMEOUT_S: Final = 120.0  # seconds; longer than any start or removal that makes progress
POLL: Final = 0.02


@contextlib.contextmanager
def alone(
    lease: Lease,
    *,
    patience: float = LOCK_TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bool]:
    """
    Wait until no other command starts or removes the stack of *lease*; others wait until the block ends.

    Args:
        lease: The lease of the stack.
        patience: Seconds to wait at most.
        clock: Monotonic seconds.
        sleep: Waits between two tries.

    Yields:
        True; False if the lease's directory is gone, because the command before released the lease.

    Raises:
        StackyardError: If another command still works on the stack after *patience* seconds.
    """
    try:
        handle = os.open(lease.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        end = clock() + patience
        while not _locked(handle):
            if clock() >= end:
                raise StackyardError(
                    f"another command has been working on stack {lease.title} for {patience:g} s; "
                    f"wait for it or end it, then repeat this command"
                )
            sleep(POLL)
        yield _is_still(lease.directory, handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def still_leased(lease: Lease) -> Iterator[None]:
    """
    Wait as `alone` does, for work that needs the lease.

    Raises:
        LeaseNotFoundError: If another command has ended the lease in the meantime.
        StackyardError: As `alone` does.
    """
    with alone(lease) as there:
        if not there:
            raise LeaseNotFoundError(f"lease {lease.title} was ended by another command; start again")
        yield


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(directory: Path, handle: int) -> bool:
    """Say whether the locked directory still has this name; a release moves the directory away."""
    try:
        return os.path.samestat(directory.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False

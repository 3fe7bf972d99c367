"""
One command at a time on one stack.

`docker compose up` twice at once on one project trips over itself, and an `up` that fails while a `down` runs cleans
away what the other still counts. So whoever starts or removes a stack first locks its lease's directory; the kernel
lets go of the lock however the holder ends, and no lock file can be left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.leases import Lease

PATIENCE: Final = 120.0  # seconds; longer than any start or removal that makes progress
POLL: Final = 0.02


@contextlib.contextmanager
def alone(
    lease: Lease,
    *,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bool]:
    """
    Wait until nobody else starts or removes the stack of *lease*, and keep others waiting until the block ends.

    Args:
        lease: Whose stack.
        patience: Seconds to wait at most.
        clock: Monotonic seconds.
        sleep: Waits between two tries.

    Yields:
        True; False when the lease's directory has gone, because whoever was before has released it.

    Raises:
        StackyardError: If another command is still at it after *patience* seconds.
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
                    f"another command has been at work on stack {lease.id} for {patience:g} s; "
                    f"end it, or wait, then repeat this one"
                )
            sleep(POLL)
        yield _is_still(lease.directory, handle)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(directory: Path, handle: int) -> bool:
    """Tell whether the locked directory is the one that has this name now; a released lease's was moved away."""
    try:
        return os.path.samestat(directory.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False

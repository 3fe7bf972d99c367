"""How a command that has something to remove handles SIGTERM and SIGHUP."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Final

from stackyard._util import library_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

TERMINATED: Final = 143


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like Ctrl-C: the run removes its stack before it ends."""
    library_logs.quiet()

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

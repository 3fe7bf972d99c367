"""How a command that has something to remove handles SIGTERM and SIGHUP."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Final

from stackyard._util import library_logs
from stackyard._util.signal_handlers import handling

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

    with handling(leave, signal.SIGTERM, signal.SIGHUP):
        yield

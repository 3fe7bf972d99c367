"""SIGTERM, as from a cancelled job, ends a run like Ctrl-C: pytest ends its fixtures, and so removes the stacks."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

from stackyard._util.signal_handlers import handling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


def handled() -> contextlib.AbstractContextManager[None]:
    """Handle SIGTERM during a `with` block, in the main thread and if nothing else handles it."""
    return _with_handler(_interrupt)


def ignored() -> contextlib.AbstractContextManager[None]:
    """Let no SIGTERM break off the removal in a `with` block, in the main thread and if nothing else handles it."""
    return _with_handler(_ignore)


@contextlib.contextmanager
def _with_handler(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    with handling(handler, signal.SIGTERM):
        yield


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, _ignore)  # a second one does not break off the removal
    raise KeyboardInterrupt("SIGTERM")


def _ignore(_number: int, _frame: FrameType | None) -> None: ...

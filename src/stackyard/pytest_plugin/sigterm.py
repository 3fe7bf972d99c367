"""SIGTERM, as from a cancelled job, ends a run like Ctrl-C: pytest ends its fixtures, and so removes the stacks."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


def heeded() -> contextlib.AbstractContextManager[None]:
    """Heed SIGTERM during a `with` block, in the main thread and if nothing else handles it."""
    return _handled(_interrupt)


def passed_over() -> contextlib.AbstractContextManager[None]:
    """Let no SIGTERM break off the removal in a `with` block, in the main thread and if nothing else handles it."""
    return _handled(_pass_over)


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, _pass_over)  # a second one does not break off the removal
    raise KeyboardInterrupt("SIGTERM")


def _pass_over(_number: int, _frame: FrameType | None) -> None: ...

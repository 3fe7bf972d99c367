"""Work in an event loop of its own, even if the caller already runs inside an event loop."""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from stackyard._util.signal_handlers import handling

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType

ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* in an event loop of its own; SIGTERM and SIGHUP end it in order, as Ctrl-C does."""
    return asyncio.run(unwound_first(work))


async def unwound_first(work: Coroutine[Any, Any, T]) -> T:
    """
    Wait for *work*; SIGTERM and SIGHUP end it in order before their handlers run, as asyncio does for Ctrl-C itself.

    A handler that raises in the midst of the event loop would leave a child process that nothing ends, and a task whose
    exception asyncio prints.
    """
    if threading.current_thread() is not threading.main_thread():
        return await work  # signals never get here
    came: list[int] = []
    cancel, loop = cast("asyncio.Task[Any]", asyncio.current_task()).cancel, asyncio.get_running_loop()

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        loop.call_soon_threadsafe(cancel)

    try:
        with handling(note, *(number for number in ENDING if callable(signal.getsignal(number)))):
            return await work
    finally:
        for seen in came:
            signal.raise_signal(seen)


def outside_any_loop(work: Callable[[], T]) -> T:
    """Do *work*, which runs an event loop of its own, even if this thread runs one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()

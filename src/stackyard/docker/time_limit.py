"""How long a process waits for one engine in all: a budget that a silent engine uses up, and that grows back slowly."""

from __future__ import annotations

import contextlib
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTING: Final = "STACKYARD_ENGINE_TIMEOUT"
DEFAULT: Final = 22.0  # seconds; with a program's own start and the restored part it stays below 30
FOR_ONE: Final = 5 / 6  # part of the budget that one request may use, so that a clean-up still gets its turn
FREE: Final = 1.0  # seconds that an answer may take before it counts as slow
RESTORED: Final = 0.05  # seconds that come back in each second of real time


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """
    What a piece of work says about the requests in it.

    Attributes:
        extra: Seconds that each answer takes because it was asked to, such as the grace of a restart.
        alone: Seconds that each request may take instead of its part of the budget; None for the usual limit. A
            silence counts all the same.
        quiet: Whether a stream may say nothing for any time.
    """

    extra: float = 0.0
    alone: float | None = None
    quiet: bool = False


_allowed: ContextVar[Allowance] = ContextVar("allowed", default=Allowance())  # noqa: B039 - it is frozen


@contextlib.contextmanager
def allowing(*, extra: float = 0.0, alone: float | None = None, quiet: bool = False) -> Iterator[None]:
    """Apply an `Allowance` to the requests of a `with` block, in this thread."""
    token = _allowed.set(Allowance(extra=extra, alone=alone, quiet=quiet))
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed() -> Allowance:
    """Return what applies to a request that is sent now."""
    return _allowed.get()


def setting() -> float:
    """
    Return the seconds that a command waits for an engine in all.

    Raises:
        UsageError: If STACKYARD_ENGINE_TIMEOUT is not a number of seconds.
    """
    found = settings.value(SETTING)
    return DEFAULT if found is None else float(found)


class Patience:
    """
    The seconds that are left for waiting on one engine; many threads may share it.

    An answer within a second costs nothing, so a busy engine that keeps answering is never given up. What an answer
    takes longer, and every wait that ends without one, is taken off; waits at the same time count once.

    Args:
        seconds: The whole budget.
        clock: Monotonic seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._spent = 0.0
        self._noted = self._answered = self._unanswered = clock()

    def limit(self, most: float) -> float:
        """Return how many seconds the next request may take, usually at most *most*; 0 when nothing is left."""
        with self._lock:
            self._restore(self._clock())
            left = self.seconds - self._spent
        if (alone := allowed().alone) is not None:
            return max(0.0, min(alone, left + max(0.0, alone - self.seconds)))
        # the last hundredth is no time to get an answer in
        return 0.0 if left <= self.seconds / 100 else min(self.seconds * FOR_ONE, most, left) + allowed().extra

    def note(self, began: float, *, answered: bool) -> None:
        """Take one request into account that began at *began* on the clock and has ended now."""
        if answered and allowed().alone is not None:
            return
        with self._lock:
            now = self._clock()
            self._restore(now)
            if answered:
                self._spent += max(0.0, now - max(began, self._answered) - FREE - allowed().extra)
                self._answered = now
            else:
                self._spent += max(0.0, now - max(began, self._unanswered))
                self._unanswered = now

    def _restore(self, now: float) -> None:
        self._spent = max(0.0, self._spent - RESTORED * (now - self._noted))
        self._noted = now


_shared: dict[str, Patience] = {}
_sharing = threading.Lock()


def shared(url: str) -> Patience:
    """
    Return the budget that everything in this process has for the engine at *url*.

    Raises:
        UsageError: If STACKYARD_ENGINE_TIMEOUT is not a number of seconds.
    """
    seconds = setting()
    with _sharing:
        found = _shared.get(url)
        if found is None or found.seconds != seconds:
            found = _shared[url] = Patience(seconds)
        return found

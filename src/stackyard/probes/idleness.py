"""Whether a container does anything, by the processor time that it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stackyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

QUIET: Final = 1.0  # seconds over which processor time is measured
IDLE: Final = 0.05  # part of one processor that a container which has nothing more to start stays below
STILL: Final = 0.01  # the same over a long time: what a process that only waits, or asks now and then, stays below
SLACK: Final = 0.05  # seconds of processor time that a still container may use at once


class _Used(NamedTuple):
    """
    One measurement.

    Attributes:
        at: When, in monotonic seconds.
        seconds: Processor time since the container's start.
    """

    at: float
    seconds: float


class Idleness:
    """
    The processor time of one container.

    Args:
        used: Returns the seconds of processor time since the container's start.

    Attributes:
        idle: Whether it used next to none over the last `QUIET` seconds; False before that is known.
    """

    def __init__(self, used: Callable[[], Awaitable[float]]) -> None:
        self.idle = False
        self._used = used
        self._last: _Used | None = None
        self._still: _Used | None = None

    @property
    def still_since(self) -> float | None:
        """Monotonic time since when it has done nothing worth mentioning; None before the first measurement."""
        return self._still and self._still.at

    def forget(self) -> None:
        """Begin again: what was measured before does not count."""
        self.idle, self._last, self._still = False, None, None

    async def measure(self, now: float) -> None:
        """Measure, unless that was done less than `QUIET` seconds before *now*."""
        if self._last and now - self._last.at < QUIET:
            return
        try:
            used = _Used(now, await self._used())
        except EngineError:
            self.forget()
            return
        self.idle = self._last is not None and _share(self._last, used) < IDLE
        if self._still is None or used.seconds - self._still.seconds > SLACK + STILL * (now - self._still.at):
            self._still = used
        self._last = used


def _share(before: _Used, after: _Used) -> float:
    """Return the part of one processor that was used between two measurements."""
    return (after.seconds - before.seconds) / (after.at - before.at)

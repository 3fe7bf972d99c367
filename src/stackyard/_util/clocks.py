"""
The two clocks of a host, and one moment on both.

People read the wall clock, and anybody may set it. The boot-time clock counts the seconds since the host was started,
asleep or awake. No program can set it, and it begins at 0 with the next boot. All waits and deadlines use the
boot-time clock, or `time.monotonic` where one process does all the counting.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# A boot-time clock shows less for the first 31 years, a wall clock has shown more since 2001.
LOWEST_WALL: Final = 1e9  # seconds


class Moment(NamedTuple):
    """
    One moment.

    Attributes:
        wall: Seconds since 1970.
        steady: Seconds since the host was started.
        boot: The kernel's id of this boot.
    """

    wall: float
    steady: float
    boot: str

    def is_past(self, time: float) -> bool:
        """Say whether *time*, noted on either clock during this boot, has come."""
        return time <= (self.wall if time >= LOWEST_WALL else self.steady)


def boottime() -> float:
    """Return the seconds since this host was started, those it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def steady_for(clock: Callable[[], float]) -> Callable[[], float]:
    """Return the boot-time clock that belongs to the wall clock *clock*; a made-up one serves as both."""
    return boottime if clock is time.time else clock

"""How often a store is tried that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST: Final = 0.02  # seconds; a store that comes up a moment later must not cost a start-up more than that
LONGEST: Final = 0.25  # seconds
GROWTH: Final = 1.5


def pauses() -> Iterator[float]:
    """Yield how many seconds to wait before each next attempt, for ever."""
    pause = FIRST
    while True:
        yield pause
        pause = min(pause * GROWTH, LONGEST)

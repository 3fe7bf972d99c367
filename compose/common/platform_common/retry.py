"""How long to wait between attempts to reach a store."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST: Final = 0.02  # seconds; a store that comes up a moment later must not cost a start-up more than that
LONGEST: Final = 0.25  # seconds


def delays() -> Iterator[float]:
    """Yield the pauses in seconds, each half as long again as the last, without end."""
    return (min(FIRST * 1.5**step, LONGEST) for step in itertools.chain(range(12), itertools.repeat(12)))

"""What a handful of samples says, and no more than that."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ENOUGH: Final = {95: 20, 99: 100}  # samples below which that percentile is just the largest one
FEWEST: Final = 5  # samples below which resampling says nothing
RESAMPLES: Final = 2000  # of the bootstrap; ten times as many move the ends by less than the samples themselves do


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    Samples of one quantity, in one unit.

    Attributes:
        unit: Of all values.
        n: How many samples.
        median: Their median.
        lowest: The least.
        highest: The largest.
        p95: 95th percentile; None for fewer than 20 samples.
        p99: 99th percentile; None for fewer than 100 samples.
    """

    unit: str
    n: int
    median: float
    lowest: float
    highest: float
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, samples: Sequence[float], unit: str) -> Summary:
        """
        Summarise at least one sample.

        Raises:
            ValueError: If there is none.
        """
        if not samples:
            raise ValueError("no samples")
        ordered = sorted(samples)
        return cls(
            unit=unit, n=len(ordered), median=statistics.median(ordered), lowest=ordered[0], highest=ordered[-1],
            p95=percentile(ordered, 95), p99=percentile(ordered, 99),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return the sample that *percent* of all do not exceed (nearest rank); None if they are too few to say."""
    if len(ordered) < ENOUGH[percent]:
        return None
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """
    Return the median's 95 % bootstrap interval (percentile method); None for fewer than five samples.

    The random numbers begin alike each time, so the same samples give the same interval.
    """
    if len(samples) < FEWEST:
        return None
    chance = random.Random(len(samples))  # noqa: S311 - statistics, not secrets
    medians = sorted(statistics.median(chance.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]

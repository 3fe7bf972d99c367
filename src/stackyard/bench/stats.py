"""Statistics of a few samples: percentiles, intervals, and whether a difference is likely to be chance."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ENOUGH: Final = {95: 20, 99: 100}  # samples below which that percentile is just the largest one
FEWEST: Final = 5  # samples below which resampling says nothing
EXACT: Final = 900  # products of the two sizes up to which the exact distribution is counted out
RESAMPLES: Final = 2000  # of the bootstrap; ten times as many move the ends by less than the samples themselves do


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return the sample that *percent* of all do not exceed (nearest rank); None if they are too few to say."""
    if len(ordered) < ENOUGH[percent]:
        return None
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """
    Return the median's 95 % bootstrap interval (percentile method); None for fewer than five samples.

    The random numbers are the same each time, so the same samples give the same interval.
    """
    if len(samples) < FEWEST:
        return None
    chance = random.Random(len(samples))  # noqa: S311 - statistics, not secrets
    medians = sorted(statistics.median(chance.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]


def mann_whitney(base: Sequence[float], candidate: Sequence[float]) -> float:
    """
    Return the probability that *candidate* would look as much greater than *base* if both came from the same source.

    One-sided Mann-Whitney U test (Mann and Whitney 1947): exact for few samples without ties, else the normal
    approximation with correction for ties and continuity.

    Raises:
        ValueError: If one of them is empty.
    """
    if not base or not candidate:
        raise ValueError("no samples")
    smaller, larger = len(base), len(candidate)
    u = sum((ours > theirs) + (ours == theirs) / 2 for ours in candidate for theirs in base)
    pooled = [*base, *candidate]
    if len(set(pooled)) == len(pooled) and smaller * larger <= EXACT:
        ways = _u_distribution(smaller, larger)
        return sum(ways[math.ceil(u) :]) / sum(ways)
    n = len(pooled)
    ties = sum(count**3 - count for count in Counter(pooled).values())
    spread = math.sqrt(smaller * larger / 12 * (n + 1 - ties / (n * (n - 1))))
    if spread == 0:
        return 1.0  # all equal
    return statistics.NormalDist().cdf(-(u - smaller * larger / 2 - 0.5) / spread)


def _u_distribution(first: int, second: int) -> list[int]:
    """Count, for each value of U, the orders of *first* and *second* samples that give it."""
    ways = [1] + [0] * (first * second)
    for size in range(1, first + 1):  # the Gaussian binomial coefficient, one factor after another
        for total in range(len(ways) - 1, second + size - 1, -1):
            ways[total] -= ways[total - second - size]
        for total in range(size, len(ways)):
            ways[total] += ways[total - size]
    return ways

"""
Two runs compared, and whether the newer one is slower.

A figure of one run means little on a machine that is sometimes busy. So if both runs measured plain Compose, too,
each sample is first divided by that run's own median of plain Compose: what slows both cancels out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, how
from stackyard.bench import machine
from stackyard.bench.stats import mann_whitney
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.bench.history import History
    from stackyard.bench.records import Result, Run

CHANCE: Final = 0.01  # probability below which a difference is no accident
FEWEST: Final = 5  # samples on each side below which no difference can be that sure
# what must not become slower: suite and row, and the row that shows how fast the machine was
GUARDED: Final[dict[tuple[str, str], str | None]] = {
    ("startup", "stackyard"): "compose-100ms",
    ("cleanup", "stackyard"): "compose",
    ("reset", "reset"): None,
    ("pool", "pool"): None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    One quantity in two runs.

    Attributes:
        what: In a reader's words.
        unit: Of both medians; x where they are ratios to plain Compose.
        chance: Probability that the candidate looks this much worse by accident; None for too few samples.
        relative: True when both are ratios to plain Compose in their own run.
    """

    suite: str
    row: str
    what: str
    unit: str
    base: float
    candidate: float
    ratio: float
    chance: float | None
    relative: bool = False

    def worse(self, tolerance: float) -> bool:
        """Tell whether the candidate is worse by more than *tolerance* (0.15 is 15 %), and not by accident."""
        return self.ratio > 1 + tolerance and self.chance is not None and self.chance < CHANCE


def compare(base: Run, candidate: Run) -> list[Comparison]:
    """Compare every quantity that both runs have, as it was measured."""
    pairs = ((theirs, candidate.find(theirs.suite, theirs.row)) for theirs in base.results)
    return [made for theirs, ours in pairs if ours and (made := _compared(theirs, ours))]


def guard(base: Run, candidate: Run) -> list[Comparison]:
    """
    Compare what must not become slower, relative to plain Compose if both runs have it.

    Raises:
        UsageError: If the two have nothing of it in common.
    """
    found = list(_guarded(base, candidate))
    if not found:
        suites = ", ".join(sorted({suite for suite, _ in GUARDED}))
        raise UsageError(f"runs {base.id} and {candidate.id} have no {suites} in common; {how(Action.BENCH_STARTS)}")
    return found


def _guarded(base: Run, candidate: Run) -> Iterator[Comparison]:
    for (suite, row), reference in GUARDED.items():
        theirs, ours = base.find(suite, row), candidate.find(suite, row)
        if theirs is None or ours is None:
            continue
        yardsticks = [run.find(suite, reference) if reference else None for run in (base, candidate)]
        medians = [stick.median for stick in yardsticks if stick and stick.median]
        made = _compared(theirs, ours, *medians) if len(medians) == len(yardsticks) else _compared(theirs, ours)
        if made:
            yield made


def _compared(theirs: Result, ours: Result, *yardsticks: float) -> Comparison | None:
    if not theirs.median or ours.median is None:
        return None
    by_base, by_candidate = yardsticks or (1.0, 1.0)
    before, after = [s / by_base for s in theirs.samples], [s / by_candidate for s in ours.samples]
    base, candidate = theirs.median / by_base, ours.median / by_candidate
    enough = min(len(before), len(after)) >= FEWEST
    worse = (before, after) if ours.better == "less" else (after, before)
    return Comparison(
        suite=ours.suite, row=ours.row, what=f"{ours.subject}, {ours.what}", unit="x" if yardsticks else ours.unit,
        base=base, candidate=candidate, ratio=candidate / base, relative=bool(yardsticks),
        chance=mann_whitney(*worse) if enough else None,
    )  # fmt: skip


def opponents(history: History, against: str, candidate: str | None = None) -> tuple[Run, Run]:
    """
    Return the newest run of *against*, an id, a commit or a branch, and the run to judge.

    That is the one of *candidate*, else the newest one that has guarded figures.

    Raises:
        UsageError: If one of them is not there.
    """
    runs = [run for run in reversed(history.runs()) if _has_guarded(run)]
    if not (candidate or runs):
        raise UsageError(f"no benchmark run has figures to guard; {how(Action.BENCH_STARTS)}")
    judged = history.find(candidate, machine.commit(candidate)) if candidate else runs[0]
    commit = machine.commit(against)
    for run in runs:
        named = run.id.startswith(against) or (commit is not None and run.commit == commit)
        if named and run.id != judged.id:
            return run, judged
    raise UsageError(
        f"no other benchmark run of {against[:60]!r} to hold run {judged.id} against; check it out and "
        f"{how(Action.BENCH_STARTS)}"
    )


def _has_guarded(run: Run) -> bool:
    return any((result.suite, result.row) in GUARDED and result.samples for result in run.results)


def parse_tolerance(text: str) -> float:
    """
    Return a tolerance such as `15%` or `0.15` as a fraction.

    Raises:
        UsageError: If it is anything else, or not from 0 to 100 %.
    """
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(%?)", text, re.ASCII)
    value = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--tolerance must be from 0% to 100% such as 15%, got {text[:40]!r}")
    return value

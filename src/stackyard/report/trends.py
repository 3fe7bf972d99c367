"""How the promised figures changed from run to run, each as a share of its promise, on one shared scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard.report import figures, sections
from stackyard.report.wording import change, figure, promise, quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.bench.records import Result, Run
    from stackyard.report.inputs import Facts

RECENT: Final = 60  # runs that a trend shows
MIN_UPPER_LIMIT, MAX_UPPER_LIMIT = 1.25, 2.5  # bounds for the top of the shared scale
SHOWN: Final = 10  # figures that the text next to a trend lists
COLUMNS: Final = ("first", "newest", "change", "runs", "promised")


def history(facts: Facts) -> list[sections.Line]:
    """Return a line for each promised figure: how it went over the runs on a machine like the newest run's."""
    runs = comparable(facts)
    kept = [(row, values) for row in sections.main_figures(facts) if row.target and row.better == "less"
            and len(values := _values(runs, row)) > 1]  # fmt: skip
    shares = [[value / (row.target or 1.0) for value in values] for row, values in kept]
    upper_limit = (
        min(max(MIN_UPPER_LIMIT, *(max(each) for each in shares)), MAX_UPPER_LIMIT) * 1.05
        if shares
        else MIN_UPPER_LIMIT
    )
    return [
        sections.Line(
            label=sections.name(row), plot=figures.trend(part, upper_limit, _description(row, values)),
            cells=(quantity(values[0], row.unit), figure(row), change(values[0], values[-1]),
                   str(len(values)), promise(row)),
        )
        for (row, values), part in zip(kept, shares, strict=True)
    ]  # fmt: skip


def comparable(facts: Facts) -> list[Run]:
    """Return the last runs on a machine like the newest run's: figures from different machines cannot be compared."""
    if not facts.runs:
        return []
    here = facts.runs[-1].machine
    return [run for run in facts.runs if (run.machine.cpu, run.machine.cpus) == (here.cpu, here.cpus)][-RECENT:]


def _description(row: Result, values: Sequence[float]) -> str:
    shown = ", ".join(quantity(value, row.unit) for value in values[-SHOWN:])
    return f"{sections.name(row)}, {promise(row)}, {len(values)} runs: {shown}"


def _values(runs: Sequence[Run], row: Result) -> list[float]:
    found = [run.find(row.suite, row.row) for run in runs]
    return [result.figure for result in found if result is not None and result.figure is not None]

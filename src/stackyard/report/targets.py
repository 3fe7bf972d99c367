"""Promised and measured values side by side: each on a scale that ends just above its own limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard.report import figures, sections
from stackyard.report.wording import figure, margin, promise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from stackyard.bench.records import Result, Run
    from stackyard.report.inputs import Facts

END: Final = 1.25  # where a scale ends, in limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """
    One promise and its figure.

    Attributes:
        anchor: Its name in the address of the page.
        label: What it is about.
        part: Anchor of the part of the page that has all figures of it; empty without one.
        plot: Its bar; None where there is no figure, or nothing but 0 is promised.
        margin: How far the one is from the other.
        verdict: PASS or FAIL; empty when it was not measured.
        reason: Why there is no figure, or what to know about it.
        source: The commit and day it was measured; empty when it was not.
    """

    anchor: str
    label: str
    part: str
    plot: Markup | None
    measured: str
    promised: str
    margin: str
    verdict: str
    reason: str
    source: str


def requirements(facts: Facts) -> list[Promise]:
    """Return what is promised of every stack, each with its newest figure."""
    return [
        _made(f"requirement-{number}", row.what, "", row, run)
        for number, (row, run) in enumerate(facts.requirements(), 1)
    ]


def targets(facts: Facts) -> list[Promise]:
    """Return stackyard's own targets, each with the figure of the newest run of its part."""
    return [
        _made(f"target-{number}", sections.name(row), row.suite, row, facts.newest(row.suite))
        for number, row in enumerate(sections.main_figures(facts), 1)
    ]


def missed(promises: Iterable[Promise]) -> list[Promise]:
    """Return those that were not kept."""
    return [each for each in promises if each.verdict == "FAIL"]


def sources(promises: Sequence[Promise]) -> list[str]:
    """Return the runs that the figures come from, each once, in the order of the promises."""
    return list(dict.fromkeys(each.source for each in promises if each.source))


def _made(anchor: str, label: str, part: str, row: Result, run: Run | None) -> Promise:
    measured = row.verdict is not None
    return Promise(
        anchor=anchor, label=label, part=part, plot=_plot(row), measured=figure(row), promised=promise(row),
        margin=margin(row), verdict=row.verdict or "", reason=row.reason,
        source=sections.source(run) if run and measured else "",
    )  # fmt: skip


def _plot(row: Result) -> Markup | None:
    if row.figure is None or not row.target or row.better == "more":
        return None
    share = row.figure / row.target
    bar = figures.Bar(value=share, limit=1.0, tone="bad" if row.verdict == "FAIL" else "own")
    return figures.bar(bar, END, f"{row.what}: {figure(row)}, {promise(row)}, {margin(row)}")

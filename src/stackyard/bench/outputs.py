"""A run as text: the machine, a table for each suite, the waterfall of one start, notes, and what missed its target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard._util.tables import (
    format_bound,
    format_count,
    format_figure,
    format_range,
    format_seconds,
    format_size,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackyard.bench.records import Machine, Result, Run, Step

WIDTH: Final = 50  # characters of a waterfall's longest bar
HEADERS: Final = ("who", "what", "figure", "95 % interval", "p95", "n", "failed", "target", "")
ALIGN: Final = ("left", "left", "right", "right", "right", "right", "right", "right", "left")
NOT_MEASURED: Final = "not measured"


def text(run: Run) -> str:
    """Return all of *run* as lines of text."""
    parts = [machine(run.machine, run), *_suites(run)]
    if each := stacks(run):
        parts.append(each)
    if run.waterfall:
        parts.append("One start, the median one:\n" + waterfall(run.waterfall))
    if run.notes:
        parts.append("\n".join(f"note: {note}" for note in run.notes))
    parts.append(verdict(run))
    return "\n\n".join(parts)


def machine(given: Machine, run: Run) -> str:
    """Return what the run was measured on, and of which commit."""
    hardware = f"{given.cpus} x {given.cpu or 'unknown processor'}, {format_size(given.memory_bytes)}"
    system = f"{given.system or 'unknown system'}, kernel {given.kernel}"
    rules = f" ({given.packet_filter})" if given.packet_filter else ""
    engine = (
        f"Docker Engine {given.engine or 'unknown'}{rules}, Compose {given.compose or 'unknown'}, Python {given.python}"
    )
    own = f"stackyard {run.release}, {run.source}, load before {given.load:.2f}"
    if given.pressure is not None:
        own += f", something waited for a processor {given.pressure:.0f} % of the time"
    return f"{hardware}, {system}\n{engine}, {own}\nrun {run.id}, {run.when}, {run.depth}, {run.seconds:.0f} s"


def _suites(run: Run) -> Iterator[str]:
    for suite in dict.fromkeys(result.suite for result in run.results):
        rows = [_row(result) for result in run.results if result.suite == suite]
        yield "\n".join([suite, _table(rows), *_reasons(run, suite)])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return the table of a suite without the columns in which nothing stands."""
    kept = [place for place in range(len(HEADERS)) if any(row[place] for row in rows)]
    heads, sides, *body = [[row[place] for place in kept] for row in (HEADERS, ALIGN, *rows)]
    return table(body, heads, align=sides)


def _reasons(run: Run, suite: str) -> Iterator[str]:
    for result in run.results:
        if result.suite == suite and result.reason and (result.figure is None or result.failed):
            yield f"{result.subject}, {result.what}: {result.reason}"


def stacks(run: Run) -> str:
    """Return the largest crowd's stacks one by one; nothing where there was no crowd or not all of it was ready."""
    sizes = [result.at for result in run.results if result.suite == "parallel" and result.at is not None]
    if not sizes:
        return ""
    size = int(max(sizes))
    found = [run.find("parallel", f"{row}-{size}") for row in ("start", "memory", "removal")]
    columns = [result.samples for result in found if result is not None and result.n == size]
    if len(columns) < len(found):
        return ""
    rows = [
        [str(number), format_seconds(start), format_size(memory), format_seconds(removal)]
        for number, (start, memory, removal) in enumerate(zip(*columns, strict=True), 1)
    ]
    return table(rows, ["stack", "start-up", "memory", "clean-up"], align=["right"] * 4)


def _row(result: Result) -> list[str]:
    median = result.judged == "median"  # the interval is not the worst sample's
    return [
        result.who, result.what, figure(result),
        format_range(result.low, result.high, result.unit) if median else "",
        "" if result.p95 is None else format_figure(result.p95, result.unit), str(result.n), str(result.failed or ""),
        "" if result.target is None else f"{'<=' if result.better == 'less' else '>='} {_target(result)}",
        result.verdict or "",
    ]  # fmt: skip


def figure(result: Result) -> str:
    """Return a result's figure with its unit; one that missed its target has as many digits as show that."""
    if result.figure is None:
        return NOT_MEASURED
    return format_figure(result.figure, result.unit, beside=result.target if result.verdict == "FAIL" else None)


def _target(result: Result) -> str:
    return "" if result.target is None else format_bound(result.target, result.unit)


def waterfall(steps: Sequence[Step]) -> str:
    """Draw one start, a bar for each step, in the order in which they began."""
    end = max(step.end for step in steps) or 1.0
    longest = max(len(step.name) for step in steps)
    return "\n".join(
        f"{step.name:<{longest}} {_bar(step, end)} {step.begin:.3f} to {step.end:.3f} s"
        for step in sorted(steps, key=lambda step: (step.begin, step.end))
    )


def _bar(step: Step, end: float) -> str:
    first, last = round(WIDTH * step.begin / end), round(WIDTH * step.end / end)
    return f"{' ' * first}{'#' * max(1, last - first)}".ljust(WIDTH + 1)


def verdict(run: Run) -> str:
    """Return how many of the measured targets were met, and each that was missed with the command that measures it."""
    aimed = [result for result in run.results if result.verdict]
    if not any(result.target is not None for result in run.results):
        return "none of these figures has a target"
    open_ = sum(result.target is not None and result.verdict is None for result in run.results)
    lines = [
        f"{len(aimed) - len(run.failures)} of {format_count(len(aimed), 'measured target')} met"
        + (f", {open_} {NOT_MEASURED}" if open_ else "")
    ]
    lines += [
        f"missed: {result.who}, {result.what}: {figure(result)}, target {_target(result)}; {result.command}"
        for result in run.failures
    ]
    return "\n".join(lines)

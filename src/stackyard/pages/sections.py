"""The parts of the report page: which figures stand together, and whether bars, spreads or a curve show them best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from stackyard.pages import figures
from stackyard.pages.words import change, interval, promise, quantity, ratio
from stackyard.report import NOTHING, scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from markupsafe import Markup

    from stackyard.bench.records import Result, Run
    from stackyard.pages.inputs import Facts

    Column = tuple[str, Callable[[Result], str]]  # its head, and what it says of a result

Kind = Literal["bars", "share", "spread", "curve"]

# Title and first sentence of each suite, in the order of the page; a suite that is not named here comes last.
SUITES: Final = {
    "startup": ("Start-up beside peers", "The same four services, started in turn by each, until all of them answer."),
    "cleanup": ("Clean-up beside peers", "From the order to remove until nothing of the stack is listed any more."),
    "services": ("Services", "Each service by itself: time to ready, memory, speed."),
    "footprint": ("Memory of a stack", "What one more stack takes of the machine."),
    "parallel": ("Many stacks at once", "Stacks started together on this one machine."),
    "pool": ("Warm pool", "Taking a stack that stands ready instead of starting one."),
    "reset": ("Reset", "Giving a used stack back its first state instead of starting another."),
    "leases": ("Leases", "Ports, subnet and name for a run, from one book per host."),
}
SPREADS: Final = frozenset({"pool", "reset"})  # where the slowest of many matters more than a peer
OWN: Final = "stackyard"
LIMITED: Final = frozenset({"services"})  # its targets are limits the kernel keeps, not what a stack is judged by
MANY: Final = 3  # groups, beyond which they stand side by side
RECENT: Final = 60  # runs that a sparkline shows
TONES: Final = ("render", "network", "create", "start", "ready")  # kinds of steps that have a colour of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    One line of a figure that is also a table.

    Attributes:
        label: Whose figure it is.
        plot: Its drawing.
        cells: What stands beside it, a text for each of the group's columns.
        own: True where it is stackyard's own figure among others'.
    """

    label: str
    plot: Markup
    cells: tuple[str, ...]
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """
    Figures of one kind.

    Attributes:
        title: What was measured.
        kind: bars, share and spread are lines; curve is one drawing. The bars of share each have a scale of their own.
        head: What the lines' labels are; nothing where the title says it.
        columns: Heads of the lines' cells.
        lines: What is drawn, line by line.
        drawing: The curve.
        note: What to know when reading it.
    """

    title: str
    kind: Kind
    head: str = ""
    columns: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    drawing: Markup | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """
    One part of the page.

    Attributes:
        anchor: Its name in the address.
        title: Its heading.
        lead: One or two sentences.
        source: The run it comes from.
        groups: The figures.
        paired: True where two groups fit side by side.
        heads: Heads of the table of every figure.
        details: Its rows.
    """

    anchor: str
    title: str
    lead: str
    source: str = ""
    groups: tuple[Group, ...] = ()
    paired: bool = False
    heads: tuple[str, ...] = ()
    details: tuple[tuple[str, ...], ...] = ()


def sections(facts: Facts) -> list[Section]:
    """Return a section for every suite that was measured, and the waterfall behind the start-up."""
    made = [_suite(facts, name) for name in _names(facts)]
    fall = waterfall(facts)
    if fall:
        made.insert(1 if made and made[0].anchor == "startup" else 0, fall)
    return made


def _names(facts: Facts) -> list[str]:
    """Return the measured suites in the order of the page; the requirements have a table of their own."""
    strange = [name for name in facts.suites if name not in SUITES and name != "requirements"]
    return [*(name for name in SUITES if name in facts.suites), *strange]


def _suite(facts: Facts, name: str) -> Section:
    title, lead = SUITES.get(name, (name.capitalize(), ""))
    results = facts.results(name)
    heads, rows = _details(results)
    groups = tuple(_groups(results, "spread" if name in SPREADS else "bars"))
    return Section(
        anchor=name, title=title, lead=lead, source=source(facts.newest(name)), groups=groups,
        paired=len(groups) > MANY or all(group.kind == "curve" for group in groups),
        heads=heads, details=tuple(rows),
    )  # fmt: skip


def source(run: Run | None) -> str:
    """Return in a line which run a figure comes from."""
    return f"run {run.id} of {moment(run.when)}, commit {commit(run)}, {run.depth}" if run else ""


def commit(run: Run) -> str:
    """Return the short name of the commit that was measured."""
    return f"{run.commit[:10] if run.commit else 'unknown'}{' with changes' if run.changed else ''}"


def moment(when: str) -> str:
    """Return an ISO 8601 time to the minute, as people write it."""
    return when[:16].replace("T", " ") + " UTC"


def _details(results: Sequence[Result]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the heads and the rows of the table of all results."""
    known: list[Column] = [
        ("of", lambda row: row.subject), ("what", lambda row: row.what),
        ("at", lambda row: "" if row.at is None else f"{row.at:g}"), ("n", lambda row: str(row.n)),
        ("failed", lambda row: str(row.failed or "")), ("median", lambda row: quantity(row.median, row.unit)),
        ("95 % interval", interval), ("p95", lambda row: quantity(row.p95, row.unit)),
        ("p99", lambda row: quantity(row.p99, row.unit)), ("promised", promise),
        ("verdict", lambda row: row.verdict or ""), ("note", lambda row: row.reason),
    ]  # fmt: skip
    return _filled(known, results)


def _filled(known: Iterable[Column], rows: Sequence[Result]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the heads and the cells of each row; a column in which no row has anything is left out."""
    kept = [(head, texts) for head, cell in known if set(texts := [cell(row) for row in rows]) - {"", NOTHING}]
    return tuple(head for head, _ in kept), list(zip(*(texts for _, texts in kept), strict=True))


def name(result: Result) -> str:
    """Return what a figure is, and whose where it is not simply stackyard's."""
    at = "" if result.at is None else f"{result.at:g}"
    if result.subject == OWN:
        return result.what + (f" at {at}" if at else "")
    return f"{at} {result.subject}: {result.what}".lstrip()


def _groups(results: Sequence[Result], kind: Kind) -> Iterable[Group]:
    """Draw what can be compared; a single figure is left to the table."""
    for (what, _unit), rows in _by_quantity(row for row in results if row.at is None).items():
        if len(rows) > 1 or kind == "spread":
            limited = rows[0].suite in LIMITED and all(row.target for row in rows)
            yield _lines(what, "share" if limited else kind, rows)
    for (what, unit), rows in _by_quantity(row for row in results if row.at is not None).items():
        for subject in dict.fromkeys(row.subject for row in rows):
            yield from _curve(what, unit, [row for row in rows if row.subject == subject])


def _by_quantity(results: Iterable[Result]) -> dict[tuple[str, str], list[Result]]:
    """Group the results that have a figure by what was measured and its unit; zeros alone are not worth drawing."""
    found: dict[tuple[str, str], list[Result]] = {}
    for row in results:
        if row.median is not None:
            found.setdefault((row.what, row.unit), []).append(row)
    return {key: rows for key, rows in found.items() if any(row.median for row in rows)}


def _lines(what: str, kind: Kind, rows: Sequence[Result]) -> Group:
    peers = any(not row.subject.startswith(OWN) for row in rows)
    base = next((row.median for row in rows if peers and row.subject.startswith(OWN)), None)
    bars = [_bar(row, kind, compared=base is not None) for row in rows]
    longest = figures.top(bars)
    ends = [row.target or longest if kind == "share" else longest for row in rows]
    heads, cells = _columns(kind, rows, base)
    return Group(
        title=what, kind=kind, columns=heads,
        lines=tuple(
            Line(label=label, plot=figures.bar(bar, end, _spoken(row)), own=row.subject.startswith(OWN), cells=texts)
            for row, bar, end, label, texts in zip(rows, bars, ends, _labels(rows), cells, strict=True)
        ),
    )  # fmt: skip


def _bar(row: Result, kind: Kind, *, compared: bool) -> figures.Bar:
    limit = row.target if row.better == "less" else None
    if kind == "spread":
        marks = [place for place in (row.p95, row.p99) if place is not None]
        return figures.Bar(value=row.median or 0.0, limit=limit, marks=marks)
    tone = "peer" if compared and not row.subject.startswith(OWN) else "own"
    return figures.Bar(value=row.median or 0.0, low=row.low, high=row.high, limit=limit, tone=tone)


def _columns(kind: Kind, rows: Sequence[Result], base: float | None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the heads and the cells of each row of a figure."""
    judged: list[Column] = [("promised", promise), ("verdict", lambda row: row.verdict or "")]
    known: dict[Kind, list[Column]] = {
        "bars": [("95 % interval", interval), (f"to {OWN}", lambda row: ratio(row.median, base)), *judged],
        "share": [
            ("limit", lambda row: quantity(row.target, row.unit)),
            ("used", lambda row: f"{(row.median or 0.0) / (row.target or 1.0):.0%}"),
        ],
        "spread": [
            ("p95", lambda row: quantity(row.p95, row.unit)), ("p99", lambda row: quantity(row.p99, row.unit)),
            ("n", lambda row: str(row.n)), *judged,
        ],
    }  # fmt: skip
    return _filled([("median", lambda row: quantity(row.median, row.unit)), *known[kind]], rows)


def _curve(what: str, unit: str, rows: Sequence[Result]) -> Iterable[Group]:
    factor, name = scale(max(row.median or 0.0 for row in rows), unit)
    points = [_point(row, factor) for row in rows]
    if len({point.x for point in points}) > 1:
        words = "; ".join(f"{quantity(row.median, unit)} at {row.at or 0:g}" for row in rows)
        title = f"{rows[0].subject}: {what}" if rows[0].subject != OWN else what
        across = "how many stacks at once" if rows[0].suite == "parallel" else "how many"
        limit = next((row.target * factor for row in rows if row.target is not None and row.better == "less"), None)
        yield Group(
            title=f"{title}{f' ({name.strip()})' if name else ''}", kind="curve",
            drawing=figures.curve(points, title, words, limit=limit), note=f"Across: {across}. {words}.",
        )  # fmt: skip


def _point(row: Result, factor: float) -> figures.Point:
    low, high = (None if end is None else end * factor for end in (row.low, row.high))
    return figures.Point(x=row.at or 0.0, y=(row.median or 0.0) * factor, low=low, high=high)


def _labels(rows: Sequence[Result]) -> list[str]:
    """Return the rows' subjects, each with its row's name where another has the same."""
    subjects = [row.subject for row in rows]
    return [row.subject if subjects.count(row.subject) == 1 else f"{row.subject} ({row.row})" for row in rows]


def _spoken(row: Result) -> str:
    ends = f", 95 % interval {interval(row)}" if row.low is not None else ""
    bound = f", promised {promise(row)}" if row.target is not None else ""
    return f"{row.subject}: {quantity(row.median, row.unit)}{ends}{bound}, n = {row.n}"


def waterfall(facts: Facts) -> Section | None:
    """Return the steps of the newest start that was taken apart; None where none was."""
    run = facts.waterfall()
    if run is None:
        return None
    end = max(step.end for step in run.waterfall) or 1.0
    lines = tuple(
        Line(
            label=step.name,
            plot=figures.bar(
                figures.Bar(begin=step.begin, value=step.end, tone=_tone(step.name)), end * 1.02,
                f"{step.name}: from {milliseconds(step.begin)} to {milliseconds(step.end)}",
            ),
            cells=(milliseconds(step.begin), milliseconds(step.end), milliseconds(step.end - step.begin)),
        )
        for step in sorted(run.waterfall, key=lambda step: (step.begin, step.end))
    )  # fmt: skip
    return Section(
        anchor="waterfall", title="Where a start spends its time", source=source(run),
        lead=f"One start of {quantity(end, 's')}, the one in the middle of those measured, step by step.",
        groups=(Group(title="", kind="bars", head="step", columns=("begins", "ends", "takes"), lines=lines),),
    )  # fmt: skip


def _tone(name: str) -> str:
    kind = name.split(" ", 1)[0]
    return str(TONES.index(kind) + 1) if kind in TONES else "own"


def milliseconds(seconds: float) -> str:
    """Return a duration within a start; finer than a millisecond nothing there is."""
    return f"{seconds * 1000:,.0f} ms"


def history(facts: Facts) -> list[Line]:
    """Return a line for each main figure: how it went over the runs on a machine like the newest run's."""
    runs = comparable(facts)
    rows = [row for row in main_figures(facts) if _is_furthest(facts, row)]
    kept = [(row, values) for row in rows if len(values := _values(runs, row)) > 1]
    return [
        Line(
            label=name(row),
            plot=figures.sparkline(values, _course(row, values)),
            cells=(quantity(values[0], row.unit), quantity(values[-1], row.unit), change(values[0], values[-1]),
                   str(len(values)), promise(row)),
        )
        for row, values in kept
    ]  # fmt: skip


def _course(row: Result, values: Sequence[float]) -> str:
    return f"{row.what}, {len(values)} runs: " + ", ".join(quantity(value, row.unit) for value in values[-10:])


def _is_furthest(facts: Facts, row: Result) -> bool:
    """Tell whether a figure is on no curve, or at its end: that one stands for the whole curve."""
    others = [other.at for other in facts.results(row.suite) if (other.what, other.subject) == (row.what, row.subject)]
    return row.at is None or row.at == max(at for at in others if at is not None)


def comparable(facts: Facts) -> list[Run]:
    """Return the last runs on a machine like the newest run's: figures of different ones say nothing together."""
    if not facts.runs:
        return []
    here = facts.runs[-1].machine
    return [run for run in facts.runs if (run.machine.cpu, run.machine.cpus) == (here.cpu, here.cpus)][-RECENT:]


def main_figures(facts: Facts) -> list[Result]:
    """Return the newest result of every row that promises something, the suites in the order of the page."""
    names = [name for name in _names(facts) if name not in LIMITED]
    return [row for name in names for row in facts.results(name) if row.target is not None]


def _values(runs: Sequence[Run], row: Result) -> list[float]:
    found = [run.find(row.suite, row.row) for run in runs]
    return [result.figure for result in found if result is not None and result.figure is not None]

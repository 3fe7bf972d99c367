"""The parts of the report page: which figures belong together, and whether bars, spreads or a curve show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from msgspec.structs import replace

from stackyard._util.tables import NOTHING, scale
from stackyard.report import figures
from stackyard.report.wording import interval, promise, quantity, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from markupsafe import Markup

    from stackyard.bench.records import Result, Run
    from stackyard.report.inputs import Facts

    Column = tuple[str, Callable[[Result], str]]  # its head, and what it says of a result

Kind = Literal["bars", "share", "spread", "curve"]

# Title and first sentence of each suite, in the order of the page; a suite that is not named here comes last.
SUITES: Final = {
    "startup": ("Start-up", "Each tool starts the same four services, in turn, until all of them answer."),
    "cleanup": ("Clean-up", "Each tool removes them again, until the engine lists nothing of them."),
    "parallel": ("Many stacks at once", "Stacks that are started together on this one machine."),
    "commands": ("Whole commands", "What a person types, from Enter to the prompt: Python's own start is part of it."),
    "services": ("Services", "Each service alone: how soon it is ready, what it uses, how fast it answers."),
    "projects": ("Other people's projects", "Whole commands that start and remove Compose projects of any kind."),
    "footprint": ("Memory of a stack", "The memory that the machine gives for one more stack."),
    "pool": ("Warm pool", "A run takes a stack that is ready instead of starting one."),
    "reset": ("Reset", "A used stack gets its first state back, without a restart."),
    "leases": ("Leases", "A run gets ports, a subnet and a name from the host's lease book."),
}
SPREADS: Final = frozenset({"pool", "reset"})  # where the slowest of many matters more than a peer
BEFORE_STEPS: Final = frozenset({"startup", "cleanup", "parallel"})  # what a reader looks for first
OWN: Final = "stackyard"
COMMANDS: Final = frozenset({"commands", "projects"})  # suites whose subjects are commands
BY_HAND: Final = frozenset({"compose-up", "compose-down", "by-hand"})  # what one types without stackyard
BESIDE: Final = {"s": "as long", "bytes": "as much"}  # what follows a peer's figure in multiples of stackyard's
FORMER_OWN: Final = "stacks at once"  # stackyard's name in earlier runs of many stacks
FORMER_LIMIT: Final = "memory limit"  # a row of earlier runs that repeats what others are held to
LIMITED: Final = frozenset({"services"})  # its targets are limits the kernel keeps, not what a stack is judged by
MANY: Final = 3  # groups, beyond which they stand side by side
NARROW: Final = 20  # characters of the longest label that still fits beside another group
# kinds of steps that have a colour of their own, and what happens in them
STEPS: Final = {
    "render": "Compose reads the file", "network": "the engine makes the network", "create": "it creates a container",
    "start": "it starts the container", "ready": "the service starts, until its probe passes",
}  # fmt: skip
FIGURES: Final = frozenset({"at", "n", "failed", "median", "95 % interval", "p95", "p99", "promised"})  # to the right


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a figure that is also a table; *cells* are texts, one for each of the group's columns."""

    label: str
    plot: Markup
    cells: tuple[str, ...]
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """
    Figures of one kind.

    Attributes:
        kind: bars, share and spread are lines; curve is one drawing. The bars of share each have a scale of their own.
        head: What the lines' labels are; nothing where the title says it.
        columns: Heads of the lines' cells.
        lines: What is drawn, line by line.
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
        lead: One or two sentences.
        source: The run it comes from.
        command: What measures it again.
        paired: True where two groups fit side by side.
        heads: Heads of the table of every figure.
        legend: Colours of the drawing, each with what it means.
    """

    anchor: str
    title: str
    lead: str
    source: str = ""
    command: str = ""
    groups: tuple[Group, ...] = ()
    paired: bool = False
    heads: tuple[str, ...] = ()
    details: tuple[tuple[str, ...], ...] = ()
    legend: tuple[tuple[str, str], ...] = ()


def sections(facts: Facts) -> list[Section]:
    """Return a section for every suite that was measured, and the waterfall behind the start-up."""
    made = [_suite(facts, name) for name in _names(facts)]
    fall = waterfall(facts)
    if fall:
        made.insert(sum(part.anchor in BEFORE_STEPS for part in made), fall)
    return made


def _names(facts: Facts) -> list[str]:
    """Return the measured suites in the order of the page; the requirements have a table of their own."""
    strange = [name for name in facts.suites if name not in SUITES and name != "requirements"]
    return [*(name for name in SUITES if name in facts.suites), *strange]


def _suite(facts: Facts, name: str) -> Section:
    title, lead = SUITES.get(name, (name.capitalize(), ""))
    results = [row for row in facts.results(name) if row.what != FORMER_LIMIT]
    heads, rows = _details(results)
    groups = tuple(_groups(results, "spread" if name in SPREADS else "bars"))
    return Section(
        anchor=name, title=title, lead=f"{lead}{_sizes(results)}", source=source(facts.newest(name)),
        command=next((row.command for row in results if row.command), ""), groups=groups,
        paired=all(len(line.label) <= NARROW for group in groups for line in group.lines)
        and (len(groups) > MANY or all(group.kind == "curve" for group in groups)),
        heads=heads, details=tuple(rows),
    )  # fmt: skip


def _sizes(results: Sequence[Result]) -> str:
    """Say how many stacks there were at once, where every figure is of the same number."""
    sizes = {row.at for row in results if row.at is not None}
    return f" Here there were {min(sizes):g}." if len(sizes) == 1 and results[0].suite == "parallel" else ""


def source(run: Run | None) -> str:
    """Return in a line which run a figure comes from."""
    return f"run {run.id} of {moment(run.when)}, {run.source}, {run.depth}" if run else ""


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
    full = [(head, [cell(row) for row in rows]) for head, cell in known]
    kept = [(head, texts) for head, texts in full if set(texts) - {"", NOTHING} and not _says_nothing(head, texts)]
    return tuple(head for head, _ in kept), list(zip(*(texts for _, texts in kept), strict=True))


def _says_nothing(head: str, texts: Sequence[str]) -> bool:
    """Tell whether a column is the same in every row, and said above the table."""
    return head in {"of", "at"} and len(texts) > 1 and len(set(texts)) == 1


def name(result: Result) -> str:
    """Return what a figure is, and whose where it is not simply stackyard's."""
    if result.subject == OWN and result.at is None:
        return result.what
    if result.subject == OWN and result.suite == "parallel":
        return f"{result.at:g} at once: {result.what}"
    return f"{result.who}: {result.what}"


def _groups(results: Sequence[Result], kind: Kind) -> Iterable[Group]:
    """Draw what can be compared; a single figure is left to the table."""
    if kind == "spread":
        for unit in dict.fromkeys(row.unit for row in results if row.median):
            yield _lines("", kind, [row for row in results if row.unit == unit and row.median and row.at is None])
        return
    for (what, unit), rows in _by_quantity(row for row in results if row.at is None).items():
        # a ratio of two commands is next to their times
        if len(rows) > 1 and not (rows[0].suite == "commands" and unit == "x"):
            limited = rows[0].suite in LIMITED and all(row.target for row in rows)
            yield _lines(what, "share" if limited else "bars", rows)
    placed = [row for row in results if row.at is not None]
    single = [row for row in placed if row.target and row.figure is not None]
    if len({row.at for row in placed}) == 1 and len(single) > 1:
        yield _lines("compared with what is promised", "share", single)
    for (what, unit), rows in _by_quantity(placed).items():
        yield from _side_by_side(what, rows)
        subjects = dict.fromkeys(row.subject for row in rows)
        for subject in [OWN] if OWN in subjects else subjects:
            yield from _curve(what, unit, [row for row in rows if row.subject == subject])


def _side_by_side(what: str, rows: Sequence[Result]) -> Iterable[Group]:
    """Draw the largest number at once that several ways were asked for."""
    sizes = [
        row.at for row in rows if row.subject != OWN and any(own.at == row.at for own in rows if own.subject == OWN)
    ]
    if sizes:
        most = max(size for size in sizes if size is not None)
        largest = [replace(row, target=None, verdict=None) for row in rows if row.at == most]  # another drawing has it
        yield _lines(f"{what}, {most:g} at once", "bars", largest)


def _by_quantity(results: Iterable[Result]) -> dict[tuple[str, str], list[Result]]:
    """Group the results that have a figure by what was measured and its unit; zeros alone are not worth drawing."""
    found: dict[tuple[str, str], list[Result]] = {}
    for row in results:
        if row.median is not None:
            found.setdefault((row.what, row.unit), []).append(row)
    return {key: rows for key, rows in found.items() if any(row.median for row in rows)}


def _lines(what: str, kind: Kind, rows: Sequence[Result]) -> Group:
    peers = len({row.subject for row in rows}) > 1
    base = next(filter(_is_base, rows), None) if peers else None
    bars = [_bar(row, kind, compared=peers and any(map(is_own, rows))) for row in rows]
    longest = figures.top(bars)
    ends = [row.target or longest if kind == "share" else longest for row in rows]
    heads, cells = _columns(kind, rows, base)
    return Group(
        title=what, kind=kind, columns=heads,
        lines=tuple(
            Line(label=label, plot=figures.bar(bar, end, _spoken(row)), own=peers and is_own(row), cells=texts)
            for row, bar, end, label, texts in zip(rows, bars, ends, _labels(rows), cells, strict=True)
        ),
    )  # fmt: skip


def is_own(row: Result) -> bool:
    """Tell whether a figure is stackyard's, or one of its commands'."""
    return row.subject == OWN or (row.suite in COMMANDS and row.row not in BY_HAND and "-compose-" not in row.row)


def _bar(row: Result, kind: Kind, *, compared: bool) -> figures.Bar:
    limit = row.target if row.better == "less" else None
    if kind == "spread":
        marks = [place for place in (row.p95, row.p99) if place is not None]
        return figures.Bar(value=row.median or 0.0, limit=limit, marks=marks)
    tone = "peer" if compared and not is_own(row) else "own"
    return figures.Bar(value=row.median or 0.0, low=row.low, high=row.high, limit=limit, tone=tone)


def _is_base(row: Result) -> bool:
    """Tell whether others are compared with a figure: stackyard's, or that of what one types without it."""
    return row.subject == OWN or (row.suite == "commands" and row.row in BY_HAND)


def _columns(kind: Kind, rows: Sequence[Result], base: Result | None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the heads and the cells of each row of a figure."""
    judged: list[Column] = [("promised", promise), ("verdict", lambda row: row.verdict or "")]
    most = max(row.median or 0.0 for row in rows)  # its unit is everybody's
    beside = f"compared with {base.subject if base else OWN}"
    known: dict[Kind, list[Column]] = {
        "bars": [("95 % interval", interval), (beside, lambda row: _beside(row, base)), *judged],
        "share": [
            ("limit", lambda row: promise(row).removeprefix("at most ")),
            ("used", lambda row: f"{(row.median or 0.0) / (row.target or 1.0):.0%}"),
        ],
        "spread": [
            ("p95", lambda row: quantity(row.p95, row.unit, most)),
            ("p99", lambda row: quantity(row.p99, row.unit, most)),
            ("n", lambda row: str(row.n)), *judged,
        ],
    }  # fmt: skip
    return _filled([("median", lambda row: quantity(row.median, row.unit, most)), *known[kind]], rows)


def _curve(what: str, unit: str, rows: Sequence[Result]) -> Iterable[Group]:
    factor, name = scale(max(row.median or 0.0 for row in rows), unit)
    points = [_point(row, factor) for row in rows]
    if len({point.x for point in points}) > 1:
        words = "; ".join(f"{quantity(row.median, unit)} at {row.at or 0:g}" for row in rows)
        title = f"{rows[0].subject}: {what}" if rows[0].subject not in {OWN, FORMER_OWN} else what
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
    """Return the subject of each row, or its quantity if all have one subject; the row's name tells equals apart."""
    alone = len({row.subject for row in rows}) == 1 and len({row.what for row in rows}) == len(rows)
    labels = [row.what if alone else row.subject for row in rows]
    return [
        label if labels.count(label) == 1 else f"{label} ({row.row})" for label, row in zip(labels, rows, strict=True)
    ]


def _beside(row: Result, base: Result | None) -> str:
    """Say how a figure compares with the one that others are compared with; nothing for that itself."""
    if base is None or row.subject == base.subject:
        return ""
    times = ratio(row.median, base.median)
    return f"{times} {BESIDE[row.unit]}" if row.unit in BESIDE else times


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
        lead=f"The steps of one start of {quantity(end, 's')}, the median of those measured.",
        legend=tuple((str(place), f"{kind}: {text}") for place, (kind, text) in enumerate(STEPS.items(), 1)),
        groups=(Group(title="", kind="bars", head="step", columns=("begins", "ends", "takes"), lines=lines),),
    )  # fmt: skip


def _tone(name: str) -> str:
    kind = name.split(" ", 1)[0]
    return str([*STEPS].index(kind) + 1) if kind in STEPS else "own"


def milliseconds(seconds: float) -> str:
    """Return a duration within a start, in one unit so that neighbours compare."""
    return f"{seconds * 1000:,.0f} ms"


def main_figures(facts: Facts) -> list[Result]:
    """Return the newest result of every row with a target; of a curve only its end and what missed the target."""
    names = [name for name in _names(facts) if name not in LIMITED]
    return [
        row for name in names for row in facts.results(name)
        if row.target is not None and (_is_furthest(facts, row) or row.verdict == "FAIL")
    ]  # fmt: skip


def _is_furthest(facts: Facts, row: Result) -> bool:
    """Tell whether a figure is on no curve, or at its end: that one represents the whole curve."""
    others = [other.at for other in facts.results(row.suite) if (other.what, other.subject) == (row.what, row.subject)]
    return row.at is None or row.at == max(at for at in others if at is not None)

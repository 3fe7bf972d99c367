"""
The format of figures and tables, and what a run took compared with its budget.

Every size is shown in MiB (1,048,576 bytes), every time in s, ms or µs. Data for machines keeps bytes and seconds.
"""

from __future__ import annotations

import math
import re
import shutil
import sys
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEBIBYTE: Final = 1024 * 1024
MEGABYTE: Final = 1_000_000  # bytes; budgets and sizes in configuration files are written in it
NOTHING: Final = "-"  # shown where there is no figure
THOUSAND: Final = 1000
LONG: Final = 1e9  # from here on a number is written with an exponent
FREE_TEXT: Final = 80  # characters of a line of text in a table that is not printed to a terminal
GAP: Final = 2  # blanks that tabulate puts between two columns
# unit: the scales it is shown in; each one's least value, its factor, its name
SCALES: Final[dict[str, tuple[tuple[float, float, str], ...]]] = {
    "s": ((0.1, 1.0, "s"), (1e-4, 1e3, "ms"), (0.0, 1e6, "µs")),
    "bytes": ((0.0, 1 / MEBIBYTE, "MiB"),),
}
CLOSE: Final = {"x": "x", "1/s": "/s", "": ""}  # units that follow their figure without a blank
PART: Final = re.compile(r"[^/.,:_=-]*[/.,:_=-]|[^/.,:_=-]+")  # of a long word, which may be cut after it
WHOLE: Final = 20  # characters of a word that is cut only where nothing else helps
FIGURE: Final = re.compile(r"[-+]?[0-9][0-9,]*(\.[0-9]+)?( ?(s|ms|µs|MiB|x|%|/s))?")


def format_size(size: float) -> str:
    """Return bytes as MiB: `56.1 MiB`."""
    return format_figure(size, "bytes")


def format_seconds(seconds: float) -> str:
    """Return a time in s, ms or µs: `1.59 s`, `33.1 ms`, `11.2 µs`."""
    return format_figure(seconds, "s")


def format_count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 stack`, `2 stacks`; *plural* is for nouns that take more than an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def format_figure(
    value: float | None, unit: str, *, beside: float | None = None, like: float | None = None
) -> str:  # fmt: skip
    """
    Return a figure of three digits with its unit; a dash where there is none.

    Args:
        value: The figure, in *unit*.
        unit: `s`, `bytes`, `x` (a ratio), `1/s`, nothing for a count; any other is shown as it is.
        beside: A bound that the figure missed: the figure gets as many digits as show that.
        like: A figure whose scale this one gets too, so that both compare.
    """
    if value is None:
        return NOTHING
    factor, name = scale(value if like is None else like, unit)
    digits = _digits(value * factor, unit)
    while beside is not None and value != beside and digits < LONGEST and _same(value, beside, factor, digits):
        digits += 1
    return _number(value * factor, digits) + name


def format_bound(value: float, unit: str) -> str:
    """Return a limit or a budget: as `format_figure`, without zeros at the end."""
    factor, name = scale(value, unit)
    # one digit more than a figure, or a figure that missed it could look as if it had not
    text = _number(value * factor, _digits(value * factor, unit) + (abs(value * factor) < THOUSAND))
    return (text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text) + name


def format_range(low: float | None, high: float | None, unit: str) -> str:
    """Return two ends with one unit: `0.55 to 0.58 s`; nothing where one of them is missing."""
    if low is None or high is None:
        return ""
    factor, name = scale(high, unit)
    ends = [_number(value * factor, _digits(value * factor, unit)) for value in (low, high)]
    return " to ".join(ends) + name


LONGEST: Final = 6  # digits after the point that a figure gets at most


def scale(value: float, unit: str) -> tuple[float, str]:
    """Return what to multiply a figure like *value* by, and what to write after it, its blank included."""
    scales = SCALES.get(unit)
    if scales is None:
        return 1.0, CLOSE.get(unit, f" {unit}")
    chosen = next((scale for scale in scales if abs(value) > scale[0]), scales[0])
    return chosen[1], f" {chosen[2]}"


def _digits(value: float, unit: str) -> int:
    """Return how many digits after the point give three in all, or two where the figure is below 1."""
    size = abs(value)
    if value == 0 or size >= LONG or (unit not in {*SCALES, "x"} and float(value).is_integer()):
        return 0
    if size >= 1:
        return max(2 - math.floor(math.log10(size)), 0)
    return max(2, min(1 - math.floor(math.log10(size)), LONGEST))


def _number(value: float, digits: int) -> str:
    return f"{value:.3g}" if abs(value) >= LONG else f"{value:,.{digits}f}"


def _same(value: float, other: float, factor: float, digits: int) -> bool:
    return _number(value * factor, digits) == _number(other * factor, digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One measured value and its budget.

    Attributes:
        what: What was measured.
        value: The figure; None when it could not be measured.
        unit: s or bytes.
        budget: What it may be at most, in the same unit; None where nothing is promised.
    """

    what: str
    value: float | None
    unit: str
    budget: float | None = None

    @property
    def verdict(self) -> str:
        """Return ok, OVER, or nothing where there is no budget or no figure."""
        if self.budget is None or self.value is None:
            return ""
        return "ok" if self.value <= self.budget else "OVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """
    One finished run.

    Attributes:
        environment: Its environment.
        lease: Its lease's id.
        project: Compose project name.
        outcome: passed, failed, timed out or interrupted.
        exit_code: Of the payload.
        seconds: Wall time of the whole run.
        notes: What the user should know, for example that the run moved to the pool.
        rows: The measured values.
        leftovers: What could not be removed; empty when nothing is left.
        degraded: Services that did not run, or not well, when the payload ended.
        reason: Why the run failed, in a few words; empty when it passed or when the exit code says it all.
    """

    environment: str
    lease: str
    project: str
    outcome: str
    exit_code: int
    seconds: float
    notes: Sequence[str] = ()
    rows: Sequence[Row] = ()
    leftovers: Sequence[str] = ()
    degraded: Sequence[str] = ()
    reason: str = ""

    def table(self) -> str:
        """Return the table a terminal shows."""
        body = [
            [row.what, _measured(row), "" if row.budget is None else format_bound(row.budget, row.unit), row.verdict]
            for row in self.rows
        ]
        return table(body, ["measured", "value", "budget", ""], align=("left", "right", "right", "left"))

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, with a verdict on each row; sizes in bytes, times in seconds."""
        return asdict(self) | {"rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows]}


def _measured(row: Row) -> str:
    missed = row.budget if row.verdict == "OVER" else None
    return "unavailable" if row.value is None else format_figure(row.value, row.unit, beside=missed)


def memory_rows(used: Mapping[str, int | None], budget_mb: int) -> list[Row]:
    """Return a row for each service's bytes and one for their sum; *budget_mb* is in MB, as configured."""
    rows = [Row(what=f"memory {service}", value=size, unit="bytes") for service, size in used.items()]
    known = [size for size in used.values() if size is not None]
    total = sum(known) if len(known) == len(used) and known else None
    return [*rows, Row(what="memory of the stack", value=total, unit="bytes", budget=budget_mb * MEGABYTE)]


def format_list(head: str, items: Sequence[object], *, most: int = 20) -> str:
    """
    Return the only one of *items*, or if there are several *head* and one line for each.

    Args:
        head: What they are and how many; a colon follows it.
        items: At least one.
        most: Lines at most; the last one says how many more there are.
    """
    if len(items) == 1:
        return str(items[0])
    shown = items if len(items) <= most else items[: most - 1]
    more = [f"and {len(items) - len(shown)} more"] if len(shown) < len(items) else []
    return "\n  ".join([f"{head}:", *map(str, shown), *more])


def table(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], *, align: Sequence[str] | None = None,
    width: int | None = None,
) -> str:  # fmt: skip
    """
    Return *rows* as an aligned text table.

    On a terminal the table is never wider than it: the longest texts are wrapped between words, then words of more than
    20 characters are cut, after a slash or a dot if they have one, and others only where nothing else helps. Elsewhere
    only long texts are wrapped. Nothing is ever left out.

    Args:
        rows: Cells; None is an empty one.
        headers: The columns' heads.
        align: `left` or `right` for each column; without it, columns of figures stand to the right.
        width: Characters of a line; the terminal's unless given.
    """
    from tabulate import tabulate

    body = [["" if cell is None else str(cell) for cell in row] for row in rows]
    columns = [list(column) for column in zip(headers, *body, strict=True)]
    sides = align or ["right" if _are_figures(column[1:]) else "left" for column in columns]
    limits = _widths(columns, width or _terminal())
    wrapped = [[_wrap(cell, limit) for cell, limit in zip(row, limits, strict=True)] for row in (headers, *body)]
    return tabulate(
        wrapped[1:], headers=wrapped[0], tablefmt="simple", disable_numparse=True,
        colalign=sides if body else None, headersglobalalign=None, preserve_whitespace=True,
    )  # fmt: skip


def _terminal() -> int | None:
    """Return how wide the terminal is; None when the output is not a terminal."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def _are_figures(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in {"", NOTHING}]
    return bool(filled) and all(FIGURE.fullmatch(cell) for cell in filled)


def _widths(columns: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Return how wide each column may be: what it needs, less where all of them do not fit."""
    wanted = [max((len(line) for cell in column for line in cell.splitlines()), default=0) for column in columns]
    words = [max((len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    if width is None:
        return [min(full, max(FREE_TEXT, longest)) for full, longest in zip(wanted, words, strict=True)]
    room = width - GAP * (len(columns) - 1)
    kept = [min(longest, WHOLE) for longest in words]
    for least in (kept, [min(longest, len(column[0])) for longest, column in zip(words, columns, strict=True)], None):
        wanted = _narrowed(wanted, least or [1] * len(columns), room)
    return wanted


def _narrowed(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Take one character after another from the widest column, of equals the last, as long as one may become less."""
    narrow = list(widths)
    while sum(narrow) > room:
        spare = [place for place in range(len(narrow)) if narrow[place] > least[place]]
        if not spare:
            break
        narrow[max(spare, key=lambda place: (narrow[place], place))] -= 1
    return narrow


def _wrap(cell: str, width: int) -> str:
    if len(cell) <= width and "\n" not in cell:
        return cell
    width = max(width, 1)
    texts = [" ".join(_pieces(word, width) if len(word) > width else word for word in line.split(" "))
             for line in cell.splitlines()]  # fmt: skip
    lines = (textwrap.wrap(text, width, break_on_hyphens=False) or [""] for text in texts)
    return "\n".join(line for part in lines for line in part)


def _pieces(word: str, width: int) -> str:
    """Return a long word in pieces of at most *width* characters, cut after a slash or the like if it can be."""
    pieces = [""]
    for part in (long[at : at + width] for long in PART.findall(word) for at in range(0, len(long), width)):
        if len(pieces[-1] + part) <= width:
            pieces[-1] += part
        else:
            pieces.append(part)
    return " ".join(filter(None, pieces))

"""The text of figures: three digits, a unit, an interval; what no document may contain is removed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stackyard._util.tables import NOTHING, format_bound, format_figure, format_range

if TYPE_CHECKING:
    from stackyard.bench.records import Result

TENFOLD: Final = 10.0  # from here on, a multiple needs no digit after the point
# What XML 1.0 cannot carry, escaped or not, and half a surrogate pair, which no encoding can.
UNWRITABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>|~#&])")


def writable(text: str) -> str:
    """Replace each character that a page, an XML or a UTF-8 file cannot hold."""
    return UNWRITABLE.sub("\ufffd", text)


def markdown(text: object) -> str:
    """Return *text* so that Markdown shows it as it is, within one cell of a table."""
    return MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def quantity(value: float | None, unit: str, like: float | None = None) -> str:
    """Return a figure with its unit, that of *like* if one is given; a dash where there is none."""
    return format_figure(value, unit, like=like)


def figure(result: Result) -> str:
    """Return what is held against a result's target; one that missed it has as many digits as show that."""
    return format_figure(result.figure, result.unit, beside=result.target if result.verdict == "FAIL" else None)


def interval(result: Result) -> str:
    """Return the two ends of the median's 95 % interval; empty where it has none."""
    return format_range(result.low, result.high, result.unit)


def promise(result: Result) -> str:
    """Return a result's target as a bound; a dash where nothing is promised."""
    if result.target is None:
        return NOTHING
    return f"{'at most' if result.better == 'less' else 'at least'} {format_bound(result.target, result.unit)}"


def margin(result: Result) -> str:
    """Say how far a figure is from its limit: `25 times below the limit`; nothing where that cannot be said."""
    figure, limit = result.figure, result.target
    if not figure or not limit or figure < 0 or result.better == "more":
        return ""
    if figure > limit:
        return (
            f"{_multiple(figure / limit)} the limit" if figure >= 2 * limit else f"{_percent(figure / limit - 1)} above"
        )
    return f"{_multiple(limit / figure)} below" if limit >= 2 * figure else f"{_percent(1 - figure / limit)} below"


def _multiple(times: float) -> str:
    return f"{times:,.0f} times" if times >= TENFOLD else f"{times:.1f} times"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%" if share else "0%"  # noqa: PLR2004 - one percent


def ratio(value: float | None, base: float | None) -> str:
    """Return how many times *base* a value is; a dash where that cannot be said."""
    return NOTHING if value is None or not base else quantity(value / base, "x")


def change(before: float, after: float) -> str:
    """Return the step from *before* to *after* in percent of *before*, signed; a dash when *before* is 0."""
    return f"{round((after / before - 1) * 100) or 0:+d} %" if before else NOTHING

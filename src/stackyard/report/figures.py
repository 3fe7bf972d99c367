"""
Plots as inline SVG.

Horizontal places are percentages and heights are pixels, so that a drawing fills the width that it gets and its text
keeps its size: one figure for a phone and for a wide screen. Colours are class names; the page's style sheet gives them
a value in light, in dark and in print. The tree is built as XML, so that no name can break out of it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from markupsafe import Markup

from stackyard._util.tables import format_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

LEFT, RIGHT = 10.0, 98.0  # percent of the width between which a curve is drawn; its numbers stand left of it
ROOF, FLOOR, CURVE = 12, 188, 220  # pixels: highest point of a curve, its axis, the whole figure
BAR, TREND = 18, 48  # pixels: heights of a bar and of a trend
DOTS: Final = 12  # runs up to which each one of a trend has a dot
FAR: Final = 3.0  # a limit beyond this many times the longest bar is written, because drawing it would flatten the bars
TICKS: Final = 5  # about how many numbers an axis has


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One place on a curve, with the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    One bar.

    Attributes:
        tone: own, peer, bad, or a number from 1 to 5: its class.
        begin: Where it starts.
        low: Lower end of the value's interval; None without one.
        limit: What the value may be at most; None without one.
        marks: Further places worth a tick, such as percentiles.
    """

    value: float
    tone: str = "own"
    begin: float = 0.0
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    marks: Sequence[float] = ()

    @property
    def reach(self) -> float:
        """The furthest value that must be seen."""
        return max(self.value, self.high or 0.0, *self.marks, 0.0)


def top(bars: Sequence[Bar]) -> float:
    """Return where the scale that *bars* share ends: at the longest, or at a limit not too far beyond it."""
    longest = max((bar.reach for bar in bars), default=0.0)
    limits = [bar.limit for bar in bars if bar.limit is not None and bar.limit <= longest * FAR]
    return max([longest, *limits]) * 1.02 or 1.0


def bar(given: Bar, end: float, title: str) -> Markup:
    """Draw one bar on a scale from 0 to *end*, with whisker, ticks and limit; *title* says the same in words."""
    figure = _figure("bar", BAR, title)
    _mark(figure, "rect", class_="track", x=0, y=3, width="100%", height=BAR - 6, rx=2)
    width = max(_share(given.value, end) - _share(given.begin, end), 0.4)
    _mark(figure, "rect", class_=f"fill tone-{given.tone}", x=_percent(_share(given.begin, end)), y=3,
          width=_percent(width), height=BAR - 6, rx=2)  # fmt: skip
    for place in given.marks:
        _upright(figure, "tick", _share(place, end), 3, BAR - 3)
    if given.low is not None and given.high is not None:
        low, high = _share(given.low, end), _share(given.high, end)
        _mark(figure, "line", class_="whisker", x1=_percent(low), x2=_percent(high), y1=BAR / 2, y2=BAR / 2)
        for place in (low, high):
            _upright(figure, "whisker", place, BAR / 2 - 4, BAR / 2 + 4)
    if given.limit is not None and given.limit <= end:
        for kind in ("halo", "limit"):  # it may lie on the bar
            _upright(figure, kind, _share(given.limit, end), 0, BAR)
    return _drawn(figure)


def curve(points: Sequence[Point], title: str, description: str, *, limit: float | None = None) -> Markup:
    """Draw at least one point over axes that both begin at 0; *description* says what the title does not."""
    figure = _figure("curve", CURVE, title, description)
    right = max(point.x for point in points) * 1.04 or 1.0
    roof = max(max(point.y, point.high or 0.0) for point in points)
    roof = (limit if limit is not None and roof < limit <= roof * FAR else roof) * 1.05 or 1.0
    _axes(figure, right, roof)
    if limit is not None and limit <= roof:
        height = _height(limit, roof)
        _mark(figure, "line", class_="limit", x1=_percent(LEFT), x2=_percent(RIGHT), y1=height, y2=height)
    placed = [(_across(point.x, right), point) for point in sorted(points, key=lambda point: point.x)]
    for (here, first), (there, second) in itertools.pairwise(placed):
        _mark(figure, "line", class_="path", x1=_percent(here), x2=_percent(there),
              y1=_height(first.y, roof), y2=_height(second.y, roof))  # fmt: skip
    for here, point in placed:
        if point.low is not None and point.high is not None:
            _upright(figure, "whisker", here, _height(point.high, roof), _height(point.low, roof))
        dot = _mark(figure, "circle", class_="dot", cx=_percent(here), cy=_height(point.y, roof), r=4)
        ET.SubElement(dot, "title").text = f"{format_figure(point.x, '')}: {format_figure(point.y, '')}"
    return _drawn(figure)


def trend(shares: Sequence[float], roof: float, title: str) -> Markup:
    """
    Draw how a figure went from run to run, each as a share of what is promised.

    Args:
        shares: The figure divided by its limit, run by run.
        roof: The share at the upper edge; figures with the same roof may be compared. The lower edge is 0.
        title: The same in words.
    """
    figure = _figure("trend", TREND, title)
    for kind, share in (("grid", 0.0), ("limit", 1.0)):
        height = _level(share, roof)
        _mark(figure, "line", class_=kind, x1="0%", x2="100%", y1=height, y2=height)
    step = 96.0 / max(len(shares) - 1, 1)
    placed = [
        (2 + place * step if len(shares) > 1 else 50.0, _level(share, roof)) for place, share in enumerate(shares)
    ]
    for (x1, y1), (x2, y2) in itertools.pairwise(placed):
        _mark(figure, "line", class_="path", x1=_percent(x1), x2=_percent(x2), y1=y1, y2=y2)
    for x, y in placed[-1:] if len(placed) > DOTS else placed:
        _mark(figure, "circle", class_="dot", cx=_percent(x), cy=y, r=3)
    return _drawn(figure)


def _level(share: float, roof: float) -> float:
    return TREND - 4 - (TREND - 8) * min(max(share / roof, 0.0), 1.0)


def ticks(end: float) -> list[float]:
    """Return round numbers from 0 to *end*, about five steps apart."""
    raw = end / TICKS
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * times for times in (1, 2, 2.5, 5, 10) if size * times >= raw * 0.9)
    return [step * place for place in range(int(end / step + 1e-9) + 1)]


def _axes(figure: ET.Element, right: float, roof: float) -> None:
    for value in ticks(roof):
        height = _height(value, roof)
        _mark(figure, "line", class_="grid", x1=_percent(LEFT), x2=_percent(RIGHT), y1=height, y2=height)
        _write(figure, value, LEFT - 1.2, height + 4, "end")
    for value in ticks(right):
        _write(figure, value, _across(value, right), FLOOR + 18, "middle")


def _write(figure: ET.Element, value: float, x: float, y: float, anchor: str) -> None:
    _mark(figure, "text", x=_percent(x), y=y, text_anchor=anchor).text = f"{value:,g}"


def _figure(kind: str, height: int, title: str, description: str = "") -> ET.Element:
    figure = ET.Element("svg", {"class": f"figure {kind}", "width": "100%", "height": str(height), "role": "img"})
    # one label for all of it: a title element alone is not read out everywhere
    figure.set("aria-label", f"{title}. {description}" if description else title)
    ET.SubElement(figure, "title").text = title
    if description:
        ET.SubElement(figure, "desc").text = description
    return figure


def _mark(parent: ET.Element, tag: str, **attributes: str | float) -> ET.Element:
    return ET.SubElement(parent, tag, {_name(key): _length(value) for key, value in attributes.items()})


def _upright(figure: ET.Element, kind: str, place: float, upper: float, lower: float) -> None:
    _mark(figure, "line", class_=kind, x1=_percent(place), x2=_percent(place), y1=upper, y2=lower)


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _length(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{_length(share)}%"


def _share(value: float, end: float) -> float:
    return min(max(value / end, 0.0), 1.0) * 100


def _across(value: float, right: float) -> float:
    return LEFT + (RIGHT - LEFT) * value / right


def _height(value: float, roof: float) -> float:
    return FLOOR - (FLOOR - ROOF) * min(max(value / roof, 0.0), 1.0)


def _drawn(figure: ET.Element) -> Markup:
    return Markup(ET.tostring(figure, encoding="unicode"))  # noqa: S704 - ElementTree has escaped every text in it

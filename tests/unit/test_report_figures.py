from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from stackyard.report import figures
from stackyard.report.figures import Bar, Point


def parsed(drawing: str) -> ET.Element:
    return ET.fromstring(drawing)  # noqa: S314 - drawn a line above


def marks(drawing: str, kind: str) -> list[ET.Element]:
    return [mark for mark in parsed(drawing) if (mark.get("class") or "").startswith(kind)]


def test_a_bar_is_as_long_as_its_share_of_the_scale() -> None:
    drawing = figures.bar(Bar(value=25.0), 100.0, "a quarter")

    assert [mark.get("width") for mark in marks(drawing, "fill")] == ["25%"]
    assert parsed(drawing).get("aria-label") == "a quarter"
    assert [mark.text for mark in parsed(drawing) if mark.tag == "title"] == ["a quarter"]


def test_a_bar_that_begins_later_is_moved_and_not_stretched() -> None:
    (fill,) = marks(figures.bar(Bar(begin=50.0, value=75.0, tone="3"), 100.0, ""), "fill")

    assert (fill.get("x"), fill.get("width"), fill.get("class")) == ("50%", "25%", "fill tone-3")


def test_a_bar_too_short_to_see_is_seen() -> None:
    (fill,) = marks(figures.bar(Bar(value=0.0001), 100.0, ""), "fill")

    assert fill.get("width") == "0.4%"


def test_a_bar_shows_interval_percentiles_and_limit() -> None:
    drawing = figures.bar(Bar(value=50, low=40, high=60, limit=90, marks=[70, 80]), 100, "")

    assert [(mark.get("x1"), mark.get("x2")) for mark in marks(drawing, "whisker")] == [
        ("40%", "60%"), ("40%", "40%"), ("60%", "60%"),
    ]  # fmt: skip
    assert [mark.get("x1") for mark in marks(drawing, "tick")] == ["70%", "80%"]
    assert [mark.get("x1") for mark in marks(drawing, "limit")] == ["90%"]


def test_a_limit_beyond_the_scale_is_not_drawn() -> None:
    assert not marks(figures.bar(Bar(value=1, limit=30), 1.0, ""), "limit")


def test_the_scale_reaches_the_longest_bar_and_a_limit_near_it_but_no_far_one() -> None:
    assert figures.top([Bar(value=10, high=20), Bar(value=5)]) == pytest.approx(20.4)
    assert figures.top([Bar(value=10, limit=20)]) == pytest.approx(20.4)
    assert figures.top([Bar(value=10, limit=300)]) == pytest.approx(10.2)
    assert figures.top([Bar(value=1, marks=[8])]) == pytest.approx(8.16)


def test_a_scale_of_nothing_is_still_a_scale() -> None:
    assert figures.top([]) == 1.0
    assert figures.top([Bar(value=0.0)]) == 1.0


def test_a_curve_is_higher_where_the_figure_is_larger() -> None:
    drawing = figures.curve([Point(x=50, y=2.0), Point(x=1, y=1.0)], "cost", "grows")
    first, last = (float(mark.get("cy", "")) for mark in marks(drawing, "dot"))

    assert first > last
    assert len(marks(drawing, "path")) == 1
    assert parsed(drawing).get("aria-label") == "cost. grows"
    assert [mark.text for mark in parsed(drawing) if mark.tag == "desc"] == ["grows"]


def test_a_curve_has_numbers_on_both_axes() -> None:
    drawing = figures.curve([Point(x=1, y=0.8), Point(x=50, y=1.0)], "", "")
    texts = [mark.text for mark in parsed(drawing) if mark.tag == "text"]

    assert texts == ["0", "0.2", "0.4", "0.6", "0.8", "1", "0", "10", "20", "30", "40", "50"]


def test_a_curve_shows_intervals_and_a_limit_that_is_near() -> None:
    points = [Point(x=1, y=1.0, low=0.5, high=1.5), Point(x=2, y=1.0)]

    assert len(marks(figures.curve(points, "", "", limit=2.0), "whisker")) == 1
    assert len(marks(figures.curve(points, "", "", limit=2.0), "limit")) == 1
    assert not marks(figures.curve(points, "", "", limit=100.0), "limit")
    assert len(marks(figures.curve(points, "", "", limit=1.2), "limit")) == 1


def test_a_curve_of_zeros_lies_on_its_axis() -> None:
    (dot,) = marks(figures.curve([Point(x=0, y=0)], "", ""), "dot")

    assert float(dot.get("cy", "")) == figures.FLOOR


def test_a_trend_begins_at_0_and_draws_what_is_promised() -> None:
    drawing = figures.trend([0.5, 1.0, 0.25], 2.0, "three")
    heights = [float(mark.get("cy", "")) for mark in marks(drawing, "dot")]
    (promised,) = marks(drawing, "limit")
    (ground,) = marks(drawing, "grid")

    assert len(marks(drawing, "path")) == 2
    assert heights[1] == float(promised.get("y1", ""))
    assert float(ground.get("y1", "")) - heights[0] == 2 * (float(ground.get("y1", "")) - heights[2])


def test_a_figure_without_change_is_a_level_line_at_its_own_height() -> None:
    low, high = ([float(mark.get("cy", "")) for mark in marks(figures.trend([share] * 3, 1.25, ""), "dot")]
                 for share in (0.1, 0.9))  # fmt: skip

    assert (len({*low}), len({*high})) == (1, 1)
    assert low[0] > high[0]


def test_a_figure_above_the_scale_stays_in_the_picture() -> None:
    assert min(float(mark.get("cy", "")) for mark in marks(figures.trend([9.0, 1.0], 2.0, ""), "dot")) >= 0


def test_a_long_trend_has_a_dot_only_at_its_end() -> None:
    drawing = figures.trend([0.5] * (figures.DOTS + 1), 1.25, "")

    assert [mark.get("cx") for mark in marks(drawing, "dot")] == ["98%"]


@pytest.mark.parametrize(
    ("end", "expected"),
    [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]), (52, [0, 10, 20, 30, 40, 50]), (0.003, [0, 0.001, 0.002, 0.003])],
)  # fmt: skip
def test_axes_have_round_numbers(end: float, expected: list[float]) -> None:
    assert figures.ticks(end) == pytest.approx(expected)


def test_no_name_breaks_out_of_a_figure() -> None:
    hostile = '"><script>alert(1)</script>'
    drawings = [
        figures.bar(Bar(value=1), 1, hostile),
        figures.curve([Point(x=1, y=1)], hostile, hostile),
        figures.trend([1, 2], 2, hostile),
    ]

    for drawing in drawings:
        assert "<script" not in drawing
        assert (parsed(drawing).get("aria-label") or "").startswith(hostile)

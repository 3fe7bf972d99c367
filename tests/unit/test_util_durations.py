from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard._util import durations
from stackyard.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0), ("0.5", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("1h30m", 5400.0), ("250ms", 0.25),
        ("1.5h", 5400.0), ("1m500ms", 60.5), ("2d", 172800.0), ("1d2h3m4s5ms", 93784.005),
    ],
)  # fmt: skip
def test_a_time_is_a_number_of_seconds_or_numbers_with_units(text: str, seconds: float) -> None:
    assert durations.seconds("--ttl", text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "s", "30 s", "5M", "30s1h", "1h1h", "08", "1e3", "-1", "1_0", "nan", "1.s", "٣", "0", "0s", "31d", None, True],
)  # fmt: skip
def test_anything_else_is_refused_with_the_rule_and_the_value(text: object) -> None:
    with pytest.raises(UsageError) as caught:
        durations.seconds("--ttl", text)

    rule = "--ttl must be a time such as 30s, 5m or 1h30m, above 0 and up to 30 d, got "
    assert str(caught.value) == f"{rule}{text!r}"


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0.25, "250 ms"), (1.0, "1 s"), (12.5, "12.5 s"), (59.96, "60 s"), (60.0, "1 min"), (90.0, "1 min 30 s"),
        (3600.0, "1 h"), (5400.0, "1 h 30 min"), (86400.0, "1 d"), (90000.0, "1 d 1 h"),
    ],
)  # fmt: skip
def test_a_length_is_said_in_its_largest_units(length: float, text: str) -> None:
    assert durations.said(length) == text


@given(st.integers(1, 30 * 24 * 3600))
def test_what_is_said_without_spaces_is_read_again(length: int) -> None:
    text = durations.said(length).replace(" min", "m").replace(" ", "")

    assert durations.seconds("x", text) == pytest.approx(length, rel=0.05)

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from stackyard._util.files import write_json
from stackyard._util.tables import (
    Row,
    RunReport,
    format_bound,
    format_count,
    format_figure,
    format_range,
    format_seconds,
    format_size,
    memory_rows,
    table,
)

if TYPE_CHECKING:
    from pathlib import Path


def make_report(**changes: object) -> RunReport:
    facts: dict[str, object] = {
        "environment": "test", "lease": "l1", "project": "p", "outcome": "passed", "exit_code": 0, "seconds": 1.5,
        "rows": [
            Row(what="start-up", value=2.0, unit="s", budget=30), Row(what="clean-up", value=9.0, unit="s", budget=5),
        ],
    }  # fmt: skip
    return RunReport(**(facts | changes))  # type: ignore[arg-type]  # a test's short cut


def test_a_table_shows_value_budget_and_verdict() -> None:
    lines = make_report().table().splitlines()

    assert lines[2].split() == ["start-up", "2.00", "s", "30", "s", "ok"]
    assert lines[3].split() == ["clean-up", "9.00", "s", "5", "s", "OVER"]


def test_a_budget_in_megabytes_is_shown_and_judged_in_the_unit_of_the_figure() -> None:
    over = make_report(rows=memory_rows({"redis": 2_000_000_001}, 2000))

    assert over.table().splitlines()[-1].split() == [
        "memory", "of", "the", "stack", "1,907.348634", "MiB", "1,907", "MiB", "OVER",
    ]  # fmt: skip


def test_json_carries_each_verdict() -> None:
    assert [row["verdict"] for row in make_report().to_json()["rows"]] == ["ok", "OVER"]


def test_memory_is_summed_only_when_every_service_was_measured() -> None:
    known = memory_rows({"redis": 1 << 20, "auth": 2 << 20}, 2048)
    unknown = memory_rows({"redis": 1 << 20, "auth": None}, 2048)

    assert (known[-1].value, known[-1].verdict) == (3 << 20, "ok")
    assert (unknown[-1].value, unknown[-1].verdict) == (None, "")
    assert "unavailable" in make_report(rows=unknown).table()
    assert memory_rows({}, 1)[-1].value is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (1.12e-05, "11.2 µs"), (0.00142, "1.42 ms"), (0.033, "33.0 ms"), (0.1, "100 ms"), (0.57, "0.57 s"),
        (9.5, "9.50 s"), (15.003, "15.0 s"), (312.4, "312 s"), (4321, "4,321 s"),
    ],
)  # fmt: skip
def test_a_time_has_three_digits_and_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 MiB"), (53_000, "0.051 MiB"), (58_823_529, "56.1 MiB"), (64 << 20, "64.0 MiB"), (25 << 30, "25,600 MiB")],
)
def test_a_size_is_always_in_mebibytes(size: int, text: str) -> None:
    assert format_size(size) == text


def test_a_count_agrees_with_its_noun() -> None:
    assert [format_count(number, "stack") for number in (0, 1, 2)] == ["0 stacks", "1 stack", "2 stacks"]
    assert format_count(1200, "match", "matches") == "1,200 matches"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "-"), (0.35, "x", "0.35x"), (2, "x", "2.00x"), (12345.6, "1/s", "12,346/s"), (3, "", "3"),
        (2e9, "", "2e+09"), (99.5, "%", "99.5 %"),
    ],
)  # fmt: skip
def test_a_figure_is_followed_by_its_unit(value: float | None, unit: str, text: str) -> None:
    assert format_figure(value, unit) == text


def test_rounding_never_hides_that_a_bound_was_missed() -> None:
    assert format_figure(15.003, "s", beside=15) == "15.003 s"
    assert format_figure(0.3503, "x", beside=0.35) == "0.3503x"
    assert format_figure(15.0, "s", beside=15) == "15.0 s"
    assert format_figure(20.0, "s", beside=15) == "20.0 s"
    assert format_figure(15 + 1e-12, "s", beside=15) == "15.000000 s"


def test_a_bound_has_no_idle_zeros() -> None:
    shown = [
        format_bound(30, "s"),
        format_bound(0.05, "s"),
        format_bound(200_000_000, "bytes"),
        format_bound(0.35, "x"),
    ]

    assert shown == ["30 s", "50 ms", "190.7 MiB", "0.35x"]


def test_two_ends_share_one_unit() -> None:
    assert format_range(0.0571, 0.151, "s") == "0.057 to 0.15 s"
    assert format_range(None, 1.0, "s") == ""


LONG = "docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port 5433; " * 8
ROWS = [["ports", "warn", LONG, "stop what uses them"], ["stackyard-test-4f0c2d7a91", "ok", "none", ""]]
HEADS = ["check", "", "found", "what to do"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_the_terminal_and_leaves_nothing_out(width: int) -> None:
    lines = table(ROWS, HEADS, width=width).splitlines()

    assert max(map(len, lines)) <= width
    assert "stackyard-test-4f0c2d7a91" in " ".join(lines)
    assert " ".join(lines).count("docker-proxy") == 8


def test_a_table_with_room_is_not_wrapped() -> None:
    assert len(table([["a", "b c d"]], ["one", "two"], width=80).splitlines()) == 3


def test_a_long_word_is_cut_after_a_slash_or_a_dot_before_sentences_get_narrow() -> None:
    rows = [
        ["services.celery.restart", "/srv/shop/pgdata:/var/lib/postgresql", "a copy does not come back after a reboot"]
    ]
    lines = table(rows, ["what", "from", "because"], width=60).splitlines()
    cut = [line.split()[:2] for line in lines[2:4]]

    assert cut == [["services.celery.", "/srv/shop/pgdata:/"], ["restart", "var/lib/postgresql"]]
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("width", [20, 5, 1])
def test_where_no_width_is_enough_words_are_broken_but_not_lost(width: int) -> None:
    text = table([["abcdefghijkl", "mnopqrstuvwxyz"]], ["x", "y"], width=width)

    assert {*"abcdefghijklmnopqrstuvwxyz"} <= set(text)


def test_the_terminal_gives_the_width_only_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert max(map(len, table(ROWS, HEADS).splitlines())) <= 60

    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    word = "x" * 300
    lines = table([[word, LONG]], ["id", "text"]).splitlines()

    assert any(line.startswith(word) for line in lines)
    assert max(map(len, lines)) <= 300 + 2 + 80


def test_figures_stand_to_the_right_and_texts_to_the_left() -> None:
    rows = [["a", "56.1 MiB", "1 stack"], ["bc", "-", "5"]]

    _, _, first, second = table(rows, ["x", "memory", "y"], width=80).splitlines()

    assert first == "a    56.1 MiB  1 stack"
    assert second == "bc          -  5"


def test_an_empty_table_is_its_header() -> None:
    assert table([], ["a", "b"]).split() == ["a", "b", "---", "---"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.json"
    write_json(path, {"n": 1})
    write_json(path, {"n": 2})

    assert json.loads(path.read_text()) == {"n": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"n": 1})

    with pytest.raises(TypeError):
        write_json(path, {"n": object()})

    assert json.loads(path.read_text()) == {"n": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]

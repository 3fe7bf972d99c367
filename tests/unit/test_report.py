from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from stackyard.report import Row, RunReport, memory_rows, table, write_json

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

    assert lines[2].split() == ["start-up", "2.00", "s", "30.00", "ok"]
    assert lines[3].split() == ["clean-up", "9.00", "s", "5.00", "OVER"]


def test_json_carries_each_verdict() -> None:
    assert [row["verdict"] for row in make_report().to_json()["rows"]] == ["ok", "OVER"]


def test_memory_is_summed_only_when_every_service_was_measured() -> None:
    known = memory_rows({"redis": 1 << 20, "auth": 2 << 20}, 2048)
    unknown = memory_rows({"redis": 1 << 20, "auth": None}, 2048)

    assert (known[-1].value, known[-1].verdict) == (3.0, "ok")
    assert (unknown[-1].value, unknown[-1].verdict) == (None, "")
    assert "unavailable" in make_report(rows=unknown).table()
    assert memory_rows({}, 1)[-1].value is None


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

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import page_facts as made
import pytest

from stackyard._util.files import write_json
from stackyard.bench.records import Run
from stackyard.errors import UsageError
from stackyard.report.inputs import gather

if TYPE_CHECKING:
    from pathlib import Path


def changed(path: str, value: Any) -> str:
    """Return a good line of the history with one field replaced."""
    line = json.loads(json.dumps(made.run(0, made.startup(0.75), waterfall=made.STEPS, notes=("n",)).to_json()))
    place: Any = line
    *names, last = path.split(".")
    for name in names:
        place = place[int(name) if name.isdecimal() else name]
    place[int(last) if last.isdecimal() else last] = value
    return json.dumps(line)


def test_a_good_line_is_read_as_it_was_written() -> None:
    run = made.run(0, made.everything(), waterfall=made.STEPS, options={"env": "test"})

    assert Run.read(json.dumps(run.to_json())) == run


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("results.0.median", "0.7"), ("results.0.median", float("nan")), ("results.0.samples.0", float("inf")),
        ("results.0.samples.0", None), ("results.0.samples.0", True), ("results.0.unit", 3), ("results.0.failed", None),
        ("results.0.suite", ["x"]), ("waterfall.0.end", "x"), ("machine.load", None), ("machine", "fast"),
        ("notes.0", 5), ("when", None), ("options", [1]), ("changed", "yes"), ("results", 5), ("version", 0),
        ("machine.engine", {}), ("results.0.judged", "best"), ("results.0.unit", "s" * 17), ("waterfall.0", 3),
    ],
)  # fmt: skip
def test_a_field_that_is_not_of_its_kind_is_refused(path: str, value: Any) -> None:
    with pytest.raises(UsageError):
        Run.read(changed(path, value))


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "null", '{"version": 1}', "[" * 100_000, "NaN"])
def test_a_line_that_is_no_run_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        Run.read(line)


def test_a_bad_line_is_reported_and_costs_no_other(tmp_path: Path) -> None:
    root = made.lay_out(tmp_path, [made.run(0, made.startup(0.75)), made.run(1, made.startup(0.5))])
    history = root / "reports/history.jsonl"
    first, second = history.read_text().splitlines()
    history.write_bytes(f"{first}\n\n".encode() + b"\xff{half\n" + f"{second}\n".encode())

    facts = gather(root)

    assert [run.id for run in facts.runs] == ["000000000000", "000000000001"]
    assert [gap.partition(":")[0] for gap in facts.gaps] == ["reports/history.jsonl, line 3, is left out"]


def test_an_empty_project_says_what_is_missing_and_what_makes_it(tmp_path: Path) -> None:
    facts = gather(tmp_path)

    assert (facts.runs, facts.environments, facts.verified) == ((), (), None)
    # a command line follows in brackets where a front end has offered one
    assert [gap.rpartition("; ")[2].partition(" (")[0] for gap in facts.gaps] == [
        "run the benchmarks", "run the platform's tests", "verify the platform",
    ]  # fmt: skip


def test_the_newest_run_that_measured_a_suite_is_the_one_shown(tmp_path: Path) -> None:
    runs = [made.run(0, made.everything()), made.run(1, made.startup(0.5), waterfall=made.STEPS), made.run(2)]

    facts = gather(made.lay_out(tmp_path, runs))

    assert [facts.newest(name) for name in ("startup", "pool", "nothing")] == [facts.runs[1], facts.runs[0], None]
    assert [row.median for row in facts.results("startup")] == [0.5, 5.0]
    assert facts.results("nothing") == []
    assert facts.waterfall() == facts.runs[1]
    assert facts.suites[0] == "startup"


def test_an_environments_report_is_read_with_its_troubles(tmp_path: Path) -> None:
    made.lay_out(tmp_path)
    write_json(
        tmp_path / "reports/ci.json",
        made.run_report(environment="ci", outcome="failed", leftovers=["network n"]).to_json(),
    )

    ci, test = gather(tmp_path).environments

    assert (ci.name, ci.outcome, ci.troubles) == ("ci", "failed", ("network n",))
    assert (test.seconds, test.rows[1]["verdict"], test.when.timestamp()) == (9.5, "OVER", made.WRITTEN)


def test_a_run_in_the_pool_is_shown_as_its_environments_with_the_slot(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    write_json(tmp_path / "reports/alpine-test-slot7.json", made.run_report(environment="alpine-test").to_json())

    (run,) = gather(tmp_path).environments

    assert (run.name, run.slot, run.reason) == ("alpine-test", "slot 7", "")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"exit_code": 4}, "pytest refused its options"), ({"exit_code": 1}, "a test failed"), ({"exit_code": 99}, ""),
        ({"exit_code": 1, "reason": "postgres ended"}, "postgres ended"),
    ],
)  # fmt: skip
def test_a_run_that_did_not_pass_says_why(tmp_path: Path, given: dict[str, Any], reason: str) -> None:
    (tmp_path / "reports").mkdir()
    write_json(tmp_path / "reports/test.json", made.run_report(outcome="failed", **given).to_json())

    assert gather(tmp_path).environments[0].reason == reason


def test_a_report_in_mebibytes_is_read_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    row = {"what": "memory of the stack", "value": 82.5, "unit": "MiB", "budget": 2048, "verdict": "ok"}
    write_json(tmp_path / "reports/test.json", made.run_report().to_json() | {"rows": [row]})

    (found,) = gather(tmp_path).environments[0].rows

    assert (found["value"], found["budget"], found["unit"]) == (82.5 * 2**20, 2**31, "bytes")


@pytest.mark.parametrize(
    "change",
    [
        {"rows": [{"what": "x"}]},
        {"rows": [{"what": "x", "value": "y", "unit": "s"}]},
        {"rows": [{"what": "x", "value": float("nan"), "unit": "s"}]},
        {"rows": [{"what": "x", "value": 1, "unit": "s" * 17}]},
        {"rows": ["x"]},
        {"rows": 3},
        {"seconds": "long"},
        {"leftovers": 5},
    ],
)
def test_a_report_that_is_none_is_left_out_and_named(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/test.json").write_text(json.dumps(made.run_report().to_json() | change))

    facts = gather(tmp_path)

    assert facts.environments == ()
    assert any(gap.startswith("reports/test.json is left out") for gap in facts.gaps)


def test_other_json_beside_the_reports_is_not_mistaken_for_one(tmp_path: Path) -> None:
    made.lay_out(tmp_path)
    for name, text in (("list.json", "[1]"), ("sbom.json", "{}"), ("half.json", "{")):
        (tmp_path / "reports" / name).write_text(text)

    facts = gather(tmp_path)

    assert [run.name for run in facts.environments] == ["test"]


def test_verify_is_counted_without_what_is_waived(tmp_path: Path) -> None:
    made.lay_out(tmp_path)
    log = made.sarif_log(
        made.finding("error", "a"), made.finding("warning", "b"), made.finding("note", "c"),
        made.finding("error", "d", suppressions=[{}]),
    )  # fmt: skip
    write_json(tmp_path / "reports/verify.sarif", log)

    verified = gather(tmp_path).verified

    assert verified is not None
    assert (verified.checks, verified.waived) == (3, 1)
    assert verified.found == {"errors": 1, "warnings": 1, "infos": 1}
    assert verified.findings[0] == ("stack-x", "error", "a")


@pytest.mark.parametrize("log", [[], {"runs": []}, {"runs": [{"results": 3}]}, made.sarif_log({"level": "odd"}), 7])
def test_a_log_that_is_no_sarif_is_left_out_and_named(tmp_path: Path, log: Any) -> None:
    made.lay_out(tmp_path)
    write_json(tmp_path / "reports/verify.sarif", log)

    facts = gather(tmp_path)

    assert facts.verified is None
    assert any(gap.startswith("reports/verify.sarif is left out") for gap in facts.gaps)

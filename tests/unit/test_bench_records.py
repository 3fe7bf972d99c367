from __future__ import annotations

import json
import multiprocessing
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_stacks import result, run

from stackyard._util import process
from stackyard.bench import machine
from stackyard.bench.history import History
from stackyard.bench.records import Findings, Machine, Result, Run, Step
from stackyard.bench.stats import interval, mann_whitney
from stackyard.errors import UsageError
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_engine import FakeEngine

TEN = tuple(1.0 + n / 100 for n in range(10))
DOCS = Path("docs/benchmarks.md")


def test_a_result_tells_what_its_samples_can_and_not_more() -> None:
    few, many = result("startup", "x", *TEN[:4]), result("startup", "x", *(TEN * 2))

    assert (few.n, few.median, few.low, few.p95) == (4, 1.015, None, None)
    assert many.low is not None
    assert many.high is not None
    assert many.low < many.median < many.high  # type: ignore[operator]
    assert (many.p95, many.p99) == (1.09, None)


@pytest.mark.parametrize(
    ("samples", "given", "verdict"),
    [
        pytest.param([0.9, 1.0, 3.0], {"target": 1.0}, "PASS", id="median-at-the-target"),
        pytest.param([0.9, 1.1, 3.0], {"target": 1.0}, "FAIL", id="median-above"),
        pytest.param([0.9, 1.0, 3.0], {"target": 1.0, "judged": "worst"}, "FAIL", id="worst-above"),
        pytest.param([5, 6, 7], {"target": 5, "better": "more", "judged": "worst"}, "PASS", id="worst-of-more"),
        pytest.param([5, 6, 7], {"target": 6.5, "better": "more"}, "FAIL", id="too-few"),
        pytest.param([0.5], {"target": 1.0, "failed": 1}, "FAIL", id="a-failed-attempt"),
        pytest.param([], {"target": 1.0, "failed": 1}, "FAIL", id="nothing-but-failures"),
        pytest.param([], {"target": 1.0}, None, id="not-measured"),
        pytest.param([0.5], {}, None, id="nothing-promised"),
    ],
)
def test_a_verdict_follows_the_target(samples: list[float], given: dict[str, Any], verdict: str | None) -> None:
    assert result("startup", "x", *samples, **given).verdict == verdict


def test_no_figure_is_none_with_a_reason_and_never_zero() -> None:
    missing = result("services", "peak")

    assert (missing.median, missing.figure, missing.n) == (None, None, 0)
    assert missing.reason == "no sample was good"


def test_a_run_survives_the_way_through_the_history() -> None:
    made = run(
        result("startup", "stackyard", *TEN, target=1.0), result("services", "peak"),
        waterfall=(Step(name="network", begin=0.0, end=0.1),), notes=("no peers",), options={"parallel": 3},
    )  # fmt: skip

    assert Run.read(json.dumps(made.to_json())) == made


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda row: row.update(version=3), "schema version 1 or 2, got 3"),
        (lambda row: row.pop("when"), "missing required field `when`"),
        (lambda row: row["results"][0].update(speed=1), r"unknown field `speed` - at `\$\.results\[0\]`"),
        (lambda row: row["machine"].pop("cpus"), r"missing required field `cpus` - at `\$\.machine`"),
    ],
)
def test_a_run_of_another_shape_is_refused(break_it: Callable[[dict[str, Any]], Any], message: str) -> None:
    row = run(result("startup", "stackyard", 1.0)).to_json()
    break_it(row)

    with pytest.raises(UsageError, match=message):
        Run.read(json.dumps(row))


def test_the_documentation_lists_every_field_of_the_history() -> None:
    text = (project_root() / DOCS).read_text(encoding="utf-8")
    told = {
        (kind, name)
        for kind, names in re.findall(r"^\| (\w+) \| (.+?) \|", text, re.MULTILINE)
        for name in names.split()
    }

    for kind in (Run, Result, Machine, Step):
        for name in kind.__struct_fields__:
            assert (kind.__name__, f"`{name}`") in told, f"{kind.__name__}.{name} is not in {DOCS}"


def test_a_line_of_the_first_version_is_read_in_the_units_of_this_one() -> None:
    rows = result("services", "memory", 1.0), result("leases", "alone", 2.0), result("startup", "own", 3.0)
    row = run(*rows).to_json()
    memory, alone, own = row["results"]
    row |= {"version": 1, "machine": {**row["machine"], "memory_mb": 25000}}
    del row["machine"]["memory_bytes"]
    memory |= {"unit": "MiB", "samples": [56.2, 57], "median": 56.5, "target": 64}
    alone |= {"unit": "ms", "samples": [2.0], "median": 2.0, "p95": 2.5}
    made = Run.read(json.dumps(row))

    assert (made.version, made.machine.memory_bytes) == (2, 25_000_000_000)
    assert [(found.unit, found.samples, found.median) for found in made.results] == [
        ("bytes", (58929971, 59768832), 59244544), ("s", (0.002,), 0.002), ("s", (3.0,), 3.0),
    ]  # fmt: skip
    assert (made.results[0].target, made.results[1].p95, own["unit"]) == (64 << 20, 0.0025, "s")
    assert Run.read(json.dumps(made.to_json())) == made


def test_findings_add_up_and_keep_each_note_once() -> None:
    one = Findings(results=(result("startup", "a", 1.0),), notes=("x",))
    two = Findings(
        results=(result("startup", "b", 1.0),), notes=("x", "y"), waterfall=(Step(name="s", begin=0, end=1),)
    )

    both = one + two

    assert [found.row for found in both.results] == ["a", "b"]
    assert (both.notes, len(both.waterfall)) == (("x", "y"), 1)
    assert both.find("startup", "b") is two.results[0]
    assert both.find("startup", "c") is None


def test_a_run_knows_what_missed_its_target() -> None:
    made = run(result("startup", "a", 2.0, target=1.0), result("startup", "b", 0.5, target=1.0))

    assert [missed.row for missed in made.failures] == ["a"]
    assert made.find("startup", "z") is None


def test_the_interval_holds_the_median_and_is_the_same_each_time() -> None:
    low, high = interval(TEN) or (0.0, 0.0)

    assert low <= statistics.median(TEN) <= high
    assert interval(TEN) == (low, high)
    assert interval(TEN[:4]) is None


# SciPy's documentation of scipy.stats.mannwhitneyu has this example, two-sided: 0.1111111111111111 by the exact
# distribution, 0.11134688653314041 by the normal approximation. One-sided is half of either here.
MALES, FEMALES = [19, 22, 16, 29, 24], [20, 11, 17, 12]


def test_the_exact_chance_is_the_published_one() -> None:
    assert mann_whitney(FEMALES, MALES) == pytest.approx(0.1111111111111111 / 2)
    assert mann_whitney(MALES, FEMALES) == pytest.approx(122 / 126)  # 4 of the 126 orders have U below 3


def test_the_approximate_chance_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackyard.bench.stats.EXACT", 0)

    assert mann_whitney(FEMALES, MALES) == pytest.approx(0.11134688653314041 / 2)


def test_ten_samples_wholly_above_ten_others_are_no_accident() -> None:
    assert mann_whitney(TEN, [value + 1 for value in TEN]) == pytest.approx(1 / 184756)
    assert mann_whitney([value + 1 for value in TEN], TEN) == pytest.approx(1.0)


def test_samples_all_alike_say_nothing() -> None:
    assert mann_whitney([1.0] * 6, [1.0] * 6) == 1.0
    assert mann_whitney([1.0, 1.0, 2.0], [1.0, 2.0, 2.0]) > 0.2
    with pytest.raises(ValueError, match="no samples"):
        mann_whitney([], [1.0])


def _add(file: str, count: int) -> None:
    for number in range(count):
        History(file=Path(file)).append(run(result("startup", "stackyard", 1.0), identity=f"{number:012x}"))


def test_many_processes_add_whole_lines(tmp_path: Path) -> None:
    file = str(tmp_path / "reports" / "history.jsonl")
    workers = [multiprocessing.get_context("spawn").Process(target=_add, args=(file, 5)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert len(History(file=Path(file)).runs()) == 15


def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    history = History(file=tmp_path / "history.jsonl")
    history.append(run(result("startup", "stackyard", 1.0), identity="first0000000"))
    with history.file.open("a") as opened:
        opened.write('{"version": 1, "id": "ha')

    history.append(run(result("startup", "stackyard", 1.0), identity="second000000"))

    assert [found.id for found in history.runs()] == ["first0000000", "second000000"]


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(file=tmp_path / "history.jsonl")
    history.append(run(result("startup", "stackyard", 1.0)))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stackyard.bench.history.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        history.append(run(result("startup", "stackyard", 2.0)))

    assert len(history.runs()) == 1


def test_a_run_is_found_by_its_id_or_its_commit_the_newest_first(tmp_path: Path) -> None:
    history = History(file=tmp_path / "history.jsonl")
    assert history.runs() == []
    for identity, commit in (("aaa", "111"), ("bbb", "111"), ("ccc", None)):
        history.append(run(result("startup", "stackyard", 1.0), identity=identity, commit=commit))

    assert history.find("aaa").id == "aaa"
    assert history.find("main", "111").id == "bbb"
    assert history.find("11").id == "bbb"
    with pytest.raises(UsageError, match="no benchmark run of 'zzz'; newest: aaa"):
        history.find("zzz")


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", '"text"', '{"version": 1, "results": 3}'])
def test_a_line_that_is_no_run_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(f"\n{line}\n")

    with pytest.raises(UsageError, match=r"history.jsonl: line 2 is no benchmark run"):
        History(file=file).runs()


def test_a_history_that_cannot_be_read_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_bytes(b"\xff\xfe")

    with pytest.raises(UsageError, match="cannot be read"):
        History(file=tmp_path / "history.jsonl").runs()


def test_this_machine_is_described(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.describe()
    fake_engine.broken = True

    assert found.engine == "26.1.5"
    assert found.cpus >= 1
    assert found.memory_bytes > 100_000_000
    assert machine.describe().engine is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.describe().compose is None


def test_what_the_kernel_does_not_tell_is_none(tmp_path: Path) -> None:
    (tmp_path / "odd").write_text("some nonsense")

    assert machine._cpu(tmp_path / "none") is None
    assert machine._pressure(tmp_path / "none") is None
    assert machine._pressure(tmp_path / "odd") is None


def test_a_report_that_a_run_wrote_is_no_change_of_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "project_root", lambda: tmp_path)
    for name in (*machine.OURS, "src.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "m"]):
        process.run(["git", "-C", str(tmp_path), *words], deadline=120)

    (tmp_path / machine.OURS[0]).write_text("new")
    assert not machine.changed()
    (tmp_path / "src.py").write_text("new")
    assert machine.changed()


def test_a_commit_is_reported_only_where_git_knows_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.commit("--help") is None
    assert machine.commit("nonsense") is None
    monkeypatch.setattr(machine, "project_root", lambda: tmp_path)

    assert machine.commit() is None
    assert machine.changed()

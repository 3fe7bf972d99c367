from __future__ import annotations

import importlib.util
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from fake_stacks import result, run
from invoke.exceptions import Exit
from msgspec.structs import replace

from stackyard.bench import comparison, machine, outputs, suites
from stackyard.bench.history import History
from stackyard.bench.records import Step
from stackyard.cli import bench
from stackyard.cli import benchmarks as program
from stackyard.errors import EngineError, UsageError
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stackyard.bench.options import Plan
    from stackyard.bench.records import Run

TEN = tuple(1.0 + n / 100 for n in range(10))


def call(task: Any, *words: str, **options: Any) -> None:
    task.body(None, *words, **options)


def pair(own: Sequence[float], reference: Sequence[float], **given: Any) -> Run:
    return run(result("startup", "stackyard", *own), result("startup", "compose-100ms", *reference), **given)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    made = History(file=tmp_path / "reports" / "history.jsonl")
    monkeypatch.setattr(History, "of_project", lambda: made)
    monkeypatch.setattr(machine, "commit", {"main": "1" * 40, "HEAD": "2" * 40}.get)
    return made


def slower(samples: Sequence[float], factor: float) -> list[float]:
    return [factor * sample for sample in samples]


def test_a_start_that_has_become_slower_by_a_third_is_refused(history: History) -> None:
    history.append(pair(TEN, TEN, identity="base00000000", commit="1" * 40))
    history.append(pair(slower(TEN, 1.3), TEN, identity="new000000000", commit="2" * 40))

    with pytest.raises(
        Exit, match=r"slower than run base00000000 by more than 15 %: .* takes 1.30 times as long"
    ) as ended:
        call(bench.gate)

    assert ended.value.code == 1


def test_a_machine_that_was_slower_all_over_is_no_fault_of_the_commit(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    history.append(pair(TEN, TEN, identity="base00000000", commit="1" * 40))
    history.append(pair(slower(TEN, 2.0), slower(TEN, 2.0), identity="new000000000", commit="2" * 40))

    call(bench.gate)

    shown = capsys.readouterr().out
    assert "/ plain Compose" in shown
    assert "1.00" in shown


def test_noise_is_not_refused(history: History) -> None:
    noisy = (0.7, 2.1, 0.8, 1.9, 1.0, 2.0, 0.9, 1.8, 1.1, 1.7)
    history.append(pair(noisy, TEN, identity="base00000000", commit="1" * 40))
    history.append(pair(slower(noisy, 1.2), TEN, identity="new000000000", commit="2" * 40))

    call(bench.gate)


def test_the_same_commit_passes_against_its_own_earlier_run_again_and_again(history: History) -> None:
    for identity in ("one000000000", "two000000000"):
        history.append(pair(TEN, TEN, identity=identity, commit="1" * 40))

    call(bench.gate)
    call(bench.gate, against="one0", candidate="two0")


def test_a_difference_within_the_tolerance_passes_however_sure(history: History) -> None:
    history.append(pair(TEN, TEN, identity="base00000000", commit="1" * 40))
    history.append(pair(slower(TEN, 1.14), TEN, identity="new000000000", commit="2" * 40))

    call(bench.gate)
    with pytest.raises(Exit):
        call(bench.gate, tolerance="5%")


def test_a_handful_of_samples_refuses_nothing(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.append(pair(TEN[:4], TEN, identity="base00000000", commit="1" * 40))
    history.append(pair(slower(TEN[:4], 9.0), TEN, identity="new000000000", commit="2" * 40))

    call(bench.gate)

    assert "too few samples" in capsys.readouterr().out


def test_a_gate_without_runs_says_what_to_do(history: History) -> None:
    with pytest.raises(Exit, match=r"measure the start-up \('\./noxw -s bench -- startup'\)"):
        call(bench.gate)
    history.append(pair(TEN, TEN, identity="only00000000", commit="1" * 40))
    with pytest.raises(Exit, match="no other benchmark run of 'main'"):
        call(bench.gate)
    with pytest.raises(Exit, match="no other benchmark run of 'elsewhere'"):
        call(bench.gate, against="elsewhere")


def test_runs_with_nothing_to_guard_in_common_are_refused() -> None:
    one, other = run(result("startup", "stackyard", *TEN)), run(result("cleanup", "stackyard", *TEN))

    with pytest.raises(UsageError, match="have no cleanup, pool, reset, startup in common"):
        comparison.guard(one, other)


def test_more_is_better_is_judged_the_other_way_round() -> None:
    fast = run(result("services", "reads", *TEN, better="more"))
    slow = run(result("services", "reads", *slower(TEN, 0.5), better="more"))

    (found,) = comparison.compare(fast, slow)

    assert (found.ratio, found.relative) == (0.5, False)
    assert found.chance is not None
    assert found.chance < 0.001
    assert comparison.compare(run(result("services", "reads")), slow) == []


@pytest.mark.parametrize(("text", "fraction"), [("15%", 0.15), ("0.2", 0.2), ("0%", 0.0), ("7.5%", 0.075), ("1", 1.0)])
def test_a_tolerance_is_a_share(text: str, fraction: float) -> None:
    assert comparison.parse_tolerance(text) == pytest.approx(fraction)


@pytest.mark.parametrize("text", ["", "x", "-1%", "101%", "15 %", "1e1", "٣%", "nan"])
def test_any_other_tolerance_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--tolerance must be from 0% to 100% such as 15%"):
        comparison.parse_tolerance(text)


def test_two_runs_stand_beside_each_other(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.append(pair(TEN, TEN, identity="one000000000", commit="1" * 40))
    history.append(pair(slower(TEN, 2.0), TEN, identity="two000000000", commit="2" * 40))

    call(bench.compare, "main", "two")
    assert "2.00" in capsys.readouterr().out
    call(bench.compare, "main", "HEAD", json=True)

    told = json.loads(capsys.readouterr().out)
    assert (told["base"], told["candidate"]) == ("one000000000", "two000000000")
    assert [row["ratio"] for row in told["rows"]] == [2.0, 1.0]


def test_the_history_lists_its_runs(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.append(replace(pair(TEN, TEN), changed=True))

    call(bench.history)
    assert "c0ffeec0ff with changes" in capsys.readouterr().out
    call(bench.history, json=True)
    assert json.loads(capsys.readouterr().out)[0]["id"] == "a1b2c3d4e5f6"


def whole_run(**given: Any) -> Run:
    return run(
        result("startup", "stackyard", *TEN, target=1.0), result("startup", "broken", failed=2, reason="no image"),
        result("parallel", "cost-3", 250.0, at=3, subject="stacks at once"),
        result("requirements", "limits", 0.0, unit="", target=0, judged="worst"),
        waterfall=(Step(name="network", begin=0.0, end=0.1), Step(name="ready redis", begin=0.1, end=0.4)),
        notes=("no peers",), **given,
    )  # fmt: skip


def test_a_run_is_printed_with_the_machine_first_and_what_was_missed_last() -> None:
    lines = outputs.text(whole_run()).splitlines()

    assert lines[0].startswith("2 x Cpu 3000, 23,842 MiB, Debian 12, kernel 6.1.0")
    assert "Docker Engine 26.1.5" in lines[1]
    assert "something waited for a processor 12 % of the time" in lines[1]
    assert "stackyard, broken: no image" in lines
    assert any(line.startswith("3 stacks at once") for line in lines)
    assert "note: no peers" in lines
    assert lines[-2] == "1 of 2 measured targets met"
    assert lines[-1] == "missed: stackyard, stackyard: 1.04 s, target 1 s; ./noxw -s bench -- startup"


def test_a_run_of_figures_without_targets_says_so() -> None:
    assert outputs.text(run(result("commands", "env-up", 1.0))).endswith("none of these figures has a target")


def test_a_crowd_is_listed_stack_by_stack_when_all_of_it_stood() -> None:
    rows = [result("parallel", f"{row}-2", value, 2.0, at=2) for row, value in
            (("start", 1.5), ("memory", 110 << 20), ("removal", 0.25))]  # fmt: skip

    assert outputs.stacks(run(*rows)).splitlines()[2].split() == ["1", "1.50", "s", "110", "MiB", "0.25", "s"]
    assert outputs.stacks(run(*rows[:2])) == ""
    assert outputs.stacks(run(rows[0], rows[1], result("parallel", "removal-2", 0.5, at=2))) == ""
    assert outputs.stacks(run(result("startup", "stackyard", 1.0))) == ""


def test_what_is_not_known_of_the_machine_is_said() -> None:
    made = whole_run()
    bare = replace(made.machine, cpu=None, system=None, engine=None, compose=None, pressure=None, packet_filter=None)

    text = outputs.text(replace(made, machine=bare, commit=None, waterfall=(), notes=()))

    assert "2 x unknown processor" in text
    assert "Docker Engine unknown, Compose unknown" in text
    assert "unknown commit" in text


def test_a_waterfall_draws_each_step_where_it_was() -> None:
    first, second = outputs.waterfall(whole_run().waterfall).splitlines()

    assert first.startswith("network     ############ ")
    assert second.startswith("ready redis " + " " * 12 + "#" * 38)
    assert second.endswith("0.100 to 0.400 s")


@pytest.fixture
def measured(history: History, monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], Plan]]:
    seen: list[tuple[tuple[str, ...], Plan]] = []

    def measure(names: tuple[str, ...], plan: Plan) -> Run:
        seen.append((names, plan))
        return whole_run()

    assert history.runs() == []
    monkeypatch.setattr(suites, "run", measure)
    return seen


def test_the_program_measures_prints_and_keeps_the_run(
    measured: list[tuple[tuple[str, ...], Plan]], history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["startup", "--quick", "--env", "ci", "--rounds", "4", "--parallel", "2", "--json"]) == 0

    names, plan = measured[0]
    assert (names, plan.depth, plan.environment, plan.repeats, plan.stacks) == (("startup",), "quick", "ci", 4, 2)
    assert json.loads(capsys.readouterr().out)["id"] == history.runs()[0].id
    assert program.main(["cleanup"]) == 0
    assert "1 of 2 measured targets met" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (result("requirements", "start-up", 31.0, target=30.0), 1),
        (result("leases", "sharing", 2.0, unit="", target=0), 1),
        (result("startup", "stackyard", 1.2, target=1.0), 0),
    ],
)
def test_only_what_is_promised_of_every_stack_fails_a_run(row: Any, code: int) -> None:
    assert program.broken(run(row)) == code


@pytest.mark.parametrize(
    "words",
    [
        ["--rounds", "0"],
        ["--rounds", "x"],
        ["--parallel", "501"],
        ["--quick", "--full"],
        ["--parallel", "٣"],
        ["--size", "3"],
    ],
)
def test_wrong_words_are_refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(words)

    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_unknown_suite_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["nonsense"]) == 2
    assert capsys.readouterr().err.startswith("error: no benchmark 'nonsense'")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_asked_to_end_it_unwinds_without_a_traceback(
    number: signal.Signals, code: int, measured: list[Any], monkeypatch: pytest.MonkeyPatch, history: History
) -> None:
    def interrupted(*_: object) -> Run:
        signal.raise_signal(number)
        raise AssertionError(measured)

    monkeypatch.setattr(suites, "run", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a build server may ignore it
    try:
        ended: object = program.main(["startup"])
    except SystemExit as end:
        ended = end.code
    finally:
        signal.signal(signal.SIGINT, interrupt)

    assert (ended, history.runs()) == (code, [])
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_report_alone_measures_nothing(
    measured: list[tuple[tuple[str, ...], Plan]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []

    def write(root: Path, *, completion: bool) -> list[Path]:
        asked.append(completion)
        return [root / "reports" / "index.html"]

    monkeypatch.setattr("stackyard.report.write", write)

    assert program.main(["--report"]) == 0
    assert measured == []
    assert program.main(["startup", "--report"]) == 0
    assert capsys.readouterr().err.count("wrote reports/index.html") == 2
    assert len(measured) == 1
    assert program.main(["--report", "--completion"]) == 0
    assert asked == [False, False, True]
    assert program.main(["startup", "--completion"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: --completion needs --report"


def test_the_task_measures_what_it_is_asked_to(
    measured: list[tuple[tuple[str, ...], Plan]], capsys: pytest.CaptureFixture[str]
) -> None:
    call(bench.run, names=["startup,pool"], full=True, parallel="7", json=True)
    call(bench.run, quick=True, rounds="2")

    assert measured[0][0] == ("startup", "pool")
    assert (measured[0][1].depth, measured[0][1].stacks) == ("full", 7)
    assert (measured[1][1].depth, measured[1][1].repeats) == ("quick", 2)
    assert "measured targets met" in capsys.readouterr().out
    for wrong in ({"quick": True, "full": True}, {"rounds": "0"}, {"parallel": "x"}, {"names": ["nonsense"]}):
        with pytest.raises(Exit) as ended:
            call(bench.run, **wrong)
        assert ended.value.code == 2


def test_the_task_fails_for_a_requirement_that_is_not_met(
    measured: list[tuple[tuple[str, ...], Plan]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured == []
    monkeypatch.setattr(suites, "run", lambda *_: run(result("requirements", "start-up", 31.0, target=30.0)))

    with pytest.raises(Exit, match="a requirement is not met") as ended:
        call(bench.run, quick=True)

    assert ended.value.code == 1


def script() -> Any:
    path = project_root() / "scripts" / "docker_validation_benchmark.py"
    spec = importlib.util.spec_from_file_location("docker_validation_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_validation_benchmark_takes_its_own_flags(
    measured: list[tuple[tuple[str, ...], Plan]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = script()

    assert validation.main(["--env", "alpine-test", "--parallel", "5", "--quick", "--json"]) == 0
    names, plan = measured[0]
    assert names == ("startup", "cleanup", "services", "parallel", "requirements")
    assert (plan.environment, plan.stacks, plan.depth) == ("alpine-test", 5, "quick")
    assert json.loads(capsys.readouterr().out)["version"] == 2
    assert validation.main([]) == 0
    assert "measured targets met" in capsys.readouterr().out

    assert validation.main(["--full"]) == 0
    assert measured[-1][0] == tuple(suites.MODULES)

    def away(*_: object) -> Run:
        raise EngineError("no engine answers")

    monkeypatch.setattr(suites, "run", away)
    assert validation.main(["--full"]) == 3
    assert capsys.readouterr().err.endswith("docker_validation_benchmark.py: no engine answers\n")

from __future__ import annotations

import io
import json
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from stackyard.bench import leases, port_pickers
from stackyard.bench.leases import Outcome, compare
from stackyard.bench.options import Plan
from stackyard.bench.stats import percentile
from stackyard.leases import LeaseBook
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def test_no_percentile_is_given_that_the_samples_do_not_show() -> None:
    few, some, many = ([float(n) for n in range(1, count + 1)] for count in (19, 20, 100))

    assert (percentile(few, 95), percentile(few, 99)) == (None, None)
    assert (percentile(some, 95), percentile(some, 99)) == (19.0, None)
    assert (percentile(many, 95), percentile(many, 99)) == (95.0, 99.0)


def test_a_percentile_is_a_sample_that_was_taken() -> None:
    assert percentile([1.0] * 95 + [2.0] * 5, 95) == 1.0
    assert percentile([1.0] * 94 + [2.0] * 6, 95) == 2.0


def test_a_json_file_counts_on_from_what_it_holds(tmp_path: Path) -> None:
    assert port_pickers.json_file(10, tmp_path) == list(range(9500, 9510))
    assert port_pickers.json_file(10, tmp_path) == list(range(9510, 9520))


def test_the_kernel_gives_ten_different_ports(tmp_path: Path) -> None:
    assert len(set(port_pickers.bind_zero(10, tmp_path))) == 10


def test_peers_are_asked_for_each_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Peer:
        """Counts up under each peer's name."""

        def __init__(self) -> None:
            self.last = 0

        def pick_unused_port(self) -> int:
            self.last += 1
            return self.last

        select_random = reserve = pick_unused_port

    for name, module in port_pickers.MODULES.items():
        if name != "stackyard":
            monkeypatch.setitem(sys.modules, module, Peer())
            assert port_pickers.CONTENDERS[name](3, tmp_path) == [1, 2, 3]


def test_a_contender_answers_once_the_gate_is_open_and_holds_until_its_input_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_POOL", "11400-11419")
    (tmp_path / "gate").touch()
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    port_pickers.main(["stackyard", str(tmp_path / "gate"), "10", str(tmp_path)])

    ready, ports = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert json.loads(ports) == list(range(11400, 11410))
    LeaseBook(Settings.load()).release(LeaseBook(Settings.load()).leases()[0])


def test_leases_share_no_port_and_every_process_gets_some() -> None:
    (found,) = compare(["stackyard"], size=4, rounds=1)

    assert (found.name, found.sharing, found.failed) == ("stackyard", 0, 0)
    assert found.seconds > 0


def test_a_port_two_processes_hold_counts_for_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "same.py"
    program.write_text(
        "import sys, json\nprint('ready', flush=True)\nprint(json.dumps([1, 2]), flush=True)\nsys.stdin.read()\n"
    )
    monkeypatch.setattr(port_pickers, "__file__", str(program))

    (found,) = compare(["JSON file"], size=3, rounds=2)

    assert (found.sharing, found.failed) == (3, 0)


def test_a_process_without_an_answer_counts_as_failed() -> None:
    (found,) = compare(["bind(0)"], size=2, rounds=1, python="/bin/true")

    assert (found.sharing, found.failed) == (0, 2)


def test_the_worst_round_tells_the_sharing_and_the_best_the_time() -> None:
    rounds = [Outcome(name="x", sharing=n, failed=0, seconds=1.0 + n) for n in (2, 0, 4)]

    assert leases._merged(rounds) == Outcome(name="x", sharing=4, failed=0, seconds=1.0)


def test_latency_is_timed_in_every_process() -> None:
    found = leases.latencies(2, 10, rounds=1)

    assert len(found) == 20
    assert min(found) > 0


def test_commands_are_set_beside_idle_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    bursts: list[list[list[str]]] = []
    seconds = iter([0.2, 0.2, 1.0, 3.0, 0.2, 0.2, 1.0, 5.0, 0.2, 0.2, 2.0, 8.0])

    def burst(many: list[list[str]], _folder: str) -> float:
        bursts.append(many)
        return next(seconds)

    monkeypatch.setattr(leases, "_burst", burst)

    assert leases.burst_ratio(2, rounds=3) == 4.0
    first, released, idle, busy = ([words[2:] for words in many] for many in bursts[:4])
    assert (first, released) == (
        [["--force", "--parallel-id", "first"]],
        [["--force", "--parallel-id", "first", "--release"]],
    )
    assert idle == [["pass"]] * 2
    assert [words[-1] for words in busy] == ["job-0", "job-1"]


def test_commands_really_allocate() -> None:
    assert leases.burst_ratio(2, rounds=1) > 0


def test_a_command_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        leases._burst([["/bin/false"]], str(tmp_path))


def test_without_peers_only_what_is_there_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = {"portpicker", "port_for", "ephemeral_port_reserve"}
    monkeypatch.setattr(leases, "find_spec", lambda name: None if name in peers else find_spec(name))
    monkeypatch.setattr(leases, "CONTENDING", 2)
    monkeypatch.setattr(leases, "LEASES_PER_PROCESS", 5)

    found = leases.measure(Plan(rounds=1, parallel=2)).results

    shared = [row.row for row in found if row.row.startswith("sharing")]
    assert shared == ["sharing-stackyard", "sharing-bind(0)", "sharing-JSON file"]
    assert [row.row for row in found[6:]] == ["alone", "contending", "contending-p99", "burst"]

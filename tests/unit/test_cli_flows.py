from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from fake_docker import install_docker
from fake_probes import Answering, replace_probes

from stackyard.cli import flows, pytest_run, signals
from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.errors import LeaseNotFoundError
from stackyard.leases.grants.admission import Memory
from stackyard.leases.port_format import ports_text
from stackyard.project.environments import Environment, project_root
from stackyard.settings import Settings
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.leases import Lease
    from stackyard.stacks.starts.times import Startup

# a fake `docker compose up`: the port is taken for as many calls as the first line of a file says
STOLEN = """
n=$(cat {count}); echo $((n - 1)) > {count}
[ "$n" -le 0 ] || {{ echo 'Bind for 127.0.0.1 failed: port is already allocated' >&2; exit 1; }}
"""


@dataclass(frozen=True)
class Yard:
    """A project of its own: the real environments, a platform suite of one line, a fresh state directory."""

    root: Path
    folder: Path

    def suite(self, body: str) -> None:
        self.root.joinpath("tests", "platform", "test_it.py").write_text(f"def test_it():\n    {body}\n")

    def report(self, name: str = "test") -> dict[str, object]:
        (path,) = self.root.joinpath("reports").glob(f"{name}*.json")
        content: dict[str, object] = json.loads(path.read_text())
        return content


@pytest.fixture
def yard(tmp_path: Path, fake_engine: FakeEngine, free_host: None, monkeypatch: pytest.MonkeyPatch) -> Yard:
    del free_host  # the fixed ports may be those of a real stack
    root = tmp_path / "project"
    for part in ("envs", "compose"):
        shutil.copytree(project_root() / part, root / part, ignore=shutil.ignore_patterns("secrets"))
    for file in (root / "envs" / "docker_environments.yaml", root / "envs" / ".env.local"):
        text = file.read_text()
        for port in ("5433", "6380", "8000", "8081"):  # a dev of this checkout may be up
            text = text.replace(f": {port}", f": 1{port[:3]}7").replace(f"PORT={port}", f"PORT=1{port[:3]}7")
        file.write_text(text)
    root.joinpath("tests", "platform").mkdir(parents=True)
    monkeypatch.setenv("STACKYARD_ROOT", str(root))
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    fake_engine.host = Settings.load().host
    monkeypatch.setattr("stackyard.images.ensure", lambda *_, **__: {"redis": "stackyard/redis:debian-abc"})
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # most of the time of a payload of one line
    replace_probes(monkeypatch, Answering)
    install_docker(tmp_path, "exit 0")
    made = Yard(root=root, folder=tmp_path)
    made.suite("assert True")
    return made


def test_a_run_passes_reports_and_gives_its_lease_back(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    assert flows.test("test", ["-q"]) == 0

    report = yard.report()
    assert (report["outcome"], report["exit_code"], report["leftovers"]) == ("passed", 0, [])
    assert report["reason"] == ""
    assert "test: passed in" in capfd.readouterr().out
    assert len(list(yard.root.joinpath("reports").glob("junit-test*.xml"))) == 1
    assert list(yard.folder.joinpath("state", "leases").iterdir()) == []


def test_the_payload_knows_urls_and_the_images_of_its_lease(yard: Yard) -> None:
    yard.suite(
        "import os; assert os.environ['STACKYARD_IMAGE_REDIS'] == 'stackyard/redis:debian-abc'; "
        "assert os.environ['STACKYARD_BACKEND_URL'].startswith('http://127.0.0.1:'); "
        "assert os.environ['STACKYARD_RESTART_COMMAND'].endswith('--service')"
    )

    assert flows.test("test", ["-q"]) == 0


def test_a_failing_suite_fails_the_run_and_cleans_up_all_the_same(yard: Yard) -> None:
    yard.suite("assert False")

    assert flows.test("test", ["-q"]) == 1

    assert (yard.report()["outcome"], list(yard.folder.joinpath("state", "leases").iterdir())) == ("failed", [])
    assert yard.report()["reason"] == "a test failed"


def test_no_test_at_all_is_a_failure(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    yard.root.joinpath("tests", "platform", "test_it.py").write_text("")

    assert flows.test("test", ["-q"]) == 2
    assert (yard.report()["outcome"], yard.report()["reason"]) == ("failed", "no test was collected")
    assert "error: no test was collected\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["-k", "nothing_matches"],
            "error: no test was collected for -k nothing_matches: no tests collected (1 deselect",
        ),
        (["--foo"], "error: pytest: unrecognized arguments: --foo\n"),
        (["tests/platform/test_it.py::test_other"], "error: pytest: not found: "),
        (["-k"], "error: pytest: argument -k: expected one argument\n"),
    ],
)
def test_words_that_pytest_refuses_start_nothing_and_keep_the_last_report(
    yard: Yard, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], line: str
) -> None:
    monkeypatch.setattr(flows, "launch", lambda *_, **__: pytest.fail("started a stack"))
    yard.root.joinpath("reports").mkdir()
    yard.root.joinpath("reports", "test.json").write_text("{}")

    assert flows.test("test", words) == 2
    assert capfd.readouterr().out.startswith(line)
    assert yard.report() == {}
    assert not yard.folder.joinpath("state", "leases").exists()


def test_tests_that_cannot_be_imported_start_nothing(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    yard.root.joinpath("tests", "platform", "test_it.py").write_text("import no_such_module\n")

    assert flows.test("test", ["-k", "it"]) == 1
    assert "error: pytest cannot collect the tests:\n" in capfd.readouterr().out
    assert not yard.root.joinpath("reports").exists()


@pytest.mark.parametrize(("word", "shown"), [("--help", "usage: "), ("--collect-only", "test_it")])
def test_what_pytest_only_tells_needs_no_stack(
    yard: Yard, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str, shown: str
) -> None:
    monkeypatch.setattr(flows, "launch", lambda *_, **__: pytest.fail("started a stack"))

    assert flows.test("test", [word]) == 0
    assert shown in capfd.readouterr().out
    assert not yard.root.joinpath("reports").exists()


@pytest.mark.parametrize(("of_pytest", "ours"), [(0, 0), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (-9, 137), (124, 124)])
def test_exit_codes_of_pytest_become_ours(of_pytest: int, ours: int) -> None:
    assert pytest_run.verdict(of_pytest)[0] == ours


@pytest.mark.parametrize(
    ("of_pytest", "reason"),
    [(0, ""), (1, "a test failed"), (3, "pytest itself failed"), (9, "pytest ended with exit code 9"),
     (-9, "pytest was ended by SIGKILL")],
)  # fmt: skip
def test_an_exit_code_of_pytest_has_a_reason(of_pytest: int, reason: str) -> None:
    assert pytest_run.reason(of_pytest) == reason


def test_a_kept_stack_outlives_the_run(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    assert flows.test("test", ["--keep", "-q"]) == 0

    (directory,) = yard.folder.joinpath("state", "leases").iterdir()
    assert f"invoke env.down --name {directory.name}" in capfd.readouterr().out


def test_a_stolen_port_costs_a_move_not_the_run(yard: Yard) -> None:
    count = yard.folder / "count"
    count.write_text("2")
    install_docker(yard.folder, STOLEN.format(count=count))

    assert flows.test("test", ["-q"]) == 0

    notes = [note for note in yard.report()["notes"] if "another program took a leased port" in note]  # type: ignore[attr-defined]
    assert len(notes) == 2


def test_ports_stolen_again_and_again_end_the_run(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    count = yard.folder / "count"
    count.write_text("99")
    install_docker(yard.folder, STOLEN.format(count=count))

    assert flows.test("test", ["-q"]) == 7

    out = capfd.readouterr().out
    assert "test did not start: other programs took a leased port 5 times" in out
    assert "port is already allocated" in out
    assert list(yard.folder.joinpath("state", "leases").iterdir()) == []


def test_what_is_left_is_named_and_fails_the_run(
    yard: Yard, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stackyard.cleanup.removal.PAUSE", 0)
    fake_engine.refuse["networks net"] = (403, "has active endpoints")
    plain = Stack.up

    def up(stack: Stack, **options: Any) -> Startup:
        fake_engine.network("net", stack.lease.id, users=("stranger",))
        return plain(stack, **options)

    monkeypatch.setattr(Stack, "up", up)

    assert flows.test("test", ["-q"]) == 8
    assert "left: network net: still used by stranger" in capfd.readouterr().out
    assert yard.report()["reason"] == "something could not be removed"


def test_a_run_says_what_it_swept_first(yard: Yard, fake_engine: FakeEngine) -> None:
    host = Settings.load().host
    fake_engine.container("redis", "dead")["labels"]["stackyard.host"] = host

    assert flows.test("test", ["-q"]) == 0

    assert yard.report()["notes"][:1] == ["removed 1 thing that dead runs had left"]  # type: ignore[index]


def test_sigterm_cleans_up_and_ends_with_143(yard: Yard) -> None:
    yard.suite(f"import os, signal, time; os.kill({os.getpid()}, signal.SIGTERM); time.sleep(30)")
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        flows.test("test", ["-q"])

    assert caught.value.code == 143
    assert (yard.report()["outcome"], yard.report()["reason"]) == ("interrupted", "SIGTERM or SIGHUP")
    assert list(yard.folder.joinpath("state", "leases").iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_bad_input_is_one_line_and_exit_code_2(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    del yard

    assert flows.test("tset", []) == 2
    assert flows.test("test", ["down"]) == 2
    assert flows.dev(["--verbose"]) == 2
    assert [line.split(":")[0] for line in capfd.readouterr().out.splitlines()] == ["error"] * 3


def test_dev_comes_up_prints_where_it_is_and_goes_down(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    del yard

    assert flows.dev([]) == 0
    assert flows.dev([]) == 0
    up = capfd.readouterr().out
    assert flows.dev(["down"]) == 0
    assert flows.dev(["--down"]) == 0

    assert "postgresql://app:" in up
    down = capfd.readouterr().out.splitlines()
    assert "its data is kept" in down[0]
    assert down[1] == "dev of this checkout is not up"


def dev_lease(fake_engine: FakeEngine) -> Lease:
    """Let a container and a data volume stand under the lease of dev in this checkout."""
    with Engine() as engine:
        book, dev = open_book(None, engine), Environment.load("dev")
        lease = book.acquire(dev, ttl=math.inf, force=True)
    fake_engine.container("redis", lease.id)
    fake_engine.volume("data", lease.id)
    fake_engine.volumes["data"]["Labels"]["stackyard.environment"] = "dev"
    return lease


def test_data_goes_only_when_it_is_named_and_somebody_agrees(
    yard: Yard, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    del yard
    dev_lease(fake_engine)

    assert flows.dev(["down", "--volumes"]) == 2
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    assert flows.dev(["down", "--volumes"]) == 2
    assert flows.dev(["down"]) == 0
    assert list(fake_engine.volumes) == ["data"]
    assert "the data of dev is kept" in capfd.readouterr().out

    monkeypatch.setattr("builtins.input", lambda _question: "y")
    assert flows.dev(["down", "--volumes"]) == 0
    assert fake_engine.volumes == fake_engine.containers == {}


def test_the_removal_of_data_can_be_agreed_to_beforehand(yard: Yard, fake_engine: FakeEngine) -> None:
    del yard
    dev_lease(fake_engine)

    assert flows.dev(["--volumes"]) == 2
    assert flows.dev(["down", "--volumes", "--yes"]) == 0
    assert fake_engine.volumes == fake_engine.containers == {}


def test_a_second_checkout_has_a_dev_of_its_own_in_the_pool_and_says_so(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert flows.dev([]) == 0
    second = shutil.copytree(yard.root, yard.folder / "second")
    monkeypatch.setenv("STACKYARD_ROOT", str(second))
    capfd.readouterr()

    assert flows.dev([]) == 0

    told = capfd.readouterr().out
    with Engine() as engine:
        first, other = open_book(None, engine).leases()
    assert (first.slot, first.deadline, other.deadline, first.environment) == (None, None, None, other.environment)
    assert other.slot is not None
    assert other.checkout == str(second)
    ports = f"{other.ports['postgres']}-{other.spare[-1]}"
    assert f"fixed ports of dev belong to {yard.root} ({first.id}); this stack runs on ports {ports}" in told
    assert flows.dev(["down"]) == 0
    assert flows.dev(["down"]) == 0
    assert f"dev of this checkout is not up; other checkouts have: {yard.root} ({first.id})" in capfd.readouterr().out


def test_the_dev_of_another_book_has_the_fixed_ports_and_is_named(
    yard: Yard, fake_engine: FakeEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    del yard
    environment = Environment.load("dev")
    labels = fake_engine.container("redis", "dev-0badca")["labels"]
    labels |= {
        "stackyard.host": "0ther", "stackyard.environment": "dev", "stackyard.checkout": "/home/eve/work",
        "stackyard.ports": ports_text(environment.ports, ()),
    }  # fmt: skip

    assert flows.dev([]) == 0

    assert "belong to /home/eve/work (dev-0badca of another user or state directory)" in capfd.readouterr().out
    assert len(fake_engine.containers) == 1


@pytest.mark.parametrize(
    ("lease", "told"), [("dev", "from an earlier version"), ("dev-0badca", "from another or a moved checkout")]
)
def test_data_that_no_stack_uses_is_named_until_there_is_data_of_its_own(
    yard: Yard, fake_engine: FakeEngine, capfd: pytest.CaptureFixture[str], lease: str, told: str
) -> None:
    del yard
    fake_engine.volume("old", lease)
    fake_engine.volumes["old"]["Labels"]["stackyard.environment"] = "dev"

    assert flows.dev([]) == 0
    assert f"volume old holds data of dev {told}" in capfd.readouterr().out
    dev_lease(fake_engine)
    assert flows.dev([]) == 0

    assert "volume old" not in capfd.readouterr().out
    assert set(fake_engine.volumes) == {"old", "data"}


def test_the_first_interrupt_of_a_clean_up_is_only_noted(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    del yard
    with Engine() as engine:
        lease = open_book(None, engine).acquire(Environment.load("test"), ttl=60)

    def interrupted_twice() -> None:
        with flows._deaf_to_one_signal(lease):
            signal.raise_signal(signal.SIGINT)
            flows.say("still here")
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()

    assert capfd.readouterr().out.splitlines() == [
        f"cleaning up {lease.project}; once more to leave it to 'invoke cleanup.stale'", "still here",
    ]  # fmt: skip


def test_words_of_pytest_are_left_alone() -> None:
    parsed = flows.Arguments.parse(["-k", "down", "--keep", "-x"])

    assert (parsed.keep, parsed.down, parsed.pytest) == (True, False, ("-k", "down", "-x"))


def test_words_about_room_are_taken_from_pytests() -> None:
    parsed = flows.Arguments.parse(["--wait", "60", "-x", "--force", "--wait=500ms"])

    assert (parsed.wait, parsed.force, parsed.pytest) == (0.5, True, ("-x",))


def test_a_session_knows_the_option_that_the_messages_of_a_full_host_name() -> None:
    parsed = flows.Arguments.parse(["--queue-timeout", "5m", "-x"])

    assert (parsed.wait, parsed.pytest) == (300, ("-x",))


@pytest.mark.parametrize("words", [["--wait"], ["--wait", "-x"], ["--wait=soon"], ["--wait="]])
def test_a_wait_without_seconds_is_one_line_and_exit_code_2(
    yard: Yard, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert flows.test("test", words) == 2
    assert flows.dev(words) == 2
    assert capfd.readouterr().out.count("error: --wait must be a time such as") == 2
    assert not (yard.folder / "state").exists()


def test_a_run_without_memory_waits_then_fails_unless_forced(
    yard: Yard, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stackyard.leases.grants.host_ports.host_memory", lambda: Memory(total_mb=100, available_mb=100)
    )

    assert flows.test("test", ["--wait", "0.01"]) == 4
    assert yard.report()["exit_code"] == 4
    assert str(yard.report()["reason"]).startswith("no memory for another stack of test")
    assert "error: no memory for another stack of test" in capfd.readouterr().out
    assert flows.test("test", ["--force"]) == 0


def test_a_reader_that_has_gone_does_not_stop_the_run(yard: Yard) -> None:
    script = (
        "from stackyard._util import streams; from stackyard.cli import flows; streams.guard(); "
        "flows.say('one'); input(); flows.say('two'); flows.say('three')"
    )
    child = subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=yard.folder
    )
    assert child.stdin
    assert child.stdout

    assert child.stdout.readline() == b"one\n"
    child.stdout.close()
    child.communicate(b"go\n")

    assert child.returncode == 0


def test_ctrl_c_cleans_up_and_ends_with_an_interrupt(yard: Yard) -> None:
    yard.suite(f"import os, signal, time; os.kill({os.getpid()}, signal.SIGINT); time.sleep(30)")

    with pytest.raises(KeyboardInterrupt):
        flows.test("test", ["-q"])

    assert (yard.report()["outcome"], yard.report()["reason"]) == ("interrupted", "Ctrl-C")
    assert list(yard.folder.joinpath("state", "leases").iterdir()) == []


def test_tests_past_their_limit_are_never_passed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(pytest_run.TIMEOUT, "1s")
    yard.suite("import time; time.sleep(60)")

    assert flows.test("test", ["-q"]) == pytest_run.TIMED_OUT

    assert yard.report()["outcome"] == "timed out"
    assert yard.report()["reason"] == f"the tests took more than 1 s ({pytest_run.TIMEOUT})"
    assert "the tests took more than 1 s" in capfd.readouterr().out


def test_a_limit_that_is_none_is_refused_before_anything_starts(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pytest_run.TIMEOUT, "-1")

    assert flows.test("test", ["-q"]) == 2
    assert not yard.folder.joinpath("state", "leases").exists()


def test_a_service_that_died_meanwhile_is_reported(
    yard: Yard, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = flows._payload

    def dying(stack: Stack, arguments: list[str], limit: float | None) -> tuple[int, str]:
        fake_engine.container("redis", stack.lease.id, Status="exited", ExitCode=137)
        return plain(stack, arguments, limit)

    monkeypatch.setattr(flows, "_payload", dying)

    assert flows.test("test", ["-q"]) == 0
    assert yard.report()["degraded"] == ["service redis is exited, exit code 137"]
    assert "degraded: service redis is exited" in capfd.readouterr().out


def test_a_payload_that_cannot_be_started_is_no_time_out(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    assert flows.test("test", ["-q"]) == 3
    assert yard.report()["outcome"] == "failed"


def test_a_run_asked_to_end_while_it_starts_unwinds_in_order(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    install_docker(yard.folder, f"kill -TERM {os.getpid()}; exec sleep 60")

    with pytest.raises(SystemExit) as caught:
        flows.test("test", ["-q"])

    assert caught.value.code == signals.TERMINATED
    assert yard.report()["outcome"] == "interrupted"
    assert list(yard.folder.joinpath("state", "leases").iterdir()) == []
    assert capfd.readouterr().err == ""


def test_a_wait_for_a_turn_is_reported_beside_the_start(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = Stack.up
    monkeypatch.setattr(Stack, "up", lambda stack, **options: plain(stack, **options).after(12.34))

    assert flows.test("test", ["-q"]) == 0

    rows: Any = yard.report()["rows"]
    figures = {row["what"]: row["value"] for row in rows}
    assert figures["start-up"] < figures["wait for a turn"] == 12.34
    assert "s, after 12.3 s of waiting for its turn\n" in capfd.readouterr().out


def test_a_stack_another_command_has_ended_is_left_to_it(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def up(_stack: Stack, **options: Any) -> Startup:
        raise LeaseNotFoundError(f"ended by another command, {options}")

    monkeypatch.setattr(Stack, "up", up)
    monkeypatch.setattr(Stack, "down", lambda _stack: pytest.fail("removed what is not its own"))

    assert flows.test("test", ["-q"]) == 5
    assert yard.report()["outcome"] == "failed"


def test_a_failed_start_can_be_kept(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    install_docker(yard.folder, "echo 'no such image' >&2; exit 1")

    assert flows.test("test", ["--keep", "-q"]) == 7
    assert (yard.report()["exit_code"], "\n" in str(yard.report()["reason"])) == (7, False)

    (directory,) = yard.folder.joinpath("state", "leases").iterdir()
    assert f"invoke env.down --name {directory.name}" in capfd.readouterr().out


def test_tests_named_on_the_command_line_are_run_instead_of_all(yard: Yard) -> None:
    yard.root.joinpath("tests", "platform", "test_other.py").write_text("def test_other():\n    assert False\n")

    assert flows.test("test", ["-q", "tests/platform/test_it.py::test_it"]) == 0
    assert flows.test("test", ["-q"]) == 1

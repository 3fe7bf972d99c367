from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from fake_docker import install_docker
from fake_probes import Answering, replace_probes
from invoke_shell import Shell

from stackyard.cli import expiry
from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.leases.grants.admission import Memory
from stackyard.leases.warm import Inventory, Warm, WarmStacks
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.leases import Lease


@pytest.fixture
def shell(
    tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    fake_engine.host = Settings.load().host
    monkeypatch.setattr("stackyard.images.ensure", lambda *_, **__: {"redis": "stackyard/redis:debian-abc"})
    replace_probes(monkeypatch, Answering)
    install_docker(tmp_path, "exit 0")
    return Shell(capsys)


def add_lease(fake_engine: FakeEngine, *services: str, ttl: float | None = 60) -> Lease:
    with Engine() as engine:
        lease = open_book(None, engine).acquire(Environment.load("test"), ttl=ttl)
    for service in services:
        fake_engine.container(service, lease.id)
    return lease


def test_up_prints_urls_and_the_way_down(shell: Shell) -> None:
    code, out, _ = shell.run("env.up", "--name", "mine")

    assert code == 0
    assert "postgresql://app:" in out
    assert "removes it" in out
    assert shell.json("env.up", "--name", "mine")["urls"]["websocket"].startswith("ws://127.0.0.1:")


@pytest.mark.parametrize(
    "words",
    [
        ["env.up"], ["env.status"], ["env.logs"], ["env.logs", "redis"], ["env.exec", "redis", "--", "true"],
        ["env.wait"], ["env.restart", "redis"], ["env.reset"], ["env.down"], ["env.capacity"], ["verify.stack"],
        ["monitor.stats", "--once"], ["cleanup.stale"], ["cleanup.plan"], ["env.status", "none"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_closes_the_engines_it_opens(
    shell: Shell, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    add_lease(fake_engine, "redis")
    made: list[Engine] = []
    make = Engine.__init__

    def noted(engine: Engine, **options: Any) -> None:
        make(engine, **options)
        made.append(engine)

    monkeypatch.setattr(Engine, "__init__", noted)
    shell.run(*words)

    assert made
    assert [engine for engine in made if "api" in vars(engine)] == []


def test_up_without_memory_says_so_and_starts_all_the_same_when_forced(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stackyard.leases.grants.host_ports.host_memory", lambda: Memory(total_mb=100, available_mb=100)
    )

    code, _, error = shell.run("env.up", "--name", "mine")
    assert (code, error.partition(",")[0]) == (4, "no memory for another stack of test")

    code, out, _ = shell.run("env.up", "--name", "mine", "--force")
    assert (code, "removes it" in out) == (0, True)


def test_up_waits_for_memory(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([100, 100])
    monkeypatch.setattr(
        "stackyard.leases.grants.host_ports.host_memory", lambda: Memory(total_mb=9000, available_mb=next(looks, 9000))
    )

    assert shell.run("env.up", "--name", "mine", "--queue-timeout", "1m")[0] == 0
    assert list(looks) == []


@pytest.mark.parametrize("wait", ["soon", "0", "-1", "1e3"])
def test_up_refuses_a_wait_that_is_no_time(shell: Shell, wait: str) -> None:
    code, _, error = shell.run("env.up", f"--queue-timeout={wait}")

    assert code == 2
    assert error == f"--queue-timeout must be a time such as 30s, 5m or 1h30m, above 0 and up to 30 d, got {wait!r}"


def test_up_of_an_unknown_environment_is_one_line(shell: Shell) -> None:
    code, _, message = shell.run("env.up", "--environment", "tset")

    assert code == 2
    assert "did you mean 'test'" in message
    assert "\n" not in message


def test_an_interrupted_up_leaves_nothing_and_says_so_by_its_exit_code(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_stack: Stack, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stack, "up", interrupt)

    assert shell.run("env.up", "--name", "mine")[0] == 130
    with Engine() as engine:
        assert open_book(None, engine).leases() == []


def test_the_wait_for_a_turn_is_a_figure_of_its_own(shell: Shell) -> None:
    assert 0 <= shell.json("env.up", "--name", "mine")["waited_seconds"] < 1


def test_down_needs_no_name_while_there_is_one_stack(shell: Shell, fake_engine: FakeEngine) -> None:
    add_lease(fake_engine, "redis")

    assert " is down: 1 removed in " in shell.run("env.down")[1]
    code, _, message = shell.run("env.down")

    assert code == 2
    assert message == "no lease is in use; 'invoke env.up' starts a stack"


def test_down_of_one_among_several_asks_which(shell: Shell, fake_engine: FakeEngine) -> None:
    one, two = add_lease(fake_engine, "redis"), add_lease(fake_engine, "redis")

    code, _, message = shell.run("env.down")
    removal = shell.json("env.down", "--name", one.id)

    assert code == 2
    assert {one.id, two.id} <= set(message.replace("(", " ").split())
    assert (removal["leases"], list(fake_engine.containers)) == ([one.id], [f"redis-{two.id}"])


def test_down_names_what_is_left_and_fails(
    shell: Shell, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackyard.cleanup.removal.PAUSE", 0)
    lease = add_lease(fake_engine)
    fake_engine.network("net", lease.id, users=("stranger",))
    fake_engine.refuse["networks net"] = (403, "has active endpoints")

    code, _, message = shell.run("env.down", "--name", lease.id)

    assert code == 8
    assert "network net: still used by stranger" in message


def test_status_shows_memory_and_fails_unless_all_run(shell: Shell, fake_engine: FakeEngine) -> None:
    add_lease(fake_engine, "redis", "auth")

    code, out, _ = shell.run("env.status")
    assert code == 0
    assert out.splitlines()[2].split() == ["auth", "running", "none", "20.0", "MiB", "96.0", "MiB", "0", "-"]
    assert {row["exit_code"] for row in shell.json("env.status")["services"]} == {None}

    fake_engine.containers[next(iter(fake_engine.containers))]["state"]["Status"] = "exited"
    assert shell.run("env.status")[0] == 7
    assert {row["status"] for row in shell.json("env.status")["services"]} == {"running", "exited"}


def test_status_says_until_when_the_stack_stays(shell: Shell, fake_engine: FakeEngine) -> None:
    lease = add_lease(fake_engine, "redis", ttl=2400)

    until = time.strftime("%H:%M", time.localtime(lease.deadline))
    extends = f"'invoke ports.renew --name {lease.id} --ttl 4h' extends it"
    assert shell.run("env.status")[1].splitlines()[-1] == f"stays until {until} (40 min); {extends}"
    assert shell.json("env.status")["deadline"] == lease.deadline


@pytest.mark.parametrize(("ttl", "told"), [(None, "stays as long as pid "), (math.inf, "stays until you remove it")])
def test_status_says_what_keeps_a_stack_without_a_deadline(
    shell: Shell, fake_engine: FakeEngine, ttl: float | None, told: str
) -> None:
    add_lease(fake_engine, "redis", ttl=ttl)

    assert shell.run("env.status")[1].splitlines()[-1].startswith(told)
    assert shell.json("env.status")["deadline"] is None


def test_a_run_that_has_ended_is_not_said_to_keep_its_stack(shell: Shell, fake_engine: FakeEngine) -> None:
    del shell  # its state directory is in place
    lease = add_lease(fake_engine, "redis", ttl=None)
    ended = dataclasses.replace(lease, owner=dataclasses.replace(lease.owner, boot="an earlier one"))

    assert re.fullmatch(r"stays as long as pid \d+ \(.*\) runs", expiry.until(lease))
    assert expiry.until(ended) == "its run has ended; the next clean-up removes it"


@pytest.mark.parametrize(
    ("ttl", "terminal", "lines"), [(500, True, 1), (500, False, 0), (2400, True, 0), (None, True, 0)]
)
def test_a_command_on_a_terminal_mentions_the_near_end_of_the_stack(
    shell: Shell,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    ttl: float | None,
    terminal: bool,
    lines: int,
) -> None:
    lease = add_lease(fake_engine, "redis", ttl=ttl)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)

    code, _, said = shell.run("env.restart", "redis")

    assert code == 0
    assert said.count(f"note: {lease.id} stays until") == lines


def test_status_of_a_lease_without_a_stack_says_so(shell: Shell, fake_engine: FakeEngine) -> None:
    add_lease(fake_engine)

    assert shell.run("env.status")[0] == 7


def test_status_says_what_starting_means(shell: Shell, fake_engine: FakeEngine) -> None:
    add_lease(fake_engine, "redis")
    state = fake_engine.containers[next(iter(fake_engine.containers))]["state"]

    state["Health"] = {"Status": "starting", "Log": []}
    code, out, _ = shell.run("env.status")
    state["Health"] = {"Status": "healthy", "Log": []}
    later = shell.run("env.status")[1]

    assert code == 0
    assert out.splitlines()[-1] == (
        "starting: the engine has not checked it yet; 'invoke env.wait' asks the services themselves"
    )
    assert "starting" not in later


def test_memory_that_cannot_be_measured_is_unavailable(shell: Shell, fake_engine: FakeEngine) -> None:
    lease = add_lease(fake_engine, "redis")
    fake_engine.containers[f"redis-{lease.id}"]["stats"] = {}

    assert shell.run("env.status")[1].splitlines()[2].split()[3:5] == ["unavailable", "unavailable"]


def test_logs_exec_wait_and_restart_reach_the_service(shell: Shell, fake_engine: FakeEngine, tmp_path: Path) -> None:
    lease = add_lease(fake_engine, "redis")
    fake_engine.containers[f"redis-{lease.id}"]["log"] = b"one\ntwo\n"
    install_docker(tmp_path, "exit 0")

    assert shell.run("env.logs", "--service", "redis")[1] == "one\ntwo\n"
    assert shell.json("env.logs", "redis") == {
        "lease": lease.id, "name": None, "environment": "test",
        "services": [{"service": "redis", "lines": ["one", "two"]}],
    }  # fmt: skip
    assert shell.run("env.exec", "--service", "redis", "--command", "true")[0] == 0
    assert shell.run("env.restart", "--service", "redis")[1] == "redis restarted\n"
    assert shell.run("env.wait")[1].splitlines()[0].startswith("postgres ready after")
    assert {row["service"] for row in shell.json("env.wait")["services"]} == {
        "postgres",
        "redis",
        "auth",
        "backend",
        "websocket",
    }
    assert shell.run("env.logs", "--service", "mysql")[0] == 2


def test_execs_exit_code_is_its_commands(shell: Shell, fake_engine: FakeEngine, tmp_path: Path) -> None:
    add_lease(fake_engine, "redis")
    install_docker(tmp_path, "exit 9")

    assert shell.run("env.exec", "--service", "redis", "--command", "false")[0] == 9


def test_stale_takes_the_dead_and_leaves_the_living(shell: Shell, fake_engine: FakeEngine) -> None:
    living, dead = add_lease(fake_engine, "redis"), add_lease(fake_engine, "auth", ttl=0.000001)

    code, out, _ = shell.run("cleanup.stale")

    assert code == 0
    assert out.splitlines()[0] == f"removed container auth-{dead.id}"
    assert list(fake_engine.containers) == [f"redis-{living.id}"]
    assert shell.json("cleanup.stale")["removed"] == []


def test_stale_takes_orphans_of_this_host_and_leaves_other_hosts_alone(shell: Shell, fake_engine: FakeEngine) -> None:
    fake_engine.container("redis", "unknown")
    fake_engine.container("redis", "elsewhere")["labels"]["stackyard.host"] = "h1"

    shell.run("cleanup.stale")

    assert list(fake_engine.containers) == ["redis-elsewhere"]


def test_all_asks_first(shell: Shell, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    add_lease(fake_engine, "redis")

    assert shell.run("cleanup.all")[0] == 2
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: "no")
    assert shell.run("cleanup.all")[0] == 2
    assert len(fake_engine.containers) == 1
    monkeypatch.setattr("builtins.input", lambda _question: "y")
    assert shell.run("cleanup.all")[0] == 0
    assert fake_engine.containers == {}


def test_all_with_yes_keeps_data_volumes_unless_asked(shell: Shell, fake_engine: FakeEngine) -> None:
    for options in ([], ["--volumes"]):
        lease = add_lease(fake_engine)
        fake_engine.volume("data", lease.id)
        shell.run("cleanup.all", "--yes", *options)
        assert list(fake_engine.volumes) == ([] if options else ["data"])


def test_a_service_that_keeps_failing_its_health_check_fails_the_status(shell: Shell, fake_engine: FakeEngine) -> None:
    lease = add_lease(fake_engine, "redis")
    fake_engine.containers[f"redis-{lease.id}"]["state"]["Health"] = {"Status": "unhealthy", "Log": []}

    assert shell.run("env.status")[0] == 7


def test_execs_output_comes_as_json_with_its_exit_code(shell: Shell, fake_engine: FakeEngine, tmp_path: Path) -> None:
    add_lease(fake_engine, "redis")
    install_docker(tmp_path, "echo out; echo err >&2; exit 3")

    code, out, _ = shell.run("env.exec", "--service", "redis", "--command", "true", "--json")

    assert code == 3
    shown = json.loads(out)
    assert (shown["service"], shown["exit_code"], shown["stdout"], shown["stderr"]) == ("redis", 3, "out\n", "err\n")
    assert shell.json("env.restart", "--service", "redis")["service"] == "redis"


@pytest.fixture
def dev(shell: Shell, fake_engine: FakeEngine) -> Lease:
    """The stack that this checkout has of an environment that keeps its data."""
    del shell  # it sets the state directory
    with Engine() as engine:
        lease = open_book(None, engine).acquire(Environment.load("dev"), fixed="prefer", ttl=math.inf)
    labels = {"stackyard.host": Settings.load().host, "stackyard.environment": "dev"}
    fake_engine.container("redis", lease.id)["labels"] |= labels
    fake_engine.volume("data", lease.id)
    fake_engine.volumes["data"]["Labels"] |= labels
    return lease


def test_data_that_is_kept_goes_only_after_a_yes(shell: Shell, fake_engine: FakeEngine, dev: Lease) -> None:
    code, _, message = shell.run("env.down", "--environment", "dev", "--volumes")

    assert (code, message) == (2, "nothing removed: --volumes deletes the data of dev; --yes agrees to that")
    assert list(fake_engine.containers) == [f"redis-{dev.id}"]

    assert shell.run("env.down", "dev")[1].endswith("; its data is kept\n")
    assert (list(fake_engine.containers), list(fake_engine.volumes)) == ([], ["data"])
    assert shell.run("env.down", "--environment", "dev")[:2] == (0, "no stack of dev is up; 0 removed\n")
    assert shell.run("env.down", "--environment", "dev", "--volumes")[0] == 2
    assert list(fake_engine.volumes) == ["data"]
    assert shell.json("env.down", "--environment", "dev", "--volumes", "--yes")["removed"] == ["volume data"]


def test_another_checkouts_stack_is_never_meant_without_its_id(
    shell: Shell, fake_engine: FakeEngine, dev: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackyard.leases.records.stable_id", lambda *_: "dev-other1")

    for words in (["env.down"], ["env.down", "--environment", "dev"], ["env.down", "dev"], ["env.status"]):
        shell.run(*words)
        assert list(fake_engine.containers) == [f"redis-{dev.id}"]
    code, _, message = shell.run("env.down", "dev")
    assert (code, message.partition(";")[0]) == (2, "this checkout has no stack of dev")
    assert shell.run("env.down", dev.id)[0] == 0


def test_up_says_until_when_it_stays_and_dev_stays(shell: Shell) -> None:
    out = shell.run("env.up", "--name", "mine", "--force", "--ttl", "90m")[1]

    assert re.search(
        r"^stays until \d\d:\d\d \(1 h 30 min\); 'invoke ports.renew --name mine --ttl 4h' extends it$",
        out,
        re.MULTILINE,
    )
    assert "'invoke env.down --name mine' removes it" in out


def test_warm_stacks_do_not_count(shell: Shell, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, warm = add_lease(fake_engine, "redis"), add_lease(fake_engine, "redis")
    inventory = WarmStacks.inventory

    def looked(stacks: WarmStacks) -> Inventory:
        found = inventory(stacks)
        waits = Warm(lease=warm, root=Environment.load("test").root, fingerprint="f", since=0.0)
        return dataclasses.replace(found, warm=[waits])

    monkeypatch.setattr(WarmStacks, "inventory", looked)

    assert shell.run("env.status")[0] == 0
    assert shell.json("env.down")["leases"] == [lease.id]
    assert shell.run("env.down")[2] == "no lease is in use (1 warm stack not counted); 'invoke env.up' starts a stack"


def test_all_services_logs_come_in_order_of_time_with_their_names(shell: Shell, fake_engine: FakeEngine) -> None:
    lease = add_lease(fake_engine, "redis", "auth")
    fake_engine.containers[f"redis-{lease.id}"]["log"] = b"one\ntwo\n"
    fake_engine.containers[f"auth-{lease.id}"]["log"] = b"first\n"

    out = shell.run("env.logs")[1]

    assert sorted(out.splitlines()[:2]) == ["auth  | first", "redis | one"]
    assert out.splitlines()[2] == "redis | two"
    assert shell.run("env.logs", "auth", "--timestamps")[1].startswith("2026-01-01T00:00:00.0Z first")
    assert shell.run("env.logs", "-f", "-j")[0] == 2


def test_new_lines_are_followed_until_no_container_runs(
    shell: Shell, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = add_lease(fake_engine, "redis", "auth")
    redis, auth = (fake_engine.containers[f"{name}-{lease.id}"] for name in ("redis", "auth"))
    auth["state"]["Status"] = "exited"
    redis["log"] = b"9%\rold\none\n"  # the line was drawn again
    answer, read = fake_engine.answer, iter(range(9))

    def restarted(method: str, path: str, *rest: Any) -> tuple[int, Any]:
        found = answer(method, path, *rest)
        if path.endswith("logs") and "redis" in path:
            match next(read):
                case 0:
                    redis["log"] += b"two\n"
                case 1:
                    redis["log"] += b"three\n"
                case 2:
                    redis["state"]["Status"] = "exited"
        return found

    monkeypatch.setattr(fake_engine, "answer", restarted)
    monkeypatch.setattr("stackyard.cli.log_following.PAUSE", 0.01)
    monkeypatch.setattr("stackyard.cli.log_following.RESTART", 0.2)

    code, out, error = shell.run("env.logs", "--follow", "--tail", "1")

    assert (code, error) == (0, "")
    assert out.split("\n") == ["redis | 9%\rold", "redis | one", "redis | two", "redis | three", ""]


def test_no_line_before_the_wanted_moment_is_followed(
    shell: Shell, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = add_lease(fake_engine, "redis", "auth")
    redis, auth = (fake_engine.containers[f"{name}-{lease.id}"] for name in ("redis", "auth"))
    redis["log"], auth["log"] = b"old\nnew\n", b"old\n"
    monkeypatch.setattr("stackyard.cli.log_following.PAUSE", 0.01)
    monkeypatch.setattr("stackyard.cli.log_following.RESTART", 0.05)
    answer = fake_engine.answer

    def ending(method: str, path: str, query: dict[str, list[str]], *rest: Any) -> tuple[int, Any]:
        found = answer(method, path, query, *rest)
        if query.get("follow") == ["1"]:
            (redis if "redis" in path else auth)["state"]["Status"] = "exited"
        return found

    monkeypatch.setattr(fake_engine, "answer", ending)

    code, out, error = shell.run("env.logs", "--follow", "--since", "2026-01-01T00:00:01+00:00")

    assert (code, error, out) == (0, "", "redis | new\n")


def test_following_ends_with_the_engines_error(
    shell: Shell, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_lease(fake_engine, "redis")
    answer = fake_engine.answer

    def broken(method: str, path: str, query: dict[str, list[str]], *rest: Any) -> tuple[int, Any]:
        if query.get("follow") == ["1"]:
            fake_engine.broken = True
        return answer(method, path, query, *rest)

    monkeypatch.setattr(fake_engine, "answer", broken)

    code, _, error = shell.run("env.logs", "--follow")

    assert (code, error) == (3, "listing containers: the engine refused: the engine is out of order")

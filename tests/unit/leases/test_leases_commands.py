"""`invoke ports.*` and scripts/allocate_test_ports.py, called in this process."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit
from invoke_shell import shaped
from lease_records import Surroundings

from stackyard.cleanup.outcome import Leftover, Removal
from stackyard.cli import cleanup, leasing, ports
from stackyard.docker import lease_engine
from stackyard.leases import LeaseBook
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from fake_engine import FakeEngine

    from stackyard.leases import Lease

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine) -> Iterator[None]:
    del fake_engine  # a new book asks it for the stacks that run
    for name in [name for name in os.environ if name.startswith("STACKYARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_POOL", "11400-11419")
    monkeypatch.setenv("STACKYARD_POOL_SUBNETS", "10.214.96.0/20")
    monkeypatch.chdir(tmp_path)
    yield
    for lease in LeaseBook(Settings.load()).leases():
        LeaseBook(Settings.load()).release(lease.id)


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("allocate_test_ports", ROOT / "scripts" / "allocate_test_ports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(module: ModuleType) -> Callable[..., int]:
    return lambda *flags: int(module.main(flags))


def leases() -> list[Lease]:
    return LeaseBook(Settings.load()).leases()


def parsed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_allocate_prints_ports_and_the_command_that_uses_them(capsys: pytest.CaptureFixture[str]) -> None:
    ports.allocate(Context(), name="job-1", ttl="120")

    (lease,) = leases()
    shown = capsys.readouterr().out
    assert "postgres  127.0.0.1:11400" in shown
    assert "websocket 127.0.0.1:11402 (the backend serves it)" in shown
    assert f"docker compose -f {ROOT}/compose/docker-compose.unified.yml --env-file {lease.env_file} up" in shown
    assert "end it:  invoke env.down --name job-1" in shown
    assert not any(secret in shown for secret in lease.secrets())


def test_allocate_skips_what_an_engine_has(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_engine, "_row", lambda identity, _row: {
        "Id": identity, "Names": [], "Labels": {}, "State": "running", "Status": "", "Ports": [{"PublicPort": 11403}],
    })  # fmt: skip
    fake_engine.container("redis")
    fake_engine.network("theirs")
    fake_engine.networks["theirs"]["IPAM"]["Config"] = [{"Subnet": "10.214.96.16/28"}]

    ports.allocate(Context(), name="job-1")

    (lease,) = leases()
    assert (lease.slot, lease.subnet) == (1, "10.214.96.32/28")


def test_allocate_needs_no_engine(fake_engine: FakeEngine) -> None:
    fake_engine.broken = True

    ports.allocate(Context(), name="job-1", force=True)

    assert [lease.slot for lease in leases()] == [0]


def test_allocate_in_json_is_the_lease_and_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    ports.allocate(Context(), name="job-1", environment="ci", queue_timeout="1", json=True)

    shown = parsed(capsys)
    (lease,) = leases()
    assert shown["lease"] == lease.id
    assert shown["environment"] == "ci"
    assert shown["ports"]["redis"] == 11401
    assert shown["command"].endswith("up --wait")


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "../x"},
        {"name": "x", "ttl": "0"},
        {"name": "x", "ttl": "08"},
        {"name": "x", "ttl": "nan"},
        {"name": "x", "queue_timeout": "-1"},
        {"name": "x", "queue_timeout": "1e9"},
        {"name": "x", "environment": "tset"},
        {"name": "x", "environment": "dev"},
    ],
)
def test_wrong_arguments_end_with_exit_code_2_and_no_lease(arguments: dict[str, str]) -> None:
    with pytest.raises(Exit) as caught:
        ports.allocate(Context(), **arguments)

    assert caught.value.code == 2
    assert leases() == []


def test_an_exhausted_pool_ends_with_exit_code_4() -> None:
    for number in range(2):
        ports.allocate(Context(), name=f"job-{number}")

    with pytest.raises(Exit, match="2 of 2 slots are leased") as caught:
        ports.allocate(Context(), name="job-3")
    assert caught.value.code == 4


def test_release_ends_the_lease_and_an_unknown_one_ends_with_exit_code_5(capsys: pytest.CaptureFixture[str]) -> None:
    ports.allocate(Context(), name="job-1")
    ports.release(Context(), name="job-1")

    assert "(test, ports 11400-11409)" in capsys.readouterr().out
    with pytest.raises(Exit, match="no lease has the id") as caught:
        ports.release(Context(), name="job-1")
    assert caught.value.code == 5


def test_allocate_makes_a_name_up_and_release_and_renew_find_the_only_lease(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ports.allocate(Context())
    (lease,) = leases()
    assert lease.parallel_id is not None
    assert f"end it:  invoke env.down --name {lease.parallel_id}" in capsys.readouterr().out

    ports.renew(Context(), ttl="1h30m")
    assert capsys.readouterr().out == f"{lease.title} ends in 1 h 30 min\n"
    ports.release(Context())
    assert leases() == []
    with pytest.raises(Exit, match="no lease is in use") as caught:
        ports.release(Context())
    assert caught.value.code == 2


def test_a_choice_among_several_leases_is_listed_by_name() -> None:
    for name in ("one", "two"):
        ports.allocate(Context(), name=name)

    with pytest.raises(Exit) as caught:
        ports.release(Context())

    listed = ", ".join(f"{lease.title} of test" for lease in leases())
    assert str(caught.value.message) == f"there are 2 leases; choose one with --name: {listed}"


def test_a_lease_with_containers_is_not_released(fake_engine: FakeEngine, script: Callable[..., int]) -> None:
    ports.allocate(Context(), name="job-1")
    (lease,) = leases()
    fake_engine.container("redis", lease.id)["labels"]["stackyard.host"] = Settings.load().host

    with pytest.raises(Exit, match=f"container redis-{lease.id}; 'invoke env.down --name job-1' removes") as caught:
        ports.release(Context(), name="job-1")
    assert caught.value.code == 8
    assert script("--parallel-id", "job-1", "--release") == 8
    assert leases() == [lease]
    assert lease.env_file.is_file()


def test_without_an_engine_a_release_says_that_no_one_looked(
    fake_engine: FakeEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports.allocate(Context(), name="job-1")
    fake_engine.broken = True
    monkeypatch.setattr(leasing, "_no_engine", lambda: True)

    ports.release(Context(), name="job-1")

    assert "were not looked for" in capsys.readouterr().err
    assert leases() == []


def test_an_engine_that_does_not_answer_keeps_the_lease(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports.allocate(Context(), name="job-1")
    fake_engine.broken = True
    monkeypatch.setattr(leasing, "_no_engine", lambda: False)

    with pytest.raises(Exit, match="not released, because containers of it may exist") as caught:
        ports.release(Context(), name="job-1")

    assert caught.value.code == 3
    assert len(leases()) == 1


def test_a_lease_whose_stack_is_on_another_engine_is_not_released(fake_engine: FakeEngine) -> None:
    del fake_engine  # DOCKER_HOST names it
    ports.allocate(Context(), name="job-1")
    note = leases()[0].directory / lease_engine.NOTE
    note.write_text("unix:///other.sock")

    with pytest.raises(Exit, match=r"not released: its stack is on another engine, unix:///other\.sock, and") as caught:
        ports.release(Context(), name="job-1")

    assert caught.value.code == 8
    assert note.exists()


def test_only_a_missing_socket_of_this_host_counts_as_no_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/gone.sock")

    assert not leasing._no_engine()


def test_renew_says_when_the_lease_ends(capsys: pytest.CaptureFixture[str]) -> None:
    ports.allocate(Context(), name="job-1")
    capsys.readouterr()

    ports.renew(Context(), name="job-1", ttl="7200")
    assert "in 2 h" in capsys.readouterr().out
    ports.renew(Context(), name="job-1", json=True)
    assert parsed(capsys)["name"] == "job-1"


def test_renew_gives_no_deadline_to_a_lease_that_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    book = LeaseBook(Settings.load())
    run, kept = book.acquire(Surroundings()), book.acquire(Surroundings(), ttl=math.inf)

    ports.renew(Context(), name=run.id)
    ports.renew(Context(), name=kept.id)
    assert capsys.readouterr().out == f"{run.id} ends with its owner\n{kept.id} ends when released\n"
    with pytest.raises(Exit, match=f"{run.id} stays as long as pid .*, so it takes no --ttl") as caught:
        ports.renew(Context(), name=run.id, ttl="10s")

    assert caught.value.code == 2
    assert [lease.deadline for lease in leases()] == [None, None]


def test_the_list_shows_every_kind_of_lease(capsys: pytest.CaptureFixture[str]) -> None:
    ports.show(Context())
    assert capsys.readouterr().out == "no leases\n"
    book = LeaseBook(Settings.load(), clock=lambda: time.time() - 100)
    from stackyard.project.environments import Environment

    book.acquire(Environment.load("test"))
    expired = book.acquire(Environment.load("ci"), ttl=1)
    ports.show(Context())

    shown = capsys.readouterr().out
    assert f"pid {os.getpid()}" in shown
    assert "with its owner" in shown
    assert " ago (stale)" in shown
    ports.show(Context(), json=True)
    assert parsed(capsys)[1]["lease"] == expired.id


def test_the_list_shows_whose_checkout_a_lease_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").symlink_to(ROOT)
    ports.allocate(Context(), name="mine")
    monkeypatch.setenv("STACKYARD_ROOT", str(tmp_path / "other"))
    ports.allocate(Context(), name="theirs")
    capsys.readouterr()

    ports.show(Context(), json=True)
    mine, theirs = (lease["checkout"] for lease in parsed(capsys))
    ports.show(Context())
    shown = capsys.readouterr().out

    assert (mine, theirs) == (str(ROOT), str(tmp_path / "other"))
    assert mine in shown
    assert theirs in shown


def test_check_says_who_has_the_ports_bound(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    ports.allocate(Context(), name="job-1")
    capsys.readouterr()
    with socket.create_server(("127.0.0.1", 11401)):
        ports.check(Context(), json=True)
        found = parsed(capsys)
        ports.check(Context())

    assert found["book"] == "ok"
    assert found["leases"][0]["bound"]["11401"].startswith(f"pid {os.getpid()}")
    assert "book: ok" in capsys.readouterr().out


def test_a_wrong_book_ends_the_check_with_exit_code_5(capsys: pytest.CaptureFixture[str]) -> None:
    ports.allocate(Context(), name="job-1")
    LeaseBook(Settings.load())._store.run(lambda db: db.execute("DELETE FROM claims WHERE kind='port'"))

    with pytest.raises(Exit, match="its claims differed") as caught:
        ports.check(Context())
    assert caught.value.code == 5
    assert "claims differed" in capsys.readouterr().out


def test_a_clean_up_says_what_it_removed_and_fails_for_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Removal(removed=["container x"], leases=["0000abcd"])
    monkeypatch.setattr("stackyard.cleanup.removal.sweep", lambda *_, **__: done)
    cleanup.stale(Context())
    assert capsys.readouterr().out == "removed container x\n1 removed, 1 lease released in 0.00 s\n"

    left = Leftover(kind="network", name="n", lease="0000abcd", reason="in use")
    monkeypatch.setattr("stackyard.cleanup.removal.sweep", lambda *_, **__: Removal(left=[left]))
    with pytest.raises(Exit, match="network n: in use") as caught:
        cleanup.stale(Context(), json=True)
    assert caught.value.code == 8


def test_watch_ends_quietly_when_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    ports.watch(Context())
    assert "no leases" in capsys.readouterr().out

    ports.allocate(Context(), name="job-1")
    capsys.readouterr()
    ports.watch(Context(), json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert [row["name"] for row in shaped("ports.watch", json.loads(line))] == ["job-1"]


def test_the_script_allocates_checks_and_releases(
    script: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert script("--parallel-id", "job-1", "--check-only") == 0
    assert "2 slots are free" in capsys.readouterr().out
    assert script("--parallel-id", "job-1", "--output", str(tmp_path / "ports.env")) == 0
    assert f"# written to {tmp_path}/ports.env\n" in capsys.readouterr().out
    assert (tmp_path / "ports.env").read_text() == leases()[0].env_file.read_text()
    assert not (tmp_path / ".env.dynamic").exists()
    assert script("--parallel-id", "job-1", "--output", str(tmp_path / "ports.json"), "--json") == 0
    shown = parsed(capsys)
    assert shown["end_command"] == "invoke env.down --name job-1"
    assert json.loads((tmp_path / "ports.json").read_text()).items() <= shown.items()
    assert script("--parallel-id", "job-1", "--check-only", "--json") == 0
    assert parsed(capsys)["allocated"] is True
    assert script("--parallel-id", "job-1", "--release") == 0
    assert leases() == []
    assert script("--parallel-id", "job-1", "--release") == 5


def test_the_scripts_plain_call_writes_all_that_compose_needs_for_no_one_else(
    script: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert script("--parallel-id", "test-1") == 0

    (lease,) = leases()
    file = tmp_path / ".env.dynamic"
    assert file.read_text() == lease.env_file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    shown = capsys.readouterr().out.splitlines()
    assert "STACKYARD_BACKEND_PORT=11402" in shown
    assert not any("WEBSOCKET" in line for line in shown)
    assert shown[-3:] == [
        f"# written to {file}",
        f"# use it: docker compose -f {ROOT}/compose/docker-compose.unified.yml --env-file .env.dynamic up --wait",
        "# end it: invoke env.down --name test-1",
    ]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--force"],
        ["--parallel-id", "job-1"],
        ["--parallel-id", "job-1", "--env", "ci", "--json", "--force"],
        ["--env", "ci", "--env", "test"],
        ["--parallel-id", ""],
    ],
)
def test_the_quick_parser_reads_flags_as_argparse_does(module: ModuleType, flags: list[str]) -> None:
    assert vars(module.plain(flags)) == vars(module.parser().parse_args(flags))


@pytest.mark.parametrize(
    "flags",
    [["--release"], ["--parallel-id"], ["--parallel-id", "--json"], ["--env=ci"], ["--par", "x"], ["x"], ["-h"]],
)
def test_the_quick_parser_leaves_all_other_flags_to_argparse(module: ModuleType, flags: list[str]) -> None:
    assert module.plain(flags) is None


def test_the_script_takes_the_pool_from_its_base_port(
    script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("--parallel-id", "job-1", "--base-port", "11500", "--json") == 0
    assert parsed(capsys)["ports"]["postgres"] == 11500


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        ([], 2, "--parallel-id is needed"),
        (["--parallel-id", "../x", "--check-only"], 2, "--parallel-id must be"),
        (["--parallel-id", "x", "--base-port", "70000"], 2, "STACKYARD_POOL must be"),
        (["--parallel-id", "x", "--base-port", "-5"], 2, "STACKYARD_POOL must be"),
        (["--parallel-id", "x", "--env", "nowhere"], 2, "unknown environment 'nowhere'"),
        (["--parallel-id", "x", "--output", "/proc/none/x"], 2, "cannot write /proc/none/x"),
    ],
)
def test_the_script_explains_wrong_flags_in_one_line(
    script: Callable[..., int], capsys: pytest.CaptureFixture[str], flags: list[str], code: int, text: str
) -> None:
    assert script(*flags) == code
    shown = capsys.readouterr().err
    assert text in shown
    assert shown.count("\n") == 1


def test_the_script_says_when_nothing_is_free(script: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        script("--parallel-id", f"job-{number}")

    assert script("--parallel-id", "job-3", "--check-only") == 4
    assert "all 2 slots of 11400-11419 are leased" in capsys.readouterr().err


def test_the_scripts_system_check_counts_slots_and_strangers(
    script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    script("--parallel-id", "job-1")
    capsys.readouterr()
    with socket.create_server(("127.0.0.1", 11415)):
        assert script("--system-check", "--json") == 0

    found = parsed(capsys)
    assert (found["book"], found["slots"], found["leased"], found["stale"]) == ("ok", 2, 1, 0)
    assert found["ports_of_other_programs"] == [11415]


def test_the_scripts_cleanup_is_the_librarys(
    script: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackyard.cleanup.removal.remove_stale", lambda: Removal(removed=["container x"]))

    assert script("--cleanup") == 0
    assert "1 removed" in capsys.readouterr().out

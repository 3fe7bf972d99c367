from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from invoke.context import Context
from invoke.exceptions import Exit
from prometheus_client.parser import text_string_to_metric_families as parse
from rich.console import Console

from stackyard.cli import monitor as commands
from stackyard.docker.lease_book import open_book
from stackyard.docker.usage import counters, sight
from stackyard.errors import BookError, EngineError, UsageError
from stackyard.leases import LeaseBook
from stackyard.monitor import Watcher, exports, tables
from stackyard.monitor.metrics import StackCollector
from stackyard.project.environments import Environment, project_root
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.docker import Engine
    from stackyard.leases import Lease

PID = 4_194_305  # above the largest a kernel gives out
BUSY: dict[str, Any] = {
    "memory_stats": {"usage": 30 << 20, "limit": 96 << 20, "max_usage": 40 << 20, "stats": {"inactive_file": 10 << 20}},
    "cpu_stats": {"cpu_usage": {"total_usage": 2_000_000_000}},
    "pids_stats": {"current": 4, "limit": 64},
}
ALERTS = project_root() / "monitoring/alerts.yml"


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> LeaseBook:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    return open_book(None, engine)


@pytest.fixture
def lease(book: LeaseBook) -> Lease:
    return book.acquire(Environment.load("test"), ttl=60, parallel_id="mine")


def add(fake_engine: FakeEngine, lease: Lease, service: str, **state: Any) -> dict[str, Any]:
    row = fake_engine.container(service, lease.id, **({"Pid": PID} | state))
    row["labels"] |= {"stackyard.environment": "test", "stackyard.host": Settings.load().host}
    row["stats"] = BUSY
    return row


@pytest.fixture
def watcher(book: LeaseBook, lease: Lease, fake_engine: FakeEngine, engine: Engine) -> Watcher:
    """A stack that is well but for Redis, which runs, and failed its health checks."""
    for service in ("postgres", "auth", "backend"):
        add(fake_engine, lease, service, Health={"Status": "healthy"})
    add(fake_engine, lease, "redis", Health={"Status": "unhealthy"})
    ticks = iter(range(1000))
    return Watcher(book, engine, clock=lambda: float(next(ticks)))


def sample(watcher: Watcher, name: str, **labels: str) -> float | None:
    families = parse(exports.text(StackCollector(watcher)))
    found = [
        each.value
        for family in families
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    ]
    return found[0] if found else None


def test_a_look_tells_what_each_service_uses_and_how_it_is(watcher: Watcher, lease: Lease) -> None:
    services = {each.service: each for each in watcher.look().services}

    redis = services["redis"]
    assert list(services) == ["auth", "backend", "postgres", "redis"]
    assert (redis.environment, redis.lease, redis.up, services["auth"].up) == ("test", lease.id, False, True)
    told = redis.to_json()
    assert (told["usage"]["memory_bytes"], told["usage"]["memory_peak_bytes"], told["usage"]["pids"]) == (
        20 << 20,
        40 << 20,
        4,
    )
    assert (told["status"], told["health"], told["cpu_percent"]) == ("running", "unhealthy", None)


def test_cpu_use_is_what_was_spent_between_two_looks(
    book: LeaseBook, lease: Lease, fake_engine: FakeEngine, engine: Engine
) -> None:
    row = add(fake_engine, lease, "redis")
    ticks = iter([0.0, 1.0, 1.5, 2.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    watcher = Watcher(book, engine, lease, clock=lambda: next(ticks))

    watcher.look()
    row["stats"] = BUSY | {"cpu_stats": {"cpu_usage": {"total_usage": 4_000_000_000}}}
    busy = watcher.look()
    row["stats"] = BUSY | {"cpu_stats": {"cpu_usage": {"total_usage": 1}}}
    restarted = watcher.look()

    # looked at 1.0 s, then at 5.0 s; 2 s of CPU time went in between
    assert [each.cpu_percent for each in busy.services if each.seen] == [50.0]
    assert [each.cpu_percent for each in restarted.services if each.seen] == [0.0]


def test_no_time_between_two_looks_gives_no_figure(
    book: LeaseBook, lease: Lease, fake_engine: FakeEngine, engine: Engine
) -> None:
    add(fake_engine, lease, "redis")
    watcher = Watcher(book, engine, lease, clock=lambda: 1.0)

    watcher.look()

    assert {each.cpu_percent for each in watcher.look().services} == {None}


@pytest.mark.parametrize("status", [404, 409, 500])
def test_a_container_that_goes_away_during_the_look_is_shown_as_missing(
    watcher: Watcher, fake_engine: FakeEngine, lease: Lease, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    answer = fake_engine.answer

    def without_redis(method: str, path: str, *rest: Any) -> tuple[int, Any]:
        if f"redis-{lease.id}" in path:
            return status, {"message": "no such container, or marked for removal"}
        return answer(method, path, *rest)

    monkeypatch.setattr(fake_engine, "answer", without_redis)
    missing = {each.service: each for each in watcher.look().services}["redis"]

    assert (missing.seen, missing.up, missing.to_json()["status"]) == (None, False, "missing")
    assert sample(watcher, "stackyard_service_running", service="redis") == 0
    assert tables.row(missing)[1:3] == ["missing", "-"]


def test_a_stack_of_another_book_and_a_removed_stack_are_not_shown(
    watcher: Watcher, fake_engine: FakeEngine, lease: Lease
) -> None:
    add(fake_engine, replace(lease, id="stranger"), "redis")["labels"]["stackyard.host"] = "other"
    assert {each.lease for each in watcher.look().services} == {lease.id}

    fake_engine.containers.clear()
    assert watcher.look().services == []


def test_one_container_is_measured_or_gone(engine: Engine, fake_engine: FakeEngine, lease: Lease) -> None:
    add(fake_engine, lease, "ended", Status="exited", Pid=0, OOMKilled=True)
    add(fake_engine, lease, "ending")["stats"] = {"memory_stats": {}}
    add(fake_engine, lease, "bare")["stats"] = BUSY | {"pids_stats": {"limit": 2**64 - 1}}

    ended, ending, bare = (sight(engine, f"{name}-{lease.id}") for name in ("ended", "ending", "bare"))

    assert sight(engine, "gone") is None
    assert ended is not None
    assert (ended.usage, ended.state.oom_killed) == (None, True)
    assert ending is not None
    assert ending.usage is None
    assert bare is not None
    assert bare.usage is not None
    assert (bare.usage.pids, bare.usage.pids_limit, bare.usage.cpus) == (0, None, None)


def test_an_engine_out_of_order_is_an_error_not_a_container_that_is_gone(
    engine: Engine, fake_engine: FakeEngine, lease: Lease
) -> None:
    add(fake_engine, lease, "redis")
    fake_engine.broken = True

    with pytest.raises(EngineError, match="measuring container redis-"):
        sight(engine, f"redis-{lease.id}")


GROUPS = {
    "version 1": ("4:memory:/docker/abc\n0::/docker/abc\n", "memory/docker/abc", "memory.max_usage_in_bytes",
                  "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    "version 2": ("0::/system.slice/docker-abc.scope\n", "system.slice/docker-abc.scope", "memory.peak",
                  "memory.events", "low 0\nhigh 0\nmax 0\noom 1\noom_kill 2\noom_group_kill 0\n"),
}  # fmt: skip


@pytest.mark.parametrize("version", GROUPS)
def test_the_kernels_counters_are_read_from_either_kind_of_control_group(tmp_path: Path, version: str) -> None:
    lines, group, peak, events, text = GROUPS[version]
    process, folder = tmp_path / "proc/7", tmp_path / "cgroup" / group
    process.mkdir(parents=True)
    folder.mkdir(parents=True)
    (process / "cgroup").write_text(lines)
    (folder / peak).write_text("4096\n")
    (folder / events).write_text(text)

    def read(pid: int, container: str) -> tuple[int | None, int | None]:
        return counters(pid, container, proc=tmp_path / "proc", cgroups=tmp_path / "cgroup")

    assert read(7, "abc") == (4096, 2)
    assert read(7, "another") == (None, None)
    assert read(8, "abc") == (None, None)
    (folder / peak).unlink()
    (folder / events).write_text("oom_kill\n")
    assert read(7, "abc") == (None, None)


def test_the_kernels_counters_are_read_by_a_stackyard_that_runs_in_a_container_itself(tmp_path: Path) -> None:
    """With old control groups a container's own group is the root of what it sees; the kernel names groups in full."""
    process, here, mounted = tmp_path / "proc/7", tmp_path / "proc/self", tmp_path / "cgroup/memory"
    for folder in (process, here, mounted / "docker/abc"):
        folder.mkdir(parents=True)
    (process / "cgroup").write_text("4:memory:/docker/outer/docker/abc\n")
    (here / "mountinfo").write_text(f"315 310 0:33 /docker/outer {mounted} rw,nosuid - cgroup cgroup rw,memory\n")
    (mounted / "docker/abc/memory.max_usage_in_bytes").write_text("4096\n")
    (mounted / "docker/abc/memory.oom_control").write_text("oom_kill 2\n")

    assert counters(7, "abc", proc=tmp_path / "proc", cgroups=tmp_path / "cgroup") == (4096, 2)


def test_metrics_name_the_service_and_hold_no_credential(watcher: Watcher, lease: Lease) -> None:
    labels = {"environment": "test", "lease": lease.id, "service": "redis"}
    text = exports.text(StackCollector(watcher))

    assert sample(watcher, "stackyard_container_memory_bytes", **labels) == 20 << 20
    assert sample(watcher, "stackyard_container_memory_limit_bytes", **labels) == 96 << 20
    assert sample(watcher, "stackyard_container_cpu_seconds_total", **labels) == 2.0
    assert sample(watcher, "stackyard_container_restarts_total", **labels) == 0
    assert sample(watcher, "stackyard_container_health", health="unhealthy", **labels) == 1
    assert sample(watcher, "stackyard_container_health", health="healthy", **labels) == 0
    assert sample(watcher, "stackyard_service_up", **labels) == 0
    assert sample(watcher, "stackyard_service_running", **labels) == 1
    assert [secret for secret in lease.secrets() if secret in text] == []


def test_metrics_tell_of_leases_and_of_what_still_fits(watcher: Watcher, lease: Lease) -> None:
    book = watcher.book
    later = StackCollector(watcher, clock=lambda: lease.created + 61)

    assert sample(watcher, "stackyard_leases", environment="test", state="active") == 1
    assert sample(watcher, "stackyard_lease_stale", lease=lease.id) == 0
    assert sample(watcher, "stackyard_lease_deadline_timestamp_seconds", lease=lease.id) == lease.deadline
    assert sample(watcher, "stackyard_slots") == 50
    assert 0 < (sample(watcher, "stackyard_slots_free") or 0) < 50
    assert sample(watcher, "stackyard_stacks_free", environment="ci") is not None
    told = {(row["name"], row["labels"].get("state")): row["value"] for row in exports.values(later)}
    assert told["stackyard_leases", "stale"] == 1
    assert told["stackyard_lease_stale", None] == 1
    book.renew(lease.id, float("inf"))
    assert sample(watcher, "stackyard_lease_deadline_timestamp_seconds", lease=lease.id) is None


def test_a_lease_that_is_being_removed_counts_as_that(watcher: Watcher, lease: Lease) -> None:
    # its time is over for the book that takes it over
    patient = LeaseBook(watcher.book.settings, clock=lambda: time.time() + 100)
    assert patient.take_over(lease) is not None

    assert sample(watcher, "stackyard_leases", environment="test", state="removing") == 1


def test_an_ended_service_counts_its_want_of_memory_and_no_use(
    watcher: Watcher, fake_engine: FakeEngine, lease: Lease
) -> None:
    add(fake_engine, lease, "redis", Status="exited", Pid=0, OOMKilled=True, ExitCode=137)

    assert sample(watcher, "stackyard_container_oom_kills_total", service="redis") == 1
    assert sample(watcher, "stackyard_container_memory_bytes", service="redis") is None
    row = next(row for row in map(tables.row, watcher.look().services) if row[0] == "redis")
    assert (row[1], row[3], row[-1]) == ("exited (137)", "-", "1")


def test_without_an_engine_or_a_book_the_scrape_says_so_and_does_not_fail(
    watcher: Watcher, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine.broken = True
    assert (sample(watcher, "stackyard_engine_up"), sample(watcher, "stackyard_book_up")) == (0, 1)
    assert sample(watcher, "stackyard_slots_free") is None

    def broken() -> list[Lease]:
        raise BookError("broken")

    monkeypatch.setattr(watcher.book, "leases", broken)
    assert sample(watcher, "stackyard_book_up") == 0


def test_every_metric_an_alert_asks_for_is_exported_and_every_alert_is_tested(watcher: Watcher) -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    cases = yaml.safe_load(ALERTS.with_name("alerts_test.yml").read_text())["tests"]
    exported = {f"{row['name']}" for row in exports.values(StackCollector(watcher))}

    asked = {name for rule in rules for name in re.findall(r"stackyard_\w+", rule["expr"])}
    fired = {test["alertname"] for case in cases for test in case["alert_rule_test"] if test["exp_alerts"]}

    assert asked - exported == set()
    assert fired == {rule["alert"] for rule in rules}


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:9464", "localhost:9464", "127.0.0.1", ":9464", "127.0.0.1:65536", "[::]:9464", "127.0.0.1:x", "1.2.3:80",
     "[:::]:1", "127.0.0.1:9464\n"],
)  # fmt: skip
def test_only_a_loopback_address_is_listened_on(text: str) -> None:
    with pytest.raises(UsageError, match="--listen must be a loopback address"):
        exports.parse_listen(text)


def test_loopback_addresses_of_both_families_are_read() -> None:
    assert exports.parse_listen("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert exports.parse_listen("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
def test_metrics_are_served_on_loopback_until_the_block_ends(watcher: Watcher, listen: str) -> None:
    with exports.serving(StackCollector(watcher), listen) as url:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own loopback address
            served = answer.read().decode()
        again = f"{listen.rpartition(':')[0]}:{url.rpartition(':')[2].partition('/')[0]}"
        with pytest.raises(UsageError, match="choose another port"), exports.serving(StackCollector(watcher), again):
            pass

    assert "# TYPE stackyard_service_up gauge" in served
    host, port = exports.parse_listen(again)
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, port), timeout=5):
        pass


@pytest.mark.usefixtures("watcher")
def test_one_look_is_a_table_and_one_line_of_json_a_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "SPAN", 0.0)
    commands.stats(Context(), name="mine", once=True)
    table = capsys.readouterr().out.splitlines()
    commands.stats(Context(), once=True, json=True)
    whole = json.loads(capsys.readouterr().out)

    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("stackyard.cli.monitor.sleep", nap)
    commands.stats(Context(), json=True, interval="7s")
    lines = capsys.readouterr().out.splitlines()

    assert table[1].split()[:4] == ["service", "state", "CPU", "memory"]
    assert "20.0 of 96 MiB" in table[-1]
    assert whole["services"][0]["cpu_percent"] == 0.0
    assert len([json.loads(line) for line in lines]) == 3
    assert naps == [7.0] * 3


@pytest.mark.usefixtures("lease")
def test_without_a_stack_one_look_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    commands.stats(Context())

    assert capsys.readouterr().out == "no stack is up; 'invoke env.up' starts one\n"


@pytest.mark.usefixtures("watcher")
def test_the_live_view_outlives_an_engine_that_is_away_for_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine
) -> None:
    naps: list[Callable[[], None]] = [
        lambda: setattr(fake_engine, "broken", True),
        fake_engine.containers.clear,
        lambda: setattr(fake_engine, "broken", False),
    ]

    def nap(_seconds: float) -> None:
        if not naps:
            raise KeyboardInterrupt
        naps.pop(0)()

    monkeypatch.setattr("stackyard.cli.monitor.sleep", nap)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    commands.stats(Context())
    shown = capsys.readouterr().out

    assert "4 services of 1 stack" in shown
    assert "the engine is out of order" in shown
    assert "no stack is up" in shown


def test_what_needs_a_look_has_a_colour(watcher: Watcher, fake_engine: FakeEngine, lease: Lease) -> None:
    add(fake_engine, lease, "auth", Health={"Status": "starting"})
    full = BUSY["memory_stats"] | {"usage": 100 << 20}
    add(fake_engine, lease, "backend", Health={"Status": "healthy"})["stats"] = BUSY | {"memory_stats": full}

    table: Any = tables.live(watcher.look(), "note").renderables[0]

    assert [str(row.style) for row in table.rows] == ["yellow", "yellow", "", "red"]
    assert tables.live(None).renderables == []


def test_eighty_columns_hold_every_figure_and_the_name_of_each_stack(
    watcher: Watcher, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.look()
    again = watcher.look()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.live(again, "note"))

    for shown in (console.export_text(), tables.text(again)):
        assert f"test: mine ({lease.id})" in shown
        line = next(line for line in shown.splitlines() if line.startswith("redis"))
        assert " ".join(line.split()) == "redis unhealthy 0.0% 20.0 of 96 MiB 40.0 MiB 4/64 0 0"
        assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80


@pytest.mark.usefixtures("watcher")
def test_one_export_is_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    commands.export(Context(), once=True)
    text = capsys.readouterr().out
    commands.export(Context(), once=True, json=True)
    rows = json.loads(capsys.readouterr().out)

    assert text.startswith("# HELP stackyard_engine_up ")
    assert {
        "name": "stackyard_slots",
        "labels": {},
        "value": 50.0,
        "type": "gauge",
        "help": "Slots of the port pool.",
    } in rows


@pytest.mark.usefixtures("watcher")
@pytest.mark.parametrize(
    ("options", "words"), [({"json": True}, "--json needs --once"), ({"listen": "0.0.0.0:1", "once": True}, "loopback")]
)
def test_what_an_export_cannot_do_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Exit, match=words) as caught:
        commands.export(Context(), **options)
    assert caught.value.code == 2


@pytest.mark.usefixtures("watcher")
def test_an_export_serves_until_it_is_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_wait_without_end", interrupt)
    commands.export(Context(), listen="127.0.0.1:0")

    assert re.fullmatch(r"serving http://127\.0\.0\.1:\d+/metrics; Ctrl-C ends it\n", capsys.readouterr().out)


@pytest.mark.usefixtures("watcher")
def test_a_reader_that_goes_away_ends_the_stream_quietly() -> None:
    words = [sys.executable, "-m", "invoke", "-r", str(project_root()), "monitor.stats", "--json", "--interval", "10ms"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ.copy()) as child:  # noqa: S603 - our own command
        assert child.stdout is not None
        assert child.stderr is not None
        assert json.loads(child.stdout.readline())["services"]
        child.stdout.close()
        child.wait(timeout=240)
        assert (child.returncode, child.stderr.read()) == (0, b"")
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN

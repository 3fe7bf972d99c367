from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from invoke.context import Context
from lease_records import Clock

from stackyard.cleanup.plan import Candidate, plan
from stackyard.cli import cleanup as commands
from stackyard.leases import Lease, LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.docker import Engine

DYING = """
from stackyard.project.environments import Environment
from stackyard.leases import LeaseBook
from stackyard.settings import Settings
print(LeaseBook(Settings.load()).acquire(Environment.load("test")).id)
"""


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LeaseBook:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    return LeaseBook(Settings.load())


def put(fake_engine: FakeEngine, book: LeaseBook, lease: str) -> None:
    """Let a redis, its network and a volume stand under *lease*."""
    fake_engine.container("redis", lease)["labels"] |= {"stackyard.host": book.host}
    fake_engine.network(f"net-{lease}", lease)
    fake_engine.volume(f"data-{lease}", lease)
    for thing in (fake_engine.networks[f"net-{lease}"], fake_engine.volumes[f"data-{lease}"]):
        thing["Labels"] |= {"stackyard.host": book.host, "stackyard.environment": "test"}


def dead() -> str:
    """Let a process that has a lease end; return the lease's id."""
    done = subprocess.run([sys.executable, "-c", DYING], check=True, capture_output=True, text=True)  # noqa: S603 - our own
    return done.stdout.strip()


def facts(found: list[Candidate]) -> list[tuple[str, str, str]]:
    return [(item.command, item.kind, item.name) for item in found]


def test_the_living_are_for_all_alone(fake_engine: FakeEngine, engine: Engine, book: LeaseBook) -> None:
    lease = book.acquire(Environment.load("test"))
    put(fake_engine, book, lease.id)

    found = plan(book, engine)

    assert facts(found) == [
        ("all", "lease", lease.project),
        ("all", "container", f"redis-{lease.id}"),
        ("all", "network", f"net-{lease.id}"),
    ]  # fmt: skip
    assert {(item.alive, item.why, item.environment) for item in found} == {(True, "in use", "test")}
    assert found[0].owner.startswith(f"pid {os.getpid()} (")


def test_a_dead_owner_s_come_first_and_say_so(fake_engine: FakeEngine, engine: Engine, book: LeaseBook) -> None:
    mine, theirs = book.acquire(Environment.load("test")), dead()
    for lease in (mine.id, theirs):
        put(fake_engine, book, lease)

    found = plan(book, engine, keep_volumes=False)

    assert [item.lease for item in found] == [theirs] * 4 + [mine.id] * 4
    assert [item.kind for item in found[:4]] == ["lease", "container", "network", "volume"]
    assert {(item.command, item.alive, item.why) for item in found[:4]} == {("stale", False, "its owner has ended")}
    assert found[0].owner.endswith("which has ended")


def test_a_passed_deadline_tells_for_how_long(engine: Engine, book: LeaseBook) -> None:
    book.acquire(Environment.load("test"), ttl=30)
    clock = Clock()
    clock.now = book.leases()[0].created + 95.0

    (item,) = plan(book, engine, clock=clock)

    assert (item.command, item.why, item.owner) == ("stale", "its deadline passed 65 s ago", "detached")


def test_a_lease_of_an_earlier_boot_says_so(engine: Engine, book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    book.acquire(Environment.load("test"), ttl=30)
    monkeypatch.setattr("stackyard.leases.owners.boot_id", lambda: "another")
    monkeypatch.setattr("stackyard.cleanup.plan.boot_id", lambda: "another")

    (item,) = plan(book, engine)

    assert (item.command, item.why) == ("stale", "the host has been restarted since")


def test_what_the_book_has_lost_sight_of_is_listed(fake_engine: FakeEngine, engine: Engine, book: LeaseBook) -> None:
    put(fake_engine, book, "lost")
    fake_engine.container("auth", "foreign")

    found = plan(book, engine)

    assert facts(found) == [("stale", "container", "redis-lost"), ("stale", "network", "net-lost")]
    assert {(item.why, item.user, item.owner) for item in found} == {("the book has no such lease", "", "")}


def test_a_plan_changes_nothing(fake_engine: FakeEngine, engine: Engine, book: LeaseBook) -> None:
    put(fake_engine, book, dead())
    orphan = book.settings.state_dir / "leases" / "nobody-s"
    orphan.mkdir()
    before = [lease.to_json() for lease in book.leases()]

    plan(book, engine)

    assert [lease.to_json() for lease in book.leases()] == before
    assert orphan.is_dir()
    assert not [request for request in fake_engine.requests if request.startswith(("DELETE", "POST"))]


@pytest.mark.parametrize(
    ("name", "expected"), [(lambda _uid: (_ for _ in ()).throw(KeyError), str(os.getuid())), (None, "")]
)
def test_a_user_without_a_name_and_a_lease_without_files_can_be_listed(
    engine: Engine, book: LeaseBook, monkeypatch: pytest.MonkeyPatch, name: object, expected: str
) -> None:
    lease: Lease = book.acquire(Environment.load("test"))
    if name is None:
        lease.directory.rename(lease.directory.with_name("gone"))
    else:
        monkeypatch.setattr("pwd.getpwuid", name)

    assert [item.user for item in plan(book, engine)] == [expected]


@pytest.mark.usefixtures("fake_engine")
def test_the_command_prints_a_table_or_json(book: LeaseBook, capsys: pytest.CaptureFixture[str]) -> None:
    commands.plan(Context())
    nothing = capsys.readouterr().out
    lease = book.acquire(Environment.load("test"), ttl=3600)

    commands.plan(Context())
    table = capsys.readouterr().out.splitlines()
    commands.plan(Context(), json=True)
    (row,) = json.loads(capsys.readouterr().out)

    assert nothing == "nothing to remove\n"
    assert table[0].split()[:3] == ["removed", "by", "what"]
    assert table[2].startswith(f"cleanup.all   lease {lease.project}")
    assert (row["lease"], row["command"], row["deadline"]) == (lease.id, "all", lease.deadline)

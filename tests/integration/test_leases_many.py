"""
Many real processes on one lease book: at once, killed at any moment, queueing.

No Docker. The short form runs by default; STACKYARD_FULL=1 runs 64 processes with 50 leases each and 200 kills.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.errors import BookError
from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.leases import Lease

FULL = os.environ.get("STACKYARD_FULL") == "1"
PROCESSES, EACH = (64, 50) if FULL else (16, 25)
KILLS = 200 if FULL else 12
ROOT = Path(__file__).parents[2]

# Thousands of leases book more memory than any test machine has: those that take many force them.
# Every program waits at the barrier, a lock the test holds until all are there.
START = """
import fcntl, json, sys, time
from stackyard.project.environments import Environment
from stackyard.leases import LeaseBook
from stackyard.settings import Settings
book, environment = LeaseBook(Settings.load()), Environment.load("test")
print("ready", flush=True)
with open(sys.argv[1]) as barrier:
    fcntl.flock(barrier, fcntl.LOCK_SH)
"""
MANY = "print(json.dumps([book.acquire(environment, ttl=600, force=True).to_json() for _ in range(int(sys.argv[2]))]))"
NAMED = "print(json.dumps([book.acquire(environment, parallel_id=sys.argv[2]).to_json()]))"
CHURN = """
while True:
    lease = book.acquire(environment)
    book.renew(lease.id, 600)
    other = book.acquire(environment, fixed="prefer")
    book.renew(other.id, 0.001, detach=True)
    book.move(lease, rest=0.001)
    book.release(other)
    book.release(lease.id)
"""
TURN = """
lease = book.acquire(environment, wait=240)
start = time.monotonic()
time.sleep(0.02)
end = time.monotonic()
book.release(lease)
print(json.dumps([start, end]))
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Settings of a book of its own, with room for thousands of leases."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STACKYARD_")}
    own = {
        "STACKYARD_STATE_DIR": str(tmp_path / "state"),
        "STACKYARD_POOL": "10000-29999",
        "STACKYARD_POOL_BLOCK": "5",
        "STACKYARD_POOL_SUBNETS": "10.216.0.0/15",
    }
    return kept | own


@pytest.fixture
def book(variables: dict[str, str]) -> LeaseBook:
    return LeaseBook(Settings.load(variables))


@contextlib.contextmanager
def started(
    program: str, arguments: list[list[str]], variables: dict[str, str], tmp_path: Path
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start one process for each list of arguments, let all go at once, and end those that still run."""
    barrier = tmp_path / "barrier"
    with barrier.open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        children = [
            subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, "-c", START + program, str(barrier), *words],
                cwd=ROOT, env=variables, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            )
            for words in arguments
        ]  # fmt: skip
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
            fcntl.flock(gate, fcntl.LOCK_UN)
            yield children
        finally:
            for child in children:
                child.kill()
                child.communicate()


def answers(children: list[subprocess.Popen[str]]) -> list[Any]:
    outputs = [child.communicate(timeout=280)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return [json.loads(output) for output in outputs]


def duplicates(values: list[Any]) -> int:
    return len(values) - len(set(values))


def test_many_processes_at_once_never_share_a_port_subnet_or_project(
    variables: dict[str, str], book: LeaseBook, tmp_path: Path
) -> None:
    with started(MANY, [[str(EACH)]] * PROCESSES, variables, tmp_path) as children:
        granted = [lease for answer in answers(children) for lease in answer]

    assert len(granted) == PROCESSES * EACH
    assert duplicates([port for lease in granted for port in lease["ports"].values()]) == 0
    for field in ("lease", "subnet", "project", "slot"):
        assert duplicates([lease[field] for lease in granted]) == 0
    assert {lease.id for lease in book.leases()} == {lease["lease"] for lease in granted}
    assert book.check() == "ok"


def test_random_picks_without_a_book_do_collide(variables: dict[str, str]) -> None:
    slots = Settings.load(variables).slots
    picks = [pick for seed in range(PROCESSES) for pick in random.Random(seed).sample(range(slots), EACH)]  # noqa: S311 - the negative control

    assert duplicates(picks) > 0


def test_one_parallel_id_asked_for_by_many_processes_is_one_lease(
    variables: dict[str, str], book: LeaseBook, tmp_path: Path
) -> None:
    with started(NAMED, [["job-1"]] * 12, variables, tmp_path) as children:
        granted = [lease["lease"] for (lease,) in answers(children)]

    assert set(granted) == {lease.id for lease in book.leases()}
    assert len(book.leases()) == 1


def test_a_kill_at_any_moment_leaves_nothing_half_done(
    variables: dict[str, str], book: LeaseBook, tmp_path: Path
) -> None:
    chance = random.Random(KILLS)  # noqa: S311 - when to kill is no secret
    bystander = book.acquire(Environment.load("test", ROOT), ttl=600)
    for _ in range(KILLS // 4):
        with started(CHURN, [[]] * 4, variables, tmp_path) as children:
            time.sleep(chance.uniform(0.005, 0.1))
            for child in children:
                child.kill()
                child.wait()
        pids = {child.pid for child in children}

        assert book.check() == "ok"
        stale = book.stale()
        assert {lease.owner.pid for lease in stale} <= pids | {0}
        assert {lease.id for lease in stale} | {bystander.id} == {lease.id for lease in book.leases()}
        for lease in stale:
            taken = book.take_over(lease)
            assert taken is not None
            assert book.release(taken)
        assert book.stale() == []
        assert book.leases() == [bystander]
        book.tidy()
        assert list((book.settings.state_dir / "leases").iterdir()) == [bystander.directory]
        assert not list(book.settings.state_dir.glob("*.corrupt-*"))


def test_those_who_queue_for_one_slot_have_it_one_after_the_other(
    variables: dict[str, str], book: LeaseBook, tmp_path: Path
) -> None:
    one_slot = variables | {"STACKYARD_POOL": "10000-10004"}
    with started(TURN, [[]] * 8, one_slot, tmp_path) as children:
        turns = sorted(answers(children))

    assert len(turns) == 8
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(turns))
    assert book.leases() == []


def test_fifty_commands_at_once_get_fifty_blocks(variables: dict[str, str], book: LeaseBook) -> None:
    tens = variables | {"STACKYARD_POOL": "10000-12999", "STACKYARD_POOL_BLOCK": "10"}
    program = [sys.executable, str(ROOT / "scripts" / "allocate_test_ports.py"), "--force", "--json", "--parallel-id"]
    children = [
        subprocess.Popen([*program, f"job-{n}"], env=tens, text=True, stdout=subprocess.PIPE)  # noqa: S603 - our own script
        for n in range(50)
    ]
    granted = answers(children)

    ports = [port for lease in granted for port in (*lease["ports"].values(), *lease["spare"])]
    assert len(ports) == 500
    assert duplicates(ports) == 0
    assert {lease.parallel_id for lease in book.leases()} == {f"job-{n}" for n in range(50)}


def test_a_book_deleted_under_running_processes_grants_nothing_twice(
    variables: dict[str, str], book: LeaseBook, tmp_path: Path
) -> None:
    with started(MANY, [["20"]] * 6, variables, tmp_path) as children:
        for _ in range(5):
            time.sleep(0.02)
            (book.settings.state_dir / "book.sqlite3").unlink(missing_ok=True)
        granted = [lease for answer in answers(children) for lease in answer]

    assert duplicates([port for lease in granted for port in lease["ports"].values()]) == 0
    assert {lease.id for lease in book.leases()} == {lease["lease"] for lease in granted}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few leases."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=320k,mode=0700", "tmpfs", str(mounted)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:  # noqa: S603 - our own words
        pytest.skip("mounting a file system needs root")
    yield mounted
    # lazily: a mount that a failed test keeps busy would be in the way of every later one
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)  # noqa: S603, S607 - our own words


def on(disk: Path) -> dict[str, str]:
    return {"STACKYARD_STATE_DIR": str(disk / "state"), "STACKYARD_POOL": "10000-10499"}


def remount(book: LeaseBook, disk: Path, how: str) -> None:
    book._store.close()  # a file open for writing keeps a disk from becoming read-only
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)  # noqa: S603, S607 - our own words


def test_a_full_disk_refuses_a_lease_and_leaves_nothing_half_done(variables: dict[str, str], small_disk: Path) -> None:
    book = LeaseBook(Settings.load(variables | on(small_disk)))
    environment = Environment.load("test", ROOT)
    granted: list[Lease] = []

    def fill() -> None:
        while True:
            granted.append(book.acquire(environment, ttl=600))

    with pytest.raises(BookError, match=r"No space left on device|disk is full|disk I/O error"):
        fill()

    remount(book, small_disk, "size=1m")
    assert granted
    assert {lease.id for lease in book.leases()} == {lease.id for lease in granted}
    assert book.check() == "ok"
    assert book.stale() == []
    book.tidy()
    assert {path.name for path in (small_disk / "state" / "leases").iterdir()} == {lease.id for lease in granted}
    assert all(lease.url("redis") for lease in granted)
    book._store.close()


def test_a_read_only_disk_is_one_clear_error_and_changes_nothing(variables: dict[str, str], small_disk: Path) -> None:
    book = LeaseBook(Settings.load(variables | on(small_disk)))
    lease = book.acquire(Environment.load("test", ROOT), ttl=600)
    remount(book, small_disk, "ro")

    with pytest.raises(BookError, match=r"[Rr]ead-?only") as caught:
        book.release(lease)

    assert caught.value.exit_code == 5
    remount(book, small_disk, "rw")
    assert book.leases() == [lease]
    book._store.close()

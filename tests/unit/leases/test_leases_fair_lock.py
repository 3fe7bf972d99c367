"""The lock on the book: whose turn it is, and what becomes of those who never give it back."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from stackyard.errors import BookError
from stackyard.leases import fair_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAITER = """
import os, sys
from pathlib import Path
from stackyard.leases import fair_lock
path = Path(sys.argv[1])
handle = os.open(path, os.O_RDWR)
fair_lock.draw(handle)
print("drawn", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "lock"
    made.touch()
    return made


@pytest.fixture
def onlooker(path: Path) -> Iterator[int]:
    """A descriptor that only looks."""
    with path.open("r+") as opened:
        yield opened.fileno()


def test_a_lock_that_is_never_given_back_names_its_holder(path: Path) -> None:
    with path.open("w") as theirs, path.open("r+") as ours:
        fcntl.flock(theirs, fcntl.LOCK_EX)

        with pytest.raises(BookError, match=rf"locked for over 0\.05 s by pid {os.getpid()} \("):
            fair_lock.take_lock(ours.fileno(), path, deadline=0.05)


def test_a_queue_that_moves_is_waited_in_beyond_the_deadline(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 3))
    clock = SimpleNamespace(monotonic=lambda: next(now), monotonic_ns=time.monotonic_ns, sleep=lambda _seconds: None)
    holders = iter([*(f"pid {number}" for number in range(20) for _ in range(3)), *["pid 99"] * 9])
    monkeypatch.setattr(fair_lock, "time", clock)
    monkeypatch.setattr(fair_lock, "lock_holder", lambda _path: next(holders))
    with path.open("w") as theirs, path.open("r+") as ours:
        fcntl.flock(theirs, fcntl.LOCK_EX)

        with pytest.raises(BookError, match="locked for over 30 s by pid 99"):
            fair_lock.take_lock(ours.fileno(), path)
    assert next(now) > 20 * 3 * 30 / 4


def test_a_lock_that_is_given_back_in_time_is_taken(path: Path) -> None:
    theirs, ours = path.open("w"), path.open("r+")
    with theirs, ours:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        threading.Timer(0.05, fcntl.flock, (theirs, fcntl.LOCK_UN)).start()

        fair_lock.take_lock(ours.fileno(), path, deadline=120)

        with path.open() as third, pytest.raises(BlockingIOError):
            fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)


def wait_for_tickets(onlooker: int, count: int) -> None:
    end = time.monotonic() + 120
    while fair_lock._ahead(onlooker, None) < count:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_who_came_first_goes_first(path: Path, onlooker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_lock, "COURTESY", 60.0)  # a busy machine keeps some from looking for longer
    order: list[int] = []

    def come(number: int) -> None:
        with path.open("r+") as mine:
            fair_lock.take_lock(mine.fileno(), path)
            order.append(number)

    with path.open("r+") as first:
        fair_lock.take_lock(first.fileno(), path)
        line = [threading.Thread(target=come, args=(number,)) for number in range(8)]
        for number, waiter in enumerate(line, start=1):
            waiter.start()
            wait_for_tickets(onlooker, number)
    for waiter in line:
        waiter.join()

    assert order == list(range(8))


def test_who_comes_late_does_not_pass_those_who_wait_for_a_lock_that_is_free(path: Path) -> None:
    with path.open("r+") as theirs, path.open("r+") as ours:
        fair_lock.draw(theirs.fileno())

        with pytest.raises(BookError, match=r"locked for over 0\.01 s by a process that has released it by now"):
            fair_lock.take_lock(ours.fileno(), path, deadline=0.01)


def test_a_ticket_ends_with_its_process(path: Path, onlooker: int) -> None:
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", WAITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert fair_lock._ahead(onlooker, None) == 1
        child.kill()

    with path.open("r+") as ours:
        fair_lock.take_lock(ours.fileno(), path, deadline=0.01)


def test_an_old_ticket_holds_no_one_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("r+") as theirs, path.open("r+") as ours:
        fair_lock.draw(theirs.fileno())
        monkeypatch.setattr(fair_lock, "COURTESY", 0.0)

        fair_lock.take_lock(ours.fileno(), path, deadline=0.01)

        with pytest.raises(BlockingIOError):
            fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_where_there_are_no_tickets_the_lock_alone_decides(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with path.open("r+") as theirs, path.open("r+") as ours:
        fair_lock.take_lock(theirs.fileno(), path, deadline=0.01)

        with pytest.raises(BookError, match=f"by pid {os.getpid()}"):
            fair_lock.take_lock(ours.fileno(), path, deadline=0.01)


def test_a_lock_no_one_holds_has_no_holder(path: Path) -> None:
    assert fair_lock.lock_holder(path) == "a process that has released it by now"


def test_a_byte_is_shared_by_many_or_had_by_one_alone(path: Path) -> None:
    with path.open("r+") as one, path.open("r+") as other, path.open("r+") as alone:
        fair_lock.share(one.fileno(), 7)
        fair_lock.share(other.fileno(), 7)

        assert not fair_lock.lock(alone.fileno(), 7)
        assert fair_lock.lock(alone.fileno(), 6)
        assert fair_lock.lock(alone.fileno(), 8)
        fair_lock.unlock(one.fileno())
        assert not fair_lock.lock(alone.fileno(), 7)
        fair_lock.unlock(other.fileno())
        assert fair_lock.lock(alone.fileno(), 7)


def test_a_byte_is_the_same_wherever_the_file_is_read(path: Path) -> None:
    with path.open("r+") as one, path.open("r+") as alone:
        os.lseek(one.fileno(), 3, os.SEEK_SET)
        fair_lock.share(one.fileno(), 7)

        assert not fair_lock.lock(alone.fileno(), 7)
        assert fair_lock.lock(alone.fileno(), 10)


def test_who_shares_a_byte_waits_until_no_one_has_it_alone(path: Path) -> None:
    with path.open("r+") as alone, path.open("r+") as other:
        assert fair_lock.lock(alone.fileno(), 7)
        waiter = threading.Thread(target=fair_lock.share, args=(other.fileno(), 7))
        waiter.start()

        waiter.join(0.1)
        assert waiter.is_alive()
        fair_lock.unlock(alone.fileno())
        waiter.join(30)
        assert not waiter.is_alive()

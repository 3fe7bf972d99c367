"""Who may start a stack now, and what becomes of those who never give their turn back."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from stackyard.errors import BookError, NotReadyError
from stackyard.leases import fair_lock
from stackyard.settings import MOST_STARTS, Settings
from stackyard.stacks.starts import queue
from stackyard.stacks.starts.queue import places, processors, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

HOLDER = """
import sys
from stackyard.settings import Settings
from stackyard.stacks.starts.queue import turn
with turn(Settings.load()):
    print("held", flush=True)
    sys.stdin.read()
"""


def settings(tmp_path: Path, at_once: str = "1") -> Settings:
    return Settings.load({"STACKYARD_STATE_DIR": str(tmp_path), "STACKYARD_STARTS_AT_ONCE": at_once})


@contextlib.contextmanager
def waiting(tmp_path: Path, number: int) -> Iterator[int]:
    """Stand in line as waiter *number*, the oldest being 0."""
    with (tmp_path / "turns.lock").open("a+") as opened:
        assert fair_lock.lock(opened.fileno(), MOST_STARTS + number)
        yield opened.fileno()


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, *, each: Callable[[float], object] = lambda _now: None) -> None:
        self.now = 100.0
        self.naps: list[float] = []
        self.each = each

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds
        self.each(self.now - 100.0)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def in_line(tmp_path: Path) -> int:
    """Count those who wait, through a description of its own."""
    with (tmp_path / "turns.lock").open("a+") as onlooker:
        return fair_lock.count(onlooker.fileno(), MOST_STARTS, (1 << 63) - 1)


def test_a_turn_on_an_idle_host_comes_at_once_and_ends_with_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        clock = Clock()
        with turn(settings(tmp_path), clock=clock, sleep=clock.sleep) as waited:
            assert waited == 0.0
        assert clock.naps == []


def test_no_more_than_its_places_are_held_and_the_next_waits_for_the_first_that_is_given_back(tmp_path: Path) -> None:
    first, second = turn(settings(tmp_path, "2")), turn(settings(tmp_path, "2"))
    first.__enter__()
    second.__enter__()
    clock = Clock(each=lambda now: first.__exit__(None, None, None) if now > 0.4 else None)

    with turn(settings(tmp_path, "2"), clock=clock, sleep=clock.sleep) as waited:
        assert 0.4 < waited <= 0.4 + 2 * queue.POLL_S
        with pytest.raises(NotReadyError), turn(settings(tmp_path, "2"), patience=0):
            pass
    second.__exit__(None, None, None)


@pytest.fixture
def courteous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no process pass a waiter that a busy machine keeps from looking."""
    monkeypatch.setattr(queue, "COURTESY", 60.0)


def order_of(folder: Path, names: Sequence[str], *, last: str = "") -> list[str]:
    """Have a thread for each of *names* come in turn while the one place is taken; return who then got it when."""
    order: list[str] = []

    def come(name: str) -> None:
        with turn(settings(folder), last=name == last):
            order.append(name)

    line = [threading.Thread(target=come, args=(name,)) for name in names]
    with turn(settings(folder)):
        for number, waiter in enumerate(line, start=1):
            waiter.start()
            wait_until(lambda number=number: in_line(folder) == number)  # type: ignore[misc]
    for waiter in line:
        waiter.join()
    return order


@pytest.mark.usefixtures("courteous")
def test_threads_get_their_turns_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    assert order_of(tmp_path, "abcdef") == list("abcdef")


async def test_an_event_loop_starts_many_stacks_and_only_as_many_as_there_are_places_at_once(tmp_path: Path) -> None:
    starting = most = 0
    counting = threading.Lock()

    def start() -> None:
        nonlocal starting, most
        with turn(settings(tmp_path, "2")):
            with counting:
                starting += 1
                most = max(most, starting)
            time.sleep(0.01)
            with counting:
                starting -= 1

    await asyncio.gather(*(asyncio.to_thread(start) for _ in range(6)))

    assert (starting, most) == (0, 2)


def test_who_comes_late_does_not_pass_one_who_waits_for_a_place_that_is_free(tmp_path: Path) -> None:
    clock = Clock()
    with (
        waiting(tmp_path, 0),
        pytest.raises(NotReadyError, match=r"\(number 2 in the queue\); 1 may start at once, starting: none now"),
        turn(settings(tmp_path), patience=queue.COURTESY / 2, clock=clock, sleep=clock.sleep),
    ):
        pass


def test_one_who_never_takes_his_turn_does_not_hold_up_the_others(tmp_path: Path) -> None:
    clock = Clock()
    with waiting(tmp_path, 0), waiting(tmp_path, 1), turn(settings(tmp_path), clock=clock, sleep=clock.sleep) as waited:
        assert waited == pytest.approx(2 * queue.COURTESY, abs=2 * queue.POLL_S)


def test_a_place_counts_as_left_alone_only_since_it_was_last_taken(tmp_path: Path) -> None:
    holder = turn(settings(tmp_path))

    with contextlib.ExitStack() as stack:
        stack.callback(holder.__exit__, None, None, None)
        holder.__enter__()
        stack.enter_context(waiting(tmp_path, 0))
        clock = Clock(each=lambda now: holder.__exit__(None, None, None) if 3 < now < 4 else None)
        with turn(settings(tmp_path), clock=clock, sleep=clock.sleep) as waited:
            assert waited > 3 + queue.COURTESY - queue.POLL_S


def test_who_stands_far_behind_looks_less_often_and_no_one_more_than_twenty_times_a_second(tmp_path: Path) -> None:
    def naps(before: int) -> set[float]:
        clock = Clock()
        with contextlib.ExitStack() as line, turn(settings(tmp_path)):
            for number in range(before):
                line.enter_context(waiting(tmp_path, number))
            with pytest.raises(NotReadyError), turn(settings(tmp_path), patience=2, clock=clock, sleep=clock.sleep):
                pass
        return set(clock.naps)

    assert naps(0) == {0.05}
    assert naps(3) == {0.2}
    assert naps(40) == {queue.LONGEST_POLL_S}


@pytest.mark.usefixtures("courteous")
def test_who_goes_last_lets_those_pass_who_come_later(tmp_path: Path) -> None:
    assert order_of(tmp_path, ["warm", "run"], last="warm") == ["run", "warm"]


def test_a_long_wait_is_reported_after_a_second_and_again_every_minute(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    clock = Clock()
    with (
        turn(settings(tmp_path)),
        pytest.raises(NotReadyError),
        turn(
            settings(tmp_path), patience=90, clock=clock, sleep=clock.sleep,
            progress=lambda line: told.append((round(clock.now - 100), line)),
        ),
    ):  # fmt: skip
        pass

    line = "waiting for a turn: 1 stack is starting on this host"
    assert told == [(1, line), (61, line)]


def test_the_line_a_user_sees_says_how_many_are_before_him(tmp_path: Path) -> None:
    told: list[str] = []
    clock = Clock()
    with (
        turn(settings(tmp_path, "2")),
        turn(settings(tmp_path, "2")),
        waiting(tmp_path, 0),
        pytest.raises(NotReadyError),
        turn(settings(tmp_path, "2"), patience=2, clock=clock, sleep=clock.sleep, progress=told.append),
    ):
        pass

    assert told == ["waiting for a turn: 2 stacks are starting on this host; this one is number 2 in the queue"]


def test_a_wait_in_vain_names_who_has_the_turns_and_what_to_do(tmp_path: Path) -> None:
    with (
        turn(settings(tmp_path)),
        pytest.raises(
            NotReadyError,
            match=rf"gave up after 0 s of waiting to start .* 1 may start at once, starting: pid {os.getpid()} "
            r"\(.*\); check those processes, or set STACKYARD_STARTS_AT_ONCE to a larger",
        ),
        turn(settings(tmp_path), patience=0),
    ):
        pass


def test_a_wait_that_is_interrupted_leaves_the_line(tmp_path: Path) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with turn(settings(tmp_path)):
        with pytest.raises(KeyboardInterrupt), turn(settings(tmp_path), sleep=interrupt):
            pass
        assert in_line(tmp_path) == 0


def test_a_start_that_fails_gives_its_turn_back(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="mine"), turn(settings(tmp_path)):
        raise NotReadyError("mine")
    with turn(settings(tmp_path), patience=0):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_turn_ends_with_its_process(tmp_path: Path, number: signal.Signals) -> None:
    env = os.environ | {"STACKYARD_STATE_DIR": str(tmp_path), "STACKYARD_STARTS_AT_ONCE": "1"}
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", HOLDER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with (
            pytest.raises(NotReadyError, match=rf"starting: pid {child.pid} \("),
            turn(settings(tmp_path), patience=0),
        ):
            pass
        child.send_signal(number)

    with turn(settings(tmp_path), patience=0):
        pass


def test_a_fork_does_not_keep_its_parents_turn(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with turn(settings(tmp_path)):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)

    try:
        with turn(settings(tmp_path), patience=0):
            pass
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)


def test_off_is_no_limit_and_leaves_no_file(tmp_path: Path) -> None:
    with turn(settings(tmp_path, "off")) as first, turn(settings(tmp_path, "off")) as second:
        assert first == second == 0.0
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_such_locks_no_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with turn(settings(tmp_path)), turn(settings(tmp_path), patience=0):
        pass


def test_a_full_disk_costs_the_name_of_the_holder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with (
        turn(settings(tmp_path)),
        pytest.raises(NotReadyError, match="starting: none now"),
        turn(settings(tmp_path), patience=0),
    ):
        pass


def test_a_state_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BookError, match=r"gone/turns.lock: No such file or directory; without this file"):
        turn(settings(tmp_path / "gone")).__enter__()


def test_as_many_as_there_are_processors_start_at_once_unless_the_host_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(6)))
    monkeypatch.setattr(queue, "processors", lambda: processors(()))

    assert places(settings(tmp_path, "auto")) == 6
    assert places(settings(tmp_path, "3")) == 3
    assert places(settings(tmp_path, "off")) is None


@pytest.mark.parametrize(
    ("quota", "usable"),
    [
        ("max 100000\n", 8),
        ("400000 100000\n", 4),
        ("350000 100000\n", 3),
        ("-1 100000\n", 8),
        ("50000 100000\n", queue.FEWEST),
        ("1600000 100000\n", 8),
    ],
)
def test_a_quota_of_processor_time_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, usable: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    one, (first, second) = tmp_path / "cpu.max", (tmp_path / "quota", tmp_path / "period")
    one.write_text(quota)
    for file, number in zip((first, second), quota.split(), strict=True):
        file.write_text(f"{number}\n")

    assert processors((str(one),)) == processors((f"{first} {second}",)) == usable
    assert processors((str(tmp_path / "missing"),)) == 8

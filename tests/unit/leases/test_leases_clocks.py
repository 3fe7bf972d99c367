"""The wall clock may be set at any moment: no wait, deadline or rest gets longer or shorter by it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lease_records import Surroundings

from stackyard._util import clocks
from stackyard.errors import PoolExhaustedError
from stackyard.leases import LeaseBook, owners
from stackyard.settings import Settings

STEPS = st.floats(min_value=-4e8, max_value=4e8, allow_nan=False)
HOUR = 3600.0
PAUSES = st.lists(st.tuples(st.floats(min_value=0.0, max_value=40.0), STEPS), max_size=4)


class Clocks:
    """A wall clock that is set again and again, and the boot-time clock."""

    def __init__(self, steps: list[float] | None = None) -> None:
        self.steady_now = 5000.0
        self.offset = 1_800_000_000.0
        self.steps = iter(steps or [])

    def wall(self) -> float:
        return self.steady_now + self.offset

    def steady(self) -> float:
        return self.steady_now

    def sleep(self, seconds: float) -> None:
        self.steady_now += seconds
        self.step(next(self.steps, 0.0))

    def step(self, seconds: float) -> None:
        self.offset = max(self.offset + seconds, 1e9)


class World:
    """A book of three slots whose clocks a test holds."""

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.root = Path(tempfile.mkdtemp())
        self.settings = Settings.load(
            {
                "STACKYARD_STATE_DIR": str(self.root / "state"),
                "STACKYARD_POOL": "11400-11429",
                "STACKYARD_POOL_SUBNETS": "10.214.96.0/20",
            }
        )

    @property
    def book(self) -> LeaseBook:
        """A new one each time, as from another process."""
        return LeaseBook(self.settings, clock=self.clocks.wall, steady=self.clocks.steady, sleep=self.clocks.sleep)

    def close(self) -> None:
        for lease in self.book.leases():
            self.book.release(lease.id)
        shutil.rmtree(self.root)


@settings(max_examples=20, deadline=None)
@given(st.floats(min_value=0.1, max_value=1.5), st.lists(STEPS, max_size=20))
@example(1.0, [0.0, -HOUR])
@example(1.0, [HOUR])
def test_a_wait_lasts_as_long_as_it_was_asked_to(wait: float, steps: list[float]) -> None:
    clocks = Clocks(steps)
    world = World(clocks)
    for _ in range(3):
        world.book.acquire(Surroundings())
    began = clocks.steady_now

    with pytest.raises(PoolExhaustedError):
        world.book.acquire(Surroundings(), wait=wait)

    assert clocks.steady_now - began == pytest.approx(wait, abs=0.01)
    world.close()


@settings(max_examples=40, deadline=None)
@given(st.floats(min_value=1.0, max_value=120.0), PAUSES)
@example(90.0, [(10.0, HOUR), (10.0, -2 * HOUR)])
def test_a_deadline_comes_when_its_time_is_over_and_not_before(ttl: float, pauses: list[tuple[float, float]]) -> None:
    clocks = Clocks()
    world = World(clocks)
    lease = world.book.acquire(Surroundings(), ttl=ttl)
    end = clocks.steady_now + ttl

    for pause, step in pauses:
        clocks.sleep(pause)
        clocks.step(step)
        left = end - clocks.steady_now
        if abs(left) > 2:
            found = world.book.find(lease.id)
            assert found.deadline is not None
            assert found.deadline - clocks.wall() == pytest.approx(left, abs=2)
            assert bool(world.book.stale()) == (left < 0)
            assert (world.book.take_over(lease) is None) == (left > 0)
            if left < 0:
                break
    world.close()


@settings(max_examples=20, deadline=None)
@given(PAUSES)
@example([(0.0, HOUR)])
@example([(59.0, -HOUR), (2.0, 0.0)])
def test_a_slot_rests_as_long_as_it_was_asked_to(pauses: list[tuple[float, float]]) -> None:
    clocks = Clocks()
    world = World(clocks)
    lease = world.book.acquire(Surroundings())
    world.book.quarantine(lease.id, 60.0)
    world.book.release(lease)
    end = clocks.steady_now + 60.0

    for pause, step in pauses:
        clocks.sleep(pause)
        clocks.step(step)
        assert world.book.capacity(Surroundings()).slots == (3 if clocks.steady_now >= end else 2)
    world.close()


def test_who_waits_keeps_the_place_when_the_clock_is_set() -> None:
    clocks = Clocks()
    world = World(clocks)
    row = ("pool", replace(owners.Owner.current(), namespace=1).label(), clocks.steady_now)
    world.book.transact(lambda db: db.execute("INSERT INTO queue (wanted, owner, seen) VALUES (?,?,?)", row))
    for step, pause in itertools.product((HOUR, -2 * HOUR), (0.0, 10.0)):
        clocks.step(step)
        clocks.sleep(pause)
        assert world.book.acquire(Surroundings(), parallel_id="second").slot == 1
        world.book.release("second")
        world.book.transact(lambda db: db.execute("UPDATE slots SET idle=0 WHERE idle IS NOT NULL"))
    clocks.sleep(31.0)
    assert world.book.acquire(Surroundings(), parallel_id="second").slot == 0
    world.close()


def test_a_deadline_that_an_older_stackyard_renewed_counts_as_it_wrote_it() -> None:
    clocks = Clocks()
    world = World(clocks)
    lease = world.book.acquire(Surroundings(), ttl=60)
    later = clocks.wall() + HOUR
    world.book.transact(lambda db: db.execute("UPDATE leases SET deadline=?", (later,)))

    assert world.book.find(lease.id).deadline == later
    clocks.sleep(100)
    assert world.book.stale() == []
    world.close()


def test_after_a_boot_only_the_wall_clock_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    world = World(clocks)
    dev = Surroundings(name="dev", data="volume", subnet="10.214.255.0/28")
    lease = world.book.acquire(dev, ttl=HOUR)
    world.book.quarantine(world.book.acquire(Surroundings()).id, HOUR)
    monkeypatch.setattr(owners, "boot_id", lambda: "another")
    clocks.steady_now, clocks.offset = 10.0, clocks.offset + clocks.steady_now

    assert world.book.find(lease.id).deadline == lease.deadline
    assert lease.id not in {found.id for found in world.book.stale()}
    assert world.book.transact(lambda db: db.execute("SELECT max(rests_until) FROM slots").fetchone()) == (0.0,)
    world.close()


def test_the_boot_time_clock_is_the_kernel_s_and_belongs_to_the_real_wall_clock() -> None:
    import time

    assert clocks.steady_for(time.time) is clocks.boottime
    assert abs(clocks.boottime() - float(Path("/proc/uptime").read_text().split()[0])) < 5

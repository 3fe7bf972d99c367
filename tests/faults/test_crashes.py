"""Runs that are killed: whatever the moment, the next command leaves nothing of them and touches nothing else."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, get_args

import pytest
from tests.faults.fault_host import CHECKOUT, CLEAN, FULL, finish, until

from stackyard._util.failpoints import Checkpoint

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.faults.fault_host import Yard

KILLS = 20 if FULL else 5  # random ones in each part
PARTS = 10 if FULL else 1


def kill(child: subprocess.Popen[str]) -> None:
    """Kill the runner alone, as the kernel would; its children are not touched."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=280)


def sweep_s(yard: Yard) -> float:
    """Return the seconds that a sweep may have taken: 15 where a sweep that finds nothing takes one."""
    return 10 + 5 * yard.invoke("cleanup.stale")[2]


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=[pytest.mark.core] if place in {"env_file", "start", "release"} else [])
        for place in ("draft", "env_file", *get_args(Checkpoint))
    ],
)
def test_a_run_killed_at_a_checkpoint_leaves_nothing_after_the_next_command(yard: Yard, place: str) -> None:
    code, out = finish(yard.flow(crash=place))

    swept, said, seconds = yard.invoke("cleanup.stale")

    assert code == -signal.SIGKILL, out
    assert swept == 0, said
    assert yard.remains() == CLEAN
    assert seconds < sweep_s(yard)


@pytest.mark.parametrize("kind", ["network", pytest.param("container", marks=pytest.mark.core)])
def test_a_run_killed_while_compose_creates_leaves_nothing_late(yard: Yard, kind: str) -> None:
    child = yard.flow()
    until(lambda: any(item.startswith(kind) for item in yard.standing()), pause=0.002)
    kill(child)

    swept, said, seconds = yard.invoke("cleanup.stale")
    after = yard.remains()
    time.sleep(30 if FULL else 3)  # what a forgotten `docker compose up` would still create needs time to appear

    assert swept == 0, said
    assert after == CLEAN
    assert yard.remains() == CLEAN
    assert seconds < sweep_s(yard)


def test_the_next_run_removes_what_a_dead_one_left(yard: Yard) -> None:
    first = finish(yard.flow(crash="probe"))[0]

    code, out = finish(yard.flow())

    assert first == -signal.SIGKILL
    assert code == 0, out
    assert "things that dead runs had left" in out
    assert yard.remains() == CLEAN


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
def test_runs_killed_at_random_moments_leave_nothing(
    yard: Yard, part: int, record_testsuite_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - chooses moments, guards nothing
    moments = random.Random(seed)  # noqa: S311 - as above
    began = time.monotonic()
    code, out = finish(yard.flow())
    whole = time.monotonic() - began
    assert code == 0, out
    slowest, ended = 0.0, 0
    for number in range(KILLS):
        child = yard.flow()
        delay = moments.uniform(0.1, whole)
        time.sleep(delay)
        ended += child.poll() is not None
        kill(child)
        code, said, seconds = yard.invoke("cleanup.stale")
        slowest = max(slowest, seconds)
        where = f"seed {seed}, kill {number} after {delay:.3f} s"

        assert code == 0, f"{where}: {said}"
        assert yard.remains() == CLEAN, where
        assert seconds < sweep_s(yard), where
    for name, value in {"killed": KILLS - ended, "run_s": whole, "slowest_sweep_s": slowest}.items():
        record_testsuite_property(f"part {part} {name}", value)


def test_what_a_killed_env_up_left_is_removed_by_the_next_command(yard: Yard) -> None:
    words = [sys.executable, "-m", "invoke", "-r", str(CHECKOUT), "env.up", "--name", "half"]
    child = yard.start(words)
    until(lambda: any(item.startswith("container") for item in yard.standing()), pause=0.002)
    kill(child)

    code, said, _ = yard.invoke("cleanup.stale")

    assert code == 0, said
    assert yard.remains() == CLEAN


def test_what_env_up_has_finished_outlives_it_and_a_sweep(yard: Yard) -> None:
    up, out, _ = yard.invoke("env.up", "--name", "whole")

    swept, said, _ = yard.invoke("cleanup.stale")
    standing = len(yard.standing())
    code, ended, _ = yard.invoke("env.down", "--name", "whole")

    assert (up, swept, code) == (0, 0, 0), out + said + ended
    assert standing == 5
    assert yard.remains() == CLEAN

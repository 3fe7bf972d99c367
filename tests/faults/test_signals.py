"""Runs that get a signal to end: each signal, once or again and again, and a reader of the output that goes away."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.fault_host import CHECKOUT, CLEAN, finish, until

from stackyard.leases.stack_lock import alone

if TYPE_CHECKING:
    import subprocess

    from tests.faults.fault_host import Yard

SLOW = "open('started', 'w').close(); time.sleep(600)"


def start_slow(yard: Yard, command: list[str] | None = None) -> subprocess.Popen[str]:
    """Start a run whose payload sleeps, and return once it does."""
    mark = yard.root / "started"
    mark.unlink(missing_ok=True)
    yard.suite(SLOW)
    child = yard.start(command) if command else yard.flow()
    until(lambda: mark.exists() or child.poll() is not None)
    assert child.poll() is None, finish(child)
    return child


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, -signal.SIGINT, id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
        pytest.param(signal.SIGHUP, 143, id="SIGHUP"),
    ],
)
def test_a_run_asked_to_end_cleans_up_first(yard: Yard, number: signal.Signals, code: int) -> None:
    child = start_slow(yard)

    os.kill(child.pid, number)
    ended, out = finish(child)

    assert ended == code, out
    assert yard.remains() == CLEAN
    assert yard.report()["outcome"] == "interrupted"


@pytest.mark.core
def test_ctrl_c_through_nox_cleans_up_and_exits_with_130(yard: Yard) -> None:
    child = start_slow(yard, [sys.executable, "-m", "nox", "-f", str(CHECKOUT / "noxfile.py"), "-s", "test"])

    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
    ended, out = finish(child)

    assert ended == 130, out
    assert yard.remains() == CLEAN


def test_a_second_ctrl_c_is_noted_and_a_third_hands_over(yard: Yard) -> None:
    child = start_slow(yard)
    assert child.stdout
    lease = yard.lease_of(child)
    with alone(lease):  # so that the clean-up has to wait, and there is time for more signals
        os.kill(child.pid, signal.SIGINT)
        until(lambda: str(lease.directory) in opened(child.pid))
        os.kill(child.pid, signal.SIGINT)
        said = next(line for line in child.stdout if line.startswith("cleaning up"))
        os.kill(child.pid, signal.SIGINT)
        ended, _ = finish(child)

    swept, out, _ = yard.invoke("cleanup.stale")

    assert ended == -signal.SIGINT
    assert "once more to leave it to 'invoke cleanup.stale'" in said
    assert swept == 0, out
    assert yard.remains() == CLEAN


def opened(pid: int) -> set[str]:
    """List what a process has open."""
    return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}


def test_a_run_whose_reader_goes_away_ends_and_cleans_up(yard: Yard) -> None:
    child = yard.flow()
    assert child.stdout
    child.stdout.readline()
    child.stdout.close()

    child.wait(timeout=280)

    assert child.returncode >= 0
    assert yard.remains() == CLEAN


def test_a_run_asked_to_end_while_it_starts_cleans_up(yard: Yard) -> None:
    child = yard.flow()
    until(yard.standing)

    os.kill(child.pid, signal.SIGTERM)
    ended, out = finish(child)

    assert ended == 143, out
    assert "Traceback" not in out
    assert yard.remains() == CLEAN

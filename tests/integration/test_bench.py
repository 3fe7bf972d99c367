from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from stackyard.bench import commands, comparison, containers, parallel, requirements, startup, suites
from stackyard.bench.harness import Arena
from stackyard.bench.history import History
from stackyard.bench.methods import DropIn, Own, Plain, Rival, Round
from stackyard.bench.options import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard.bench.records import Findings, Run
    from stackyard.stacks.environments.stack import Stack

ROUNDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Delayed(Own):
    """stackyard with a start that is slower by a share of itself: what a bad commit would do."""

    share: float

    def take(self, stack: Stack) -> Round:
        taken = Own().take(stack)
        time.sleep(self.share * taken.up)
        return replace(taken, up=taken.up * (1 + self.share))


@pytest.fixture(scope="module")
def runs() -> tuple[Run, Run, Run]:
    """Measure two honest runs and a slow one in turn, so that all three meet the same machine."""
    plan = Plan(rounds=ROUNDS)
    ways = [
        replace(Own(), name="first"),
        replace(Own(), name="second"),
        Delayed(share=0.6, name="slow"),
    ]
    found = startup.measure(plan, ways)
    first, second, slow = (run_of(found, way.name, commit) for way, commit in zip(ways, ("1", "1", "2"), strict=True))
    return first, second, slow


def run_of(found: Findings, name: str, commit: str) -> Run:
    results = tuple(replace(r, row="stackyard") for r in found.results if r.row == name and r.suite == "startup")
    return replace(suites.run((), Plan()), id=f"{name:0<12}", commit=40 * commit, suites=("startup",), results=results)


@pytest.mark.skipif(os.environ.get("STACKYARD_FULL") != "1", reason="compares real times; STACKYARD_FULL=1 runs it")
def test_the_gate_passes_an_equal_run_and_refuses_a_slower_one(runs: tuple[Run, Run, Run], tmp_path: Path) -> None:
    history = History(file=tmp_path / "history.jsonl")
    for run in runs:
        history.append(run)

    equal = comparison.guard(*comparison.opponents(history, "first", "second"))
    slower = comparison.guard(*comparison.opponents(history, "first", "slow"))

    assert not [found for found in equal if found.worse(0.25)]
    assert [(found.suite, found.row) for found in slower if found.worse(0.15)] == [("startup", "stackyard")]


def test_plain_compose_starts_and_removes_the_same_stack() -> None:
    with Arena.open("test", print) as arena, arena.stack() as stack:
        taken = Plain().take(stack)

        assert 0 < taken.up < 60
        assert arena.engine.everything(stack.labels) == []


def test_each_service_starts_in_a_testcontainers_container_and_leaves_nothing() -> None:
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    with Arena.open("test", print) as arena, arena.stack() as stack:
        containers.alone(stack, taken)

        assert arena.engine.everything(stack.labels) == []
    rows = {"alone-start", "alone-removal", "alone-memory", "alone-cpu"}
    assert {name for name, row in taken if row in rows} == {"postgres", "redis", "auth", "backend"}
    assert all(len(taken[name, row]) == 1 and taken[name, row][0] > 0 for name, _ in taken for row in rows)


def test_testcontainers_starts_and_removes_the_same_project() -> None:
    with Arena.open("test", print) as arena, arena.stack() as stack:
        taken = Rival(name="testcontainers-compose", subject="testcontainers").take(stack)

        assert taken.memory is not None
        assert 20 << 20 < taken.memory < 200 << 20
        assert arena.engine.everything(stack.labels) == []


def test_the_drop_in_starts_and_removes_a_copy_of_the_same_project() -> None:
    with Arena.open("test", print) as arena, arena.stack() as stack:
        leases = len(arena.book.leases())
        taken = DropIn().take(stack)

        assert taken.memory is not None
        assert 20 << 20 < taken.memory < 200 << 20
        assert len(arena.book.leases()) == leases


def test_whole_commands_are_timed_on_both_sides_and_leave_nothing() -> None:
    with Arena.open("test", print) as arena:
        leases = len(arena.book.leases())
        taken = {row: seconds for _, way in commands.WAYS[:3] for row, seconds in way(arena).items()}

        assert set(taken) == {"env-up", "env-down", "up", "down", "compose-up", "compose-down"}
        assert all(seconds > 0 for seconds in taken.values())
        assert len(arena.book.leases()) == leases


def test_stacks_at_once_keep_every_promise_and_leave_nothing() -> None:
    found = parallel.measure(Plan(parallel=3), [])

    rows = {row.row: row for row in found.results}
    assert (rows["start-3"].n, rows["removal-3"].n, rows["memory-3"].n) == (3, 3, 3)
    assert [rows[f"{row}-3"].figure for row in ("failed", "clashes", "left")] == [0, 0, 0]
    assert found.notes == ()
    kept = {row.row: row.verdict for row in requirements.measure(Plan(), found).results if row.samples}
    assert {kept[row] for row in ("memory", "ports", "parallel", "left", "limits")} == {"PASS"}
    assert {"start-up", "clean-up"} <= kept.keys()  # whether in time is for the benchmark to say, on a machine at rest

"""
Suite commands: whole commands, from start to exit, compared with what a person types without stackyard.

Python's own start, imports and output are part of each time. All start the same four services, one after another, in
an order that changes with each round. The first round warms up and does not count.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import process
from stackyard.bench.harness import Arena
from stackyard.bench.methods import COMMAND_TIMEOUT_S, as_written, prove_gone
from stackyard.bench.outcomes import STAY, new_name, one_line, result_of, share, start_and_remove, turned
from stackyard.bench.records import Findings
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.bench.options import Depth, Plan
    from stackyard.bench.outcomes import Outcome
    from stackyard.bench.records import Result
    from stackyard.stacks.environments.stack import Stack

    Seconds = dict[str, float]  # by row

ROUNDS: Final[dict[Depth, int]] = {"quick": 2, "default": 5, "full": 10}
SESSIONS: Final = {"test": "test", "alpine-test": "alpine_test"}  # environments whose tests a session runs
TEST: Final = "test_a_wrong_method_is_answered_with_a_right_one"  # one quick test of tests/platform
START, REMOVAL, TESTED = "start, the whole command", "removal, the whole command", "start, one test, removal"
# row: whose figure it is, and of what
ROWS: Final = {
    "env-up": ("invoke env.up", START),
    "up": ("stackyard up", START),
    "compose-up": ("docker compose up --wait", START),
    "env-down": ("invoke env.down", REMOVAL),
    "down": ("stackyard down", REMOVAL),
    "compose-down": ("docker compose down -v", REMOVAL),
    "session": ("./noxw -s test", TESTED),
    "by-hand": ("docker compose up --wait, pytest, down -v", TESTED),
}
PAIRS: Final = (
    ("env-up", "compose-up"), ("up", "compose-up"), ("env-down", "compose-down"), ("down", "compose-down"),
    ("session", "by-hand"),
)  # fmt: skip


def measure(plan: Plan) -> Findings:
    """
    Time commands of stackyard and those that do the same without it.

    Raises:
        StackyardError: If there is no engine, no image or no place; a command that fails is counted as failed.
    """
    rounds = plan.rounds or ROUNDS[plan.depth]
    taken: dict[str, list[Outcome]] = defaultdict(list)
    with Arena.open(plan.environment, plan.say) as arena:
        ways = WAYS if plan.environment in SESSIONS else WAYS[:3]
        for number in range(rounds + 1):
            for rows, way in turned(ways, number):
                for row, outcome in _attempt(arena, way, rows).items():
                    plan.say(f"round {number} of {rounds}: {ROWS[row][0]}: {one_line(outcome)}")
                    if number:
                        taken[row].append(outcome)
    results = [_result(row, taken[row], plan) for row in ROWS if row in taken]
    return Findings(results=(*results, *_ratios(results)))


def _attempt(arena: Arena, way: Callable[[Arena], Seconds], rows: Sequence[str]) -> dict[str, Outcome]:
    try:
        return {**way(arena)}
    except StackyardError as error:
        return dict.fromkeys(rows, error)


def with_invoke(arena: Arena) -> Seconds:
    """Start and remove a stack by the tasks of this project."""
    name, invoke = new_name(), [sys.executable, "-m", "invoke"]
    up = [*invoke, "env.up", "--environment", arena.environment.name, "--name", name, "--ttl", STAY]
    root = arena.environment.root
    started, removed = _both(up, [*invoke, "env.down", "--name", name], cwd=root)
    return {"env-up": started, "env-down": removed}


def with_console(arena: Arena) -> Seconds:
    """Start and remove a copy of the same services as of anybody's project: a folder with a Compose file."""
    name, program = new_name(), [sys.executable, "-m", "stackyard"]
    with arena.stack() as stack, _folder(stack) as folder:
        up = [*program, "up", "--name", name, "--ttl", STAY]
        started, removed = _both(up, [*program, "down", "--name", name], cwd=folder)
    return {"up": started, "down": removed}


def with_compose(arena: Arena) -> Seconds:
    """Start and remove the same folder by plain Compose."""
    with arena.stack() as stack, _folder(stack) as folder:
        compose = ["docker", "compose"]
        started, removed = _both([*compose, "up", "--wait"], [*compose, "down", "--volumes"], cwd=folder)
        prove_gone(stack)
    return {"compose-up": started, "compose-down": removed}


def with_session(arena: Arena) -> Seconds:
    """Run one test by this project's session; the reports of earlier runs stay."""
    environment = arena.environment
    words = [str(environment.root / "noxw"), "-s", SESSIONS[environment.name], "--", "-q", "-k", TEST]
    with _kept(environment.root / "reports", environment.name):
        return {"session": process.run(words, deadline=COMMAND_TIMEOUT_S, cwd=environment.root).seconds}


def by_hand(arena: Arena) -> Seconds:
    """Run the same test between `docker compose up --wait` and `down`."""
    root = arena.environment.root
    pytest = [sys.executable, "-m", "pytest", "tests/platform", "-q", "-k", TEST]
    with arena.stack() as stack, _folder(stack) as folder:
        given = {key: value for key, value in stack.lease.variables().items() if key.startswith("STACKYARD_")}
        began = time.perf_counter()
        process.run(["docker", "compose", "up", "--wait"], deadline=COMMAND_TIMEOUT_S, cwd=folder)
        process.run(pytest, deadline=COMMAND_TIMEOUT_S, env=given, cwd=root)
        process.run(["docker", "compose", "down", "--volumes"], deadline=COMMAND_TIMEOUT_S, cwd=folder)
        took = time.perf_counter() - began
        prove_gone(stack)
    return {"by-hand": took}


# the rows of each way, and the way
WAYS: Final[tuple[tuple[tuple[str, ...], Callable[[Arena], Seconds]], ...]] = (
    (("env-up", "env-down"), with_invoke),
    (("up", "down"), with_console),
    (("compose-up", "compose-down"), with_compose),
    (("session",), with_session),
    (("by-hand",), by_hand),
)


def _both(up: Sequence[str], down: Sequence[str], *, cwd: Path) -> tuple[float, float]:
    """Time the command that starts and the one that removes."""
    started, removed = start_and_remove(up, down, cwd, COMMAND_TIMEOUT_S)
    return started.seconds, removed.seconds


@contextlib.contextmanager
def _folder(stack: Stack) -> Iterator[Path]:
    """Yield a folder with a Compose file that needs no variables: a project of its own, on the lease's ports."""
    words = stack.compose.command("config", "--format", "json")
    model: dict[str, Any] = json.loads(process.run(words, deadline=COMMAND_TIMEOUT_S, env=as_written(stack)).stdout)
    for service in model["services"].values():
        service.pop("profiles", None)  # a rendered model has the enabled services alone
    with tempfile.TemporaryDirectory(prefix="stackyard-bench-") as made:
        Path(made, "compose.yaml").write_text(json.dumps(model), encoding="utf-8")
        yield Path(made)


@contextlib.contextmanager
def _kept(folder: Path, environment: str) -> Iterator[None]:
    """Leave the reports of an environment's last run as they were."""

    def found() -> set[Path]:
        return {*folder.glob(f"{environment}*.json"), *folder.glob(f"junit-{environment}*.xml")}

    with tempfile.TemporaryDirectory() as aside:
        before = {path: shutil.copy2(path, aside) for path in found()}
        try:
            yield
        finally:
            for path in found() - set(before):
                path.unlink()
            for path, copy in before.items():
                shutil.copy2(copy, path)


def _result(row: str, outcomes: Sequence[Outcome], plan: Plan) -> Result:
    subject, what = ROWS[row]
    return result_of(outcomes, plan, suite="commands", row=row, subject=subject, what=what, unit="s")


def _ratios(results: Sequence[Result]) -> Iterator[Result]:
    """Compare each command of stackyard with its counterpart."""
    found = {result.row: result for result in results}
    for own, other in PAIRS:
        yield from share(found.get(own), found.get(other), row=f"ratio-{own}")

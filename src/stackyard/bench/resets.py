"""How long a reset takes, and a database for one test, on a stack of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from stackyard.bench.harness import Arena

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.stacks.environments.stack import Stack

WARM_UP: Final = 3  # rounds that load the client libraries and the server's caches, and do not count


def measure(n: int, *, name: str = "test") -> dict[str, list[float]]:
    """
    Reset a stack *n* times, then make and drop *n* databases, each between two others' and alone at it.

    The samples, in seconds, are called `reset`, `database` and `database_dropped`.

    Raises:
        StackyardError: If the stack cannot be started, or any of it fails.
    """
    with Arena.open(name, lambda _line: None) as arena, arena.stack() as stack:
        stack.up()
        rounds = n + WARM_UP
        resets = [_timed(stack.reset) for _ in range(rounds)]
        databases = [_database(stack) for _ in range(rounds)]
    made, dropped = zip(*databases[WARM_UP:], strict=True)
    return {"reset": resets[WARM_UP:], "database": list(made), "database_dropped": list(dropped)}


def _database(stack: Stack) -> tuple[float, float]:
    began = time.perf_counter()
    database = stack.database()
    made = time.perf_counter()
    database.drop()
    return made - began, time.perf_counter() - made


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

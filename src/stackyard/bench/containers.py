"""Each service in a testcontainers container of its own: how soon it is ready, what it uses, how soon it is gone."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from stackyard.bench import peers
from stackyard.bench.methods import description
from stackyard.bench.outcomes import one_error
from stackyard.docker.usage import sight

if TYPE_CHECKING:
    from stackyard.stacks.environments.stack import Stack


def alone(stack: Stack, taken: dict[tuple[str, str], list[float]]) -> None:
    """
    Start the services one after another, as testcontainers does, look at each when it is ready, and remove them.

    *stack* gives ports, subnet and credentials, and must not stand; *taken* gets the figures, by service and row.

    Raises:
        StackyardError: If a service does not get ready or cannot be removed; what stands then is the caller's.
    """
    peers.load("testcontainers")
    given = description(stack)
    with one_error("testcontainers"), contextlib.ExitStack() as undo:
        joined = undo.enter_context(peers.network(given))
        for name in given["services"]:
            made = peers.container(name, given, joined)
            undo.callback(_remove, name, made, taken)
            began = time.perf_counter()
            made.start()
            taken[name, "alone-start"].append(time.perf_counter() - began)
            _look(stack, name, made, taken)


def _remove(name: str, made: Any, taken: dict[tuple[str, str], list[float]]) -> None:
    """Remove one container; the time of one that did not get ready does not count."""
    began = time.perf_counter()
    made.stop()
    if len(taken[name, "alone-start"]) > len(taken[name, "alone-removal"]):
        taken[name, "alone-removal"].append(time.perf_counter() - began)


def _look(stack: Stack, name: str, made: Any, taken: dict[tuple[str, str], list[float]]) -> None:
    seen = sight(stack.engine, made.get_container_id())
    if seen is None or seen.usage is None:
        return
    figures = {"memory": seen.usage.memory, "peak": seen.usage.memory_peak, "cpu": seen.usage.cpu_s}
    for row, value in figures.items():
        if value is not None:
            taken[name, f"alone-{row}"].append(value)

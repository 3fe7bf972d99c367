"""When a copy is ready: each health check has passed, each one-shot has ended with 0, everything else runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.records import SERVICE_LABEL
from stackyard.errors import NotReadyError
from stackyard.project import copies_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackyard.docker import ContainerState, Engine
    from stackyard.docker.ownership import Holdings

POLL: Final = 0.05  # seconds between two looks


def wait_ready(
    engine: Engine,
    holdings: Holdings,
    model: Mapping[str, Any],
    *,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """
    Return when every container of the copy is ready.

    Args:
        engine: Where they are.
        holdings: What is ours under the copy's lease.
        model: The copy's model.
        deadline: Seconds to wait.
        clock: Monotonic seconds.
        sleep: Waits between two looks.

    Raises:
        NotReadyError: If one failed, or was not ready in time; the text names it.
        EngineError: If the engine does not answer.
    """
    end = clock() + deadline
    done: set[str] = set()
    while True:
        found = holdings.containers(engine)
        states = [engine.state(item.id) for item in found if item.id not in done]
        for state in states:
            if why := trouble_in(state):
                raise NotReadyError(why)
        done |= {state.id for state in states if _is_ready(state)}
        waiting = sorted({state.service for state in states if not _is_ready(state)} | _missing(model, found))
        if not waiting:
            return
        if clock() >= end:
            raise NotReadyError(f"not ready after {deadline:.0f} s: {', '.join(waiting)}")
        sleep(POLL)


def _missing(model: Mapping[str, Any], found: list[Any]) -> set[str]:
    """Return the services that have fewer containers than they should."""
    there: dict[str, int] = {}
    for item in found:
        service = item.labels.get(SERVICE_LABEL, "")
        there[service] = there.get(service, 0) + 1
    return {name for name, service in model["services"].items() if there.get(name, 0) < copies_of(service)}


def _is_ready(state: ContainerState) -> bool:
    return state.finished or (state.status == "running" and state.health in {"healthy", "none"})


def trouble_in(state: ContainerState) -> str:
    """Say what is wrong with a container that will not come up by itself; empty if nothing is."""
    if state.ended and not state.finished:
        reason = "killed at its memory limit" if state.oom_killed else f"exit code {state.exit_code}"
        return f"service {state.service} ended ({reason}{f', {state.error}' if state.error else ''})"
    if state.status == "running" and state.health == "unhealthy":
        return f"service {state.service} is unhealthy"
    if state.status == "created" and state.error:
        return f"service {state.service} cannot start: {state.error}"
    return ""

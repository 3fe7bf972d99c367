"""An orderly end: containers end on a signal, those that no other one needs first, before anything is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard._util.durations import said
from stackyard.docker.engine import each
from stackyard.docker.records import DEPENDS_LABEL, SERVICE_LABEL
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from stackyard.docker import Engine, Resource

KILLED: Final = 137  # exit code of a process that was killed


def stop(engine: Engine, containers: Sequence[Resource], progress: Callable[[str], None] = lambda _line: None) -> None:
    """
    Ask containers to end, first those that no other one needs; each gets its own grace period.

    Args:
        engine: Where they are.
        containers: All containers of a stack.
        progress: Called with a line about what is waited for and how long at most, and with one for each container
            that is killed.
    """
    rounds = [*_rounds(containers)]
    grace = {item.id: _grace(engine, item) for item in containers}
    if most := sum(max(grace[item.id] for item in found) for found in rounds):
        progress(waits(dict.fromkeys(_name(item) for found in rounds for item in found if grace[item.id]), most))
    for found in rounds:
        each(lambda item: engine.stop(item.id), found)
        for item in found:
            if grace[item.id] and _was_killed(engine, item):
                progress(f"{_name(item)} did not end within {said(grace[item.id])} and was killed")


def waits(services: Collection[str], most: float) -> str:
    """Say what an orderly end waits for, and how many seconds at most."""
    return f"waiting until {', '.join(services)} {'have' if len(services) > 1 else 'has'} ended, at most {said(most)}"


def _rounds(containers: Sequence[Resource]) -> Iterator[Sequence[Resource]]:
    left = list(containers)
    while left:
        needed = {name for item in left for name in _needs(item)}
        free = [item for item in left if item.labels.get(SERVICE_LABEL) not in needed] or left
        yield free
        left = [item for item in left if item not in free]


def _needs(item: Resource) -> set[str]:
    """Return the services that a container depends on, as Compose labels it: ``db:service_healthy:true,…``."""
    listed = item.labels.get(DEPENDS_LABEL, "").split(",")
    return {entry.partition(":")[0] for entry in listed if entry} - {item.labels.get(SERVICE_LABEL, "")}


def _name(item: Resource) -> str:
    return item.labels.get(SERVICE_LABEL, item.name)


def _grace(engine: Engine, item: Resource) -> int:
    try:
        return engine.grace(item.id)
    except EngineError:  # removed in the meantime
        return 0


def _was_killed(engine: Engine, item: Resource) -> bool:
    try:
        return engine.state(item.id).exit_code == KILLED
    except EngineError:
        return False

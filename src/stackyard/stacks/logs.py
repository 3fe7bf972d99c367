"""The logs of a stack's services: the last lines in order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackyard.docker.logs import split
from stackyard.docker.records import SERVICE_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.docker import Resource
    from stackyard.stacks.environments.stack import Stack


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """
    One line.

    Attributes:
        at: When it was written, as the engine stamps it: RFC 3339 in UTC, which sorts as text.
        service: Who wrote it.
        text: The line.
        source: The id of its container, or on a Swarm of its task; each has a clock and an order of its own.
    """

    at: str
    service: str
    text: str
    source: str = ""


def read(stack: Stack, services: Sequence[str], *, tail: int, since: int = 0) -> list[Line]:
    """
    Return the last *tail* lines of each of *services*, of all without one, oldest first.

    Args:
        stack: Their stack.
        services: Which of its services.
        tail: How many lines of each.
        since: Whole seconds of Unix time; only lines written from then on count. 0 means all.

    Raises:
        UsageError: If the stack has no such service.
        EngineError: If the engine does not answer.
    """
    found = [(service_of(item), item) for item in stack.containers()]
    for service in services:
        if service not in dict(found):
            stack.container(service)  # says which services there are
    lines = [
        Line(at, service, text, container.id)
        for service, container in found
        if not services or service in services
        for at, _, text in (
            line.partition(" ")
            for line in split(stack.engine.logs(container.id, tail=tail, since=since, timestamps=True))
        )
    ]  # fmt: skip
    return sorted(lines, key=lambda line: line.at)


def service_of(container: Resource) -> str:
    """Return the name of a container's service; its own name if it has none."""
    return container.labels.get(SERVICE_LABEL, container.name)


def text(lines: Sequence[Line], *, prefix: bool, timestamps: bool, width: int = 0) -> str:
    """
    Return *lines* for a terminal.

    Args:
        lines: What to show.
        prefix: Begin each line with its service's name.
        timestamps: Begin each line, or what follows the name, with its time.
        width: Columns of the names at least.
    """
    width = max([width, *(len(line.service) for line in lines)])
    return "".join(
        (f"{line.service:<{width}} | " if prefix else "") + (f"{line.at} " if timestamps else "") + f"{line.text}\n"
        for line in lines
    )


def by_service(lines: Sequence[Line], *, timestamps: bool) -> list[dict[str, object]]:
    """Return *lines* as JSON values: for each service its lines."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line.service, []).append(f"{line.at} {line.text}" if timestamps else line.text)
    return [{"service": service, "lines": written} for service, written in sorted(found.items())]

"""What the services of a stack wrote: the last lines in order of time, or new ones as they come."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackyard import process
from stackyard.engine.records import SERVICE_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.stacks import Stack


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """
    One line.

    Attributes:
        at: When it was written, as the engine stamps it: RFC 3339 in UTC, which sorts as text.
        service: Who wrote it.
        text: The line.
    """

    at: str
    service: str
    text: str


def read(stack: Stack, services: Sequence[str], *, tail: int) -> list[Line]:
    """
    Return the last *tail* lines of each of *services*, of all without one, oldest first.

    Raises:
        UsageError: If the stack has no such service.
        EngineError: If the engine does not answer.
    """
    if services:
        found = {service: stack.container(service) for service in services}
    else:
        found = {item.labels.get(SERVICE_LABEL, item.name): item for item in stack.engine.containers(stack.labels)}
    lines = [
        Line(at, service, text)
        for service, container in found.items()
        for at, _, text in (
            line.partition(" ")
            for line in stack.engine.logs(container.id, tail=tail, timestamps=True).splitlines()
        )
    ]  # fmt: skip
    return sorted(lines, key=lambda line: line.at)


def text(lines: Sequence[Line], *, prefix: bool, timestamps: bool) -> str:
    """Return *lines* for a terminal, each with its service's name before it if *prefix*."""
    width = max((len(line.service) for line in lines), default=0)
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


def follow(stack: Stack, services: Sequence[str], *, tail: int, timestamps: bool) -> int:
    """
    Let Compose show new lines on this terminal until Ctrl-C; it goes on when a container is restarted.

    Raises:
        UsageError: If the stack has no such service.
    """
    for service in services:
        stack.container(service)
    words = ["--follow", "--tail", str(tail)]
    words += ["--timestamps"] if timestamps else []
    words += ["--no-log-prefix"] if len(services) == 1 else []
    words += [] if sys.stdout.isatty() else ["--no-color"]
    return process.passthrough(stack.compose.command("logs", *words, *services), inherit=False)

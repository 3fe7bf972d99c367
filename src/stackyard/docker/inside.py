"""Running a short command inside a container, through the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard.docker.answers import Part
from stackyard.docker.engine import plain_errors
from stackyard.docker.time_limit import allowing

if TYPE_CHECKING:
    from stackyard.docker.engine import Engine

DEADLINE: Final = 20.0  # seconds a command may take


def output(engine: Engine, container: str, *words: str, deadline: float = DEADLINE) -> tuple[int, str]:
    """
    Run a short command in a running container as the container's own user.

    Args:
        engine: Where the container is.
        container: Id or name.
        words: Program and arguments.
        deadline: Seconds until it is given up; it may go on inside the container.

    Returns:
        Its exit code, and what it wrote to both streams.

    Raises:
        EngineError: If the engine does not answer, the container does not run, or the command takes too long.
    """
    with plain_errors(f"looking into container {container[:40]}"):
        made = Part(engine.api.exec_create(container, list(words))).text("Id")
        with allowing(alone=deadline):
            raw = engine.api.exec_start(made)
        code = Part(engine.api.exec_inspect(made)).whole("ExitCode")
    return code, bytes(raw).decode(errors="replace")

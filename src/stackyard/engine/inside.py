"""Reading inside a running container, through a command of its own image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackyard.engine.client import plain_errors

if TYPE_CHECKING:
    from stackyard.engine.client import Engine


def output(engine: Engine, container: str, *words: str) -> tuple[int, str]:
    """
    Run a short command in a running container as the container's own user.

    Returns:
        Its exit code, and what it wrote to both streams.

    Raises:
        EngineError: If the engine does not answer or the container does not run.
    """
    with plain_errors(f"looking into container {container[:40]}"):
        made = engine.api.exec_create(container, list(words))
        raw = engine.api.exec_start(made["Id"])
        code = engine.api.exec_inspect(made["Id"])["ExitCode"]
    return int(code), bytes(raw).decode(errors="replace")

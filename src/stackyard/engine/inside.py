"""Running a short command inside a container, through the engine."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from stackyard.engine.answers import Part
from stackyard.engine.client import API_VERSION, plain_errors
from stackyard.engine.patience import allowing

if TYPE_CHECKING:
    from stackyard.engine.client import Engine

DEADLINE: Final = 20.0  # seconds a command may take
HEADER: Final = struct.Struct(">BxxxL")  # of a frame: which stream, and how many bytes follow


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
    with plain_errors(f"running {words[0]} in container {container[:40]}"):
        api: Any = engine.api
        made = Part(api.exec_create(container, list(words))).text("Id")
        with allowing(alone=deadline):
            # the library's own exec_start waits for a silent command for ever
            answer = api.post(f"{api.base_url}/v{API_VERSION}/exec/{made}/start", json={"Detach": False, "Tty": False})
        code = Part(api.exec_inspect(made)).whole("ExitCode")
    return code, frames(answer.content).decode(errors="replace")


def frames(content: bytes) -> bytes:
    """Return what the frames of an answer carry, of both streams, in their order."""
    found, start = b"", 0
    while len(content) - start >= HEADER.size:
        _, length = HEADER.unpack_from(content, start)
        start += HEADER.size
        found += content[start : start + length]
        start += length
    return found

"""Running a short command inside a container, through the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.engine import plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.streams import Stream
from stackyard.docker.time_limit import allowing

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    with plain_errors(f"looking into container {container[:80]}"):
        made = Part(engine.api.exec_create(container, list(words))).text("Id")
        with allowing(alone=deadline):
            raw = engine.api.exec_start(made)
        code = Part(engine.api.exec_inspect(made)).whole("ExitCode")
    return code, bytes(raw).decode(errors="replace")


class Command(Stream):
    """
    A command inside a running container that another thread may give up at any moment; it may go on in the container.

    Args:
        engine: Where the container is.
        container: Id or name.
        words: Program and arguments.
    """

    def __init__(self, engine: Engine, container: str, words: Sequence[str]) -> None:
        super().__init__()
        self._engine = engine
        self._container = container
        self._words = [*words]

    def run(self) -> tuple[int, str]:
        """
        Run it to its end as the container's own user; return its exit code, and what it wrote to both streams.

        Raises:
            EngineError: If the engine does not answer, the container does not run, or the command was given up.
        """
        from docker.types.daemon import CancellableStream

        api: Any = self._engine.api
        with plain_errors(f"running a command in container {self._container[:80]}"):
            made = Part(api.exec_create(self._container, self._words)).text("Id")
            with allowing(quiet=True):
                url = f"{api.base_url}/v{api.api_version}/exec/{made}/start"
                answer = api.post(url, json={"Detach": False, "Tty": False}, stream=True)
            # the library has no public way to read a command's output that can be broken off
            pieces = api._multiplexed_response_stream_helper(answer)  # noqa: SLF001 - as above
            with self._reading(CancellableStream(pieces, answer)) as output:
                text = b"".join(output).decode(errors="replace")
            return Part(api.exec_inspect(made)).whole("ExitCode"), text

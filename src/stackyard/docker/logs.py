"""The log of one container, or of a Swarm's service, read while it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackyard.docker.engine import plain_errors
from stackyard.docker.streams import Stream
from stackyard.docker.time_limit import allowing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stackyard.docker.engine import Engine


class LogStream(Stream):
    """
    The lines of both output streams of a container, until it ends or another thread calls *close*.

    Args:
        engine: Where the container is.
        container: Its id.
        since: Whole seconds of Unix time; only lines written from then on are given. 0 gives all.
    """

    def __init__(self, engine: Engine, container: str, *, since: int = 0) -> None:
        super().__init__()
        self._engine = engine
        self._container = container
        self._since = since

    def __iter__(self) -> Iterator[str]:
        """
        Give each line: its time as RFC 3339 in UTC with nine decimals, a space, its text.

        Raises:
            RefusedError: If there is no such container.
            EngineError: If the engine does not answer or sends no log.
        """
        with plain_errors(f"following the log of container {self._container[:80]}"):
            with allowing(quiet=True):
                stream = self._open()
            with self._reading(stream) as pieces:
                yield from _lines(pieces)

    def _open(self) -> Any:
        return self._engine.api.logs(
            self._container, stream=True, follow=True, timestamps=True, since=self._since or None
        )


class ServiceLogStream(LogStream):
    """
    The same of all containers of a Swarm's service, those that start later too; only *close* ends it.

    Between the time and the text of each line are its details, as `swarm.detailed` reads them.

    Args:
        engine: A manager of the Swarm.
        container: The service's id.
        since: Whole seconds of Unix time; only lines written from then on are given. 0 gives all.
    """

    def _open(self) -> Any:
        from docker.types.daemon import CancellableStream

        api: Any = self._engine.api
        spec = api.inspect_service(self._container)["Spec"]["TaskTemplate"]["ContainerSpec"]
        asked = {
            "follow": True, "stdout": True, "stderr": True, "timestamps": True, "details": True, "since": self._since
        }  # fmt: skip
        # the library's own call gives nothing that another thread can close
        answer = api._get(api._url("/services/{0}/logs", self._container), params=asked, stream=True)  # noqa: SLF001
        return CancellableStream(api._get_result_tty(stream=True, res=answer, is_tty=spec.get("TTY", False)), answer)  # noqa: SLF001


def split(text: str) -> list[str]:
    """Return the lines of a log, split at line feeds alone: a program that redraws its line writes carriage returns."""
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Give whole lines; a piece may hold several, or a part of one."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    if rest:
        yield rest.decode(errors="replace")

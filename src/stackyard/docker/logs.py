"""The log of one container, read while the container goes on writing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
                stream = self._engine.api.logs(
                    self._container, stream=True, follow=True, timestamps=True, since=self._since or None
                )
            with self._reading(stream) as pieces:
                yield from _lines(pieces)


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

"""The log of one container, read while the container goes on writing it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from stackyard.docker.engine import plain_errors
from stackyard.docker.time_limit import allowing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stackyard.docker.engine import Engine


class LogStream:
    """
    The lines of both output streams of a container, until it ends or another thread calls *close*.

    Args:
        engine: Where the container is.
        container: Its id.
        since: Whole seconds of Unix time; only lines written from then on are given. 0 gives all.
    """

    def __init__(self, engine: Engine, container: str, *, since: int = 0) -> None:
        self._engine = engine
        self._container = container
        self._since = since
        self._lock = threading.Lock()
        self._stream: Any = None
        self._closed = False

    def __iter__(self) -> Iterator[str]:
        """
        Give each line: its time as RFC 3339 in UTC with nine decimals, a space, its text.

        Raises:
            RefusedError: If there is no such container.
            EngineError: If the engine does not answer or sends no log.
        """
        with plain_errors(f"following the log of container {self._container[:40]}"):
            with allowing(quiet=True):
                stream: Any = self._engine.api.logs(
                    self._container, stream=True, follow=True, timestamps=True, since=self._since or None
                )
            # the library's own `close` leaves the file open that the socket is read through
            with contextlib.closing(stream._response):  # noqa: SLF001 - as above
                if self._keep(stream):
                    yield from _lines(stream)

    def _keep(self, stream: Any) -> bool:
        """Keep *stream* for `close`; False, with the stream closed, where that was called before."""
        with self._lock:
            self._stream = stream
            if self._closed:
                stream.close()
            return not self._closed

    def close(self) -> None:
        """End the stream; a thread that waits for a line waits no longer."""
        with self._lock:
            if self._stream is not None and not self._closed:
                self._stream.close()
            self._closed = True


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Give whole lines; a piece may hold several, or a part of one."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    if rest:
        yield rest.decode(errors="replace")

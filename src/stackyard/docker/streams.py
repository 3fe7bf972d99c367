"""A stream from the engine that one thread reads and another may end at any moment."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stream:
    """What several readers of streams have in common: `close`, before the stream is there or after."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream: Any = None
        self._closed = False

    @contextlib.contextmanager
    def _reading(self, stream: Any) -> Iterator[Any]:
        """Give the library's *stream*, or nothing where `close` was called before; close it in the end."""
        # the library's own `close` leaves the file open that the socket is read through
        with contextlib.closing(stream._response):  # noqa: SLF001 - as above
            with self._lock:
                self._stream = stream
                if self._closed:
                    _end(stream)
            yield () if self._closed else stream

    def close(self) -> None:
        """End the stream; a thread that waits for its next piece waits no longer."""
        with self._lock:
            if self._stream is not None and not self._closed:
                _end(self._stream)
            self._closed = True


def _end(stream: Any) -> None:
    with contextlib.suppress(OSError):  # its reader has ended already, or the engine has
        stream.close()

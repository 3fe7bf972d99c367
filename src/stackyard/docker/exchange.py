"""
HTTP with one limit on a whole exchange: connecting, sending, and reading up to the answer's last byte.

A timeout of a socket starts again with every read, so an engine that sends a byte a second would never be given up.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


@dataclass(slots=True)
class Exchange:
    """
    One request and its answer.

    Attributes:
        until: Monotonic time at which it must be over; None for a stream that may go on for any time.
        sent: Whether anything was sent.
    """

    until: float | None
    sent: bool = False

    def left(self) -> float | None:
        """
        Return the seconds that the next read may take; None without a limit.

        Raises:
            TimeoutError: If the time is up.
        """
        if self.until is None:
            return None
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[Exchange]:
    """Give the connections that are used in a `with` block *seconds* in all, in this thread."""
    exchange = Exchange(until=time.monotonic() + seconds)
    token = _current.set(exchange)
    try:
        yield exchange
    finally:
        _current.reset(token)


class _Reader(io.RawIOBase):
    """A socket's bytes, each read with the time that is left of its exchange."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock = sock
        # this way the socket stays open until the answer is read, even when its connection has been closed
        self._raw: Any = sock.makefile("rb", buffering=0)
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._exchange.left())
        return int(self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that is read through `_Reader`."""

    fp: Any

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        exchange = _current.get()
        if exchange is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_Reader(sock, exchange))


class Timed(http.client.HTTPConnection):
    """A connection that keeps to the limit of the exchange it is used in."""

    response_class: Any = _Response

    def send(self, data: Any) -> None:
        """Send *data*; from now on the other side may act on it."""
        exchange = _current.get()
        if self.sock is None:
            self.connect()
        if exchange is not None:
            self.sock.settimeout(exchange.left())
            exchange.sent = True
        super().send(data)

"""Streams from the engine that end, and that are closed afterwards."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from stackyard.docker.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator


class Line:
    """A stream as the library gives it, over a real socket."""

    def __init__(self) -> None:
        self._response, self.engine = socket.socketpair()

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._response.recv(64):
            yield piece

    def close(self) -> None:
        self._response.shutdown(socket.SHUT_RDWR)


class Reader(Stream):
    """Reads a line to its end."""

    def read(self, line: Line) -> list[bytes]:
        with self._reading(line) as pieces:
            return [*pieces]


def test_a_stream_whose_engine_is_gone_can_be_closed_after_its_end() -> None:
    line, reader = Line(), Reader()
    with line.engine as engine:
        engine.sendall(b"started")

    assert reader.read(line) == [b"started"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        line.close()
    reader.close()


def test_a_stream_that_was_closed_before_it_is_there_gives_nothing() -> None:
    line, reader = Line(), Reader()
    reader.close()

    with line.engine:
        assert reader.read(line) == []

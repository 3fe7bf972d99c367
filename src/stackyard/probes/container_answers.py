"""What a container answers, as a record and as text."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

WIDTH: Final = 200  # characters of an answer


class Answer(NamedTuple):
    """
    What one port showed.

    Attributes:
        good: Whether it proves itself.
        listens: Whether something listens there.
        said: What came, for a person.
    """

    good: bool
    listens: bool
    said: str


def one_line(text: str) -> str:
    """Return *text* in one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}…"


def unix_time(text: str) -> float:
    """Return the Unix time of an RFC 3339 text of the engine's."""
    return datetime.fromisoformat(text).timestamp()

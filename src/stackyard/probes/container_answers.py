"""What a container answers, as a record and as text."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


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


def unix_time(text: str) -> float:
    """Return the Unix time of an RFC 3339 text of the engine's."""
    return datetime.fromisoformat(text).timestamp()

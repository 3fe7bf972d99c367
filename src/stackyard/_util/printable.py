"""Text from outside, made fit for a terminal."""

from __future__ import annotations


def one_line(text: str, width: int = 200) -> str:
    """Return *text* in one line of at most *width* characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[:width]}…"


def printable(text: str, also: str = "") -> str:
    """Return *text* with escapes for what would move a terminal's cursor or change its colours, except *also*."""
    return "".join(char if char.isprintable() or char in also else ascii(char)[1:-1] for char in text)

"""
Warnings about the book, each once in a process.

A command that only reads fixes or recovers a damaged book in memory, again for each read, and would say the same of it
each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_SAID: Final[set[tuple[Path, str]]] = set()


def warn(state: Path, text: str) -> None:
    """Log *text* as a warning unless this process has done so before for the book in the directory *state*."""
    import logging

    if (state, text) not in _SAID:
        _SAID.add((state, text))
        logging.getLogger("stackyard").warning("%s", text)

"""The log messages of libraries, which only developers of stackyard need."""

from __future__ import annotations

import logging
from typing import Final

LIBRARIES: Final = ("docker", "urllib3", "asyncio", "websockets", "stackyard")


def quiet() -> None:
    """Keep messages below a warning out of a log that takes everything, as that of nox does."""
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)

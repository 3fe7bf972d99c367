"""What a user reads when Ctrl-C or SIGTERM ends work that comes before a start, such as pulling images."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def reported(tell: Callable[[str], None], what: str) -> Iterator[None]:
    """
    Say that *what* was stopped, and that nothing is left, if Ctrl-C or SIGTERM ends a `with` block.

    Args:
        tell: Gets the line.
        what: What the block does, such as ``pulling web:1``, before anything is started.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        tell(f"interrupted: {what} was stopped; nothing was started, so nothing is left to remove")
        raise

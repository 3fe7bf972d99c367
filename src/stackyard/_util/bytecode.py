"""Python keeps its compiled files, even though Invoke forbids it, because an installer such as uv compiles nothing."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """
    Keep what is compiled in a `with` block, unless Python's own options or variables forbid it.

    Invoke forbids it for the whole process, for the sake of a tasks.py. Without the files each command compiles this
    library again, which takes 0.4 s. A team's own modules are compiled outside such a block, by Invoke's rule.
    """
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
    try:
        yield
    finally:
        sys.dont_write_bytecode = before

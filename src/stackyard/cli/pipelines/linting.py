"""What the checks of this package share as programs: a line for each finding, and the exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stackyard.errors import StackyardError, VerifyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def show(findings: Sequence[str], *, clean: str) -> int:
    """Print the *findings*, or *clean* if there are none; return the exit code."""
    print("\n".join(findings) or clean)
    return VerifyError.exit_code if findings else 0


def run(check: Callable[[Path], int]) -> int:
    """Let *check* look at the project in the current folder; return the exit code, after one line for an error."""
    try:
        return check(Path.cwd())
    except StackyardError as error:
        print(error, file=sys.stderr)
        return error.exit_code

"""What the task modules share: errors become one line and an exit code, and leases are found by what people remember."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from invoke.exceptions import Exit

from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

JSON_HELP = "Print JSON instead of a table."


def failing_cleanly(body: Callable[P, R]) -> Callable[P, R]:
    """Turn a StackyardError of *body* into Invoke's Exit with its message and exit code."""

    @functools.wraps(body)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return body(*args, **kwargs)
        except StackyardError as error:
            raise Exit(str(error), code=error.exit_code) from None

    return wrapper

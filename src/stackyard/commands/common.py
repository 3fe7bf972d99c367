"""What the task modules share: an error becomes one line and an exit code; a stack is found by what people remember."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from invoke.exceptions import Exit

from stackyard.errors import StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.leases import Lease
    from stackyard.stacks import Stack

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED: Final = 130  # as a shell says it
WIDTH: Final = 60  # columns of a wrong value that a message shows
JSON_HELP = "Print JSON instead of a table."


def failing_cleanly(body: Callable[P, R]) -> Callable[P, R]:
    """Turn a StackyardError of *body* into Invoke's Exit with its message and exit code, and Ctrl-C into its own."""

    @functools.wraps(body)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return body(*args, **kwargs)
        except StackyardError as error:
            raise Exit(str(error), code=error.exit_code) from None
        except KeyboardInterrupt:
            raise Exit(code=INTERRUPTED) from None  # Invoke itself would say 1, as for any failure

    return wrapper


def attach(lease: str | None) -> Stack:
    """
    Return the stack under a lease, found by its id or parallel id; without one, the only stack there is.

    Raises:
        UsageError: If *lease* is None and there is not exactly one.
        LeaseNotFoundError: If no lease has this id.
    """
    from stackyard.engine import Engine  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.environments import Environment  # noqa: PLC0415 - as above
    from stackyard.stacks import Stack  # noqa: PLC0415 - as above
    from stackyard.survey import open_book  # noqa: PLC0415 - as above

    engine = Engine()
    book = open_book(None, engine)
    found = book.find(lease) if lease else _only(book.leases())
    return Stack(Environment.load(found.environment), found, book, engine)


def check_count(what: str, text: str, *, most: int) -> int:
    """
    Return the plain decimal number *text* says.

    Raises:
        UsageError: If it is anything but a number from 1 to *most*: 0, negative, NaN, "08", "1e3".
    """
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text, re.ASCII) or int(text) > most:
        shown = repr(text) if len(text) <= WIDTH else f"{text[:WIDTH]!r}..."
        raise UsageError(f"{what} must be a number from 1 to {most}, got {shown}")
    return int(text)


def _only(leases: Sequence[Lease]) -> Lease:
    if len(leases) == 1:
        return leases[0]
    known = ", ".join(f"{lease.id} ({lease.environment})" for lease in leases) or "none; 'invoke env.up' starts one"
    raise UsageError(f"which stack? name it with --lease; there are: {known}")

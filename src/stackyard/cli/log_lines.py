"""Which lines of a log a user asks for: the last ones, or those from a moment on."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stackyard._util.durations import parsed
from stackyard.cli.common import WIDTH, answer, check_count
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.stacks.logs import Line

MOST: Final = 100_000
USUAL: Final = "100"


class Lines(NamedTuple):
    """
    Which lines of a log are wanted.

    Attributes:
        tail: How many of each service.
        since: Whole seconds of Unix time from which on; 0 for all.
    """

    tail: int
    since: int


def chosen_lines(tail: str, since: str, *, follow: bool, json: bool) -> Lines:
    """
    Return the lines that `--tail` and `--since` ask for.

    Raises:
        UsageError: If one of them is wrong, or if the lines of `--follow` are wanted as JSON.
    """
    if follow and json:
        raise UsageError("--follow prints lines as they come, so there is no JSON of it; leave --follow or --json out")
    first = _moment(since) if since else 0
    if tail == "all" or (since and not tail):
        return Lines(MOST, first)
    return Lines(check_count("--tail", tail or USUAL, most=MOST), first)


def _moment(text: str) -> int:
    ago = parsed(text)
    if ago is not None:
        return max(int(time.time() - ago), 1)
    try:
        return max(int(dt.datetime.fromisoformat(text).timestamp()), 1)
    except (ValueError, OverflowError):
        shown = repr(text)[:WIDTH]
        raise UsageError(
            f"--since must be a time ago such as 10m, or a moment such as 2026-11-28T14:30, got {shown}"
        ) from None


def show(said: dict[str, Any], found: Sequence[Line], *, prefix: bool, timestamps: bool, json: bool) -> None:
    """
    Print lines of a log.

    Args:
        said: What every JSON answer says of the stack.
        found: The lines.
        prefix: Begin each line with its service's name.
        timestamps: Begin each line, or what follows the name, with its time.
        json: Print JSON.
    """
    from stackyard.stacks import logs

    if json:
        answer(said | {"services": logs.by_service(found, timestamps=timestamps)}, "", as_json=True)
    else:
        print(logs.text(found, prefix=prefix, timestamps=timestamps), end="")

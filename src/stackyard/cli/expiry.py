"""When a stack ends by itself: what commands print about that, and a reminder while somebody works with it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, typed
from stackyard._util.durations import said
from stackyard.cli.leasing import handle

if TYPE_CHECKING:
    from stackyard.leases import Lease, LeaseBook

SOON: Final = 600.0  # seconds before the end from which commands on a terminal mention it
DATED: Final = 43200.0  # seconds before the end from which its date is printed too


def ending(book: LeaseBook, lease: Lease) -> str:
    """Say in one line when the stack under *lease* expires, and what extends that."""
    if lease.deadline is None:
        return until(lease)
    return f"{until(lease)}; '{typed(Action.EXTEND, name=handle(book, lease))}' extends it"


def until(lease: Lease) -> str:
    """Say in a few words when the stack under *lease* expires."""
    if lease.deadline is None:
        return _of_run(lease) if lease.owner.kind == "process" else "stays until you remove it"
    return until_moment(lease.deadline)


def until_moment(deadline: float) -> str:
    """Say that a stack stays until *deadline*, in Unix seconds, and how long that is."""
    left = deadline - time.time()
    if left <= 0:
        return f"its time ended {_length(-left)} ago; the next clean-up removes it"
    day = "%H:%M" if left < DATED else "%Y-%m-%d %H:%M"
    return f"stays until {time.strftime(day, time.localtime(deadline))} ({_length(left)})"


def remind(book: LeaseBook, lease: Lease) -> None:
    """Print the end of *lease* on a terminal's standard error if it is near: the user is working with the stack."""
    if lease.deadline is not None and lease.deadline - time.time() < SOON and sys.stderr.isatty():
        print(f"note: {lease.title} {ending(book, lease)}", file=sys.stderr, flush=True)


def _of_run(lease: Lease) -> str:
    if lease.is_stale(time.time()):
        return "its run has ended; the next clean-up removes it"
    return f"stays as long as {lease.owner.describe()} runs"


def _length(seconds: float) -> str:
    return said(round(seconds / 60) * 60 or round(seconds, 1))

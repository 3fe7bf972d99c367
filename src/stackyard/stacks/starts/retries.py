"""Attempts to start: what happens to one that fails, and other ports for the next if a program took one."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from stackyard._util.tables import format_count
from stackyard.docker.compose import taken
from stackyard.errors import CommandError, NotReadyError, RefusedError, StackyardError
from stackyard.stacks.diagnostics import REMOVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
TRIES: Final = 5  # places that are tried while other programs take their ports


@contextlib.contextmanager
def failing(
    explain: Callable[[StackyardError], str],
    undo: Callable[[str], object],
    *,
    keep: bool = False,
    progress: Callable[[str], None] = lambda _line: None,
) -> Iterator[None]:
    """
    Let the start in a `with` block fail with one text, and without anything left of it.

    Args:
        explain: Returns the text, which begins with the cause; it can still see what the start has made.
        undo: Removes that; is given what another program took, "port" or "subnet", or an empty text.
        keep: Do not remove it, unless another program took something: then no look inside is needed.
        progress: Called with a line about the removal if the start was interrupted.

    Raises:
        NotReadyError: If the start failed; the text says so if something of it could not be removed.
        CommandError: If another program took a leased port or subnet.
        RefusedError: As CommandError, from the engine itself.
    """
    try:
        yield
    except (NotReadyError, CommandError, RefusedError) as error:
        if what := _lost(error):
            if (said := undone(undo, what)) != REMOVED:
                raise NotReadyError(f"{error}\n{said}") from None
            raise
        text = explain(error)
        if not keep:
            text = text.replace(REMOVED, undone(undo))
        raise NotReadyError(text) from None
    except BaseException as error:
        if not keep:
            undo_ended(error, undo, progress)
        raise


def undo_ended(error: BaseException, undo: Callable[[str], object], progress: Callable[[str], None]) -> None:
    """Remove what a start made that *error* has ended; tell *progress* of an interrupt, and of what is left."""
    said = undone(undo)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        progress(f"interrupted; {said}")
    elif said != REMOVED:
        progress(f"warning: {said}")


def undone(undo: Callable[[str], object], what: str = "") -> str:
    """Call *undo* with *what*; return what to say of that, so that what is left does not hide why a start failed."""
    try:
        undo(what)
    except StackyardError as error:
        return f"what the start made could not be removed: {error}"
    return REMOVED


def placed(attempt: Callable[[Sequence[str]], T], *, title: str, movable: bool = True) -> T:
    """
    Try to start in one place after another, while other programs take the leased ports and subnets.

    Args:
        attempt: Starts; is given what each attempt before has lost, "port" or "subnet".
        title: What starts.
        movable: False for what has only one place.

    Raises:
        NotReadyError: If that many places were taken; the text says what was.
        StackyardError: As *attempt* does.
    """
    lost: list[str] = []
    while True:
        try:
            return attempt(lost)
        except (CommandError, RefusedError) as error:
            what = _lost(error)
            if not (what and movable):
                raise
            lost.append(what)
            if len(lost) == TRIES:
                raise NotReadyError(f"{title} did not start: {_losses(lost)}: {error}") from None


def _lost(error: StackyardError) -> str:
    return taken(error) if isinstance(error, CommandError | RefusedError) else ""


def _losses(lost: Sequence[str]) -> str:
    counts = Counter(lost)
    return "other programs took " + " and ".join(
        f"a leased {what} {format_count(number, 'time')}" for what, number in counts.items()
    )

"""The samples and failures of a suite's rounds as results; and one result as a share of another."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from stackyard._util import process
from stackyard._util.tables import format_seconds
from stackyard.bench.records import Result
from stackyard.errors import NotReadyError, StackyardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stackyard.bench.options import Plan

T = TypeVar("T")
Outcome: TypeAlias = "float | StackyardError"

STAY: Final = "10m"  # how long a stack may outlive a benchmark that was killed
LONGEST: Final = 240  # characters of a failure in a result


def new_name() -> str:
    """Return a name for the stack of one round."""
    return f"bench-{secrets.token_hex(4)}"


def turned(ways: Sequence[T], number: int) -> tuple[T, ...]:
    """Return *ways* in the order of round *number*: another one begins in each round."""
    shift = number % len(ways)
    return (*ways[shift:], *ways[:shift])


def start_and_remove(
    up: Sequence[str], down: Sequence[str], folder: Path, patience: float
) -> tuple[process.Completed, process.Completed]:
    """Run the command that starts and the one that removes; the latter runs also after an interrupt."""
    with ExitStack() as undo:
        undo.callback(process.run, down, deadline=patience, cwd=folder, check=False)
        started = process.run(up, deadline=patience, cwd=folder)
        removed = process.run(down, deadline=patience, cwd=folder)
        undo.pop_all()
    return started, removed


def one_line(outcome: float | Exception) -> str:
    """Return an outcome for a person: its seconds, or why it failed."""
    return " ".join(str(outcome).split()) if isinstance(outcome, Exception) else format_seconds(outcome)


def reason_of(error: Exception) -> str:
    """Return why something failed, in one line that is not too long for a result."""
    return one_line(error)[:LONGEST]


@contextmanager
def one_error(library: str) -> Iterator[None]:
    """
    Let what *library* raises in the block be one kind of error; its last words are the reason.

    Raises:
        NotReadyError: If it raised anything.
    """
    try:
        yield
    except StackyardError:
        raise
    except Exception as error:
        raise NotReadyError(f"{library}: {type(error).__name__}: {error}") from error


def result_of(outcomes: Sequence[Outcome | None], plan: Plan, **fields: Any) -> Result:
    """Return the result of *outcomes*, with its *fields*; None is neither a sample nor a failure."""
    bad = [reason_of(outcome) for outcome in outcomes if isinstance(outcome, StackyardError)]
    good = [outcome for outcome in outcomes if outcome is not None and not isinstance(outcome, StackyardError)]
    return Result.of(
        good, failed=len(bad), reason=bad[0] if bad else "", command=plan.command(fields["suite"]), **fields
    )


def share(mine: Result | None, theirs: Result | None, **fields: Any) -> Iterator[Result]:
    """Yield *mine* as a share of *theirs*, round by round, if both have samples of all rounds; above 1 it is slower."""
    if mine and theirs and mine.n == theirs.n and mine.n:
        shares = [one / two for one, two in zip(mine.samples, theirs.samples, strict=True)]
        given = {"what": f"as a share of {theirs.subject}", "command": mine.command, **fields}
        yield Result.of(shares, suite=mine.suite, subject=mine.subject, unit="x", **given)

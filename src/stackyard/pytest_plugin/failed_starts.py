"""Starts that failed: a project that cannot start takes its deadline once in a session, not once for each test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from stackyard.errors import ImageError, NotReadyError, StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.running.stack_description import StackDescription

FAILURES: Final = pytest.StashKey["Failures"]()
OF_THE_PROJECT: Final = (NotReadyError, ImageError, UsageError)
TRIES: Final = 2  # starts in a row that fail before the next tests fail without one


class _Failure(NamedTuple):
    """How a start failed; the error itself would keep the start's engine open."""

    line: str
    of_the_project: bool


class Failures:
    """
    What became of the starts of this process.

    A failure for a reason of the project, such as a service that exits or an image that is missing, comes again: the
    next tests fail at once, with the same line. One for another reason, such as no free place, may be over soon, and
    so may any failure of a project that has started before: then it takes two in a row.
    """

    def __init__(self) -> None:
        self._started: set[StackDescription] = set()
        self._failed: dict[StackDescription, list[_Failure]] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> Failures:
        """Return the ones of this process."""
        return config.stash.setdefault(FAILURES, cls())

    @contextlib.contextmanager
    def counted(self, wanted: StackDescription) -> Iterator[None]:
        """
        Note how the start of a stack in a `with` block ends; refuse to begin it where it would fail again.

        Raises:
            StackyardError: With the line of the last start.
        """
        failed = self._failed.setdefault(wanted, [])
        comes_again = wanted not in self._started and any(one.of_the_project for one in failed)
        if comes_again or len(failed) >= TRIES:
            raise StackyardError(failed[-1].line)
        try:
            yield
        except StackyardError as error:
            failed.append(_Failure(str(error).partition("\n")[0], isinstance(error, OF_THE_PROJECT)))
            raise
        self._started.add(wanted)
        failed.clear()

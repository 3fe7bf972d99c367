"""What a start refuses before it creates anything, with all reasons at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackyard._util.tables import format_list
from stackyard.errors import UsageError
from stackyard.plan.missing_files import missing_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.plan.records import Concern
    from stackyard.project import Project


def refuse_missing_files(project: Project) -> None:
    """
    Refuse a project whose files are not all there.

    Raises:
        UsageError: If some are missing; the text names all of them.
    """
    if missing := missing_files(project):
        lines = [f"{item.place}: {item.text}; {item.advice}" for item in missing]
        raise UsageError(format_list(f"{len(lines)} files of the project are missing", lines))


def refuse(concerns: Sequence[Concern]) -> None:
    """
    Refuse what cannot run.

    Raises:
        UsageError: If there is any; the text names all of them.
    """
    if concerns:
        lines = [f"{item.place} {item.text}; {item.advice}" for item in concerns]
        raise UsageError(format_list(f"{len(lines)} parts of the project cannot run in a copy", lines))

"""What Compose runs with all the same, although the user hardly means it: a line for the user about each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackyard.plan.profiles import unknown_profiles
from stackyard.plan.records import Concern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.project import Project


def oversights(project: Project) -> list[Concern]:
    """Return the chosen profiles that no service has, and the variables that have no value."""
    return [*unknown_profiles(project), *_unset(project)]


def warnings(project: Project) -> Iterator[str]:
    """Yield a line for the user about each."""
    for concern in oversights(project):
        yield f"warning: {concern.place}: {concern.text}; {concern.advice}"


def _unset(project: Project) -> Iterator[Concern]:
    advice = "set it, write it to the env file, or give it a default: ${NAME:-value}"
    for name in project.unset:
        yield Concern(level="careful", place=f"variable {name}", text="has no value, so it is empty", advice=advice)

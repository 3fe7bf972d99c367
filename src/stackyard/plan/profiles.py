"""Chosen profiles that no service has, usually because one is misspelt; Compose ignores them silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackyard.plan.records import Concern
from stackyard.project.environments.rules import hint

if TYPE_CHECKING:
    from stackyard.project import Project

EVERY = "*"  # Compose's word for all profiles


def unknown_profiles(project: Project) -> list[Concern]:
    """Return every chosen profile that no service has, and the nearest; none where a variable names a profile."""
    services = (project.template.get("services") or {}).values()
    known = {name for service in services for name in (service or {}).get("profiles") or ()}
    chosen = project.profiles
    if any("$" in name for name in (*known, *chosen)):
        return []
    return [
        Concern(
            level="careful", place=f"profile {name}", text="no service has it",
            advice=hint(name, known).removeprefix("; "),
        )
        for name in chosen if name not in known and name != EVERY
    ]  # fmt: skip

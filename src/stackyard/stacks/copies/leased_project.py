"""What the lease book needs to know about a copied project."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from stackyard.leases.needs import LONGEST_SLUG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackyard.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedProject:
    """
    What the lease book needs to know about a copied project.

    Attributes:
        name: The project's name, and six hex digits made from its folder.
        root: The project's own folder.
    """

    name: str
    root: Path
    data: Literal["tmpfs"] = "tmpfs"
    ports: Mapping[str, int] = field(default_factory=dict)
    subnet: str = ""
    reserve_mb: int = 0
    services: None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project) -> CopiedProject:
        """Return what the book needs to know of *project*."""
        root = project.home.resolve()
        slug = re.sub(r"[^a-z0-9_-]+", "-", project.name.lower()).strip("-_")[:LONGEST_SLUG] or "project"
        return cls(name=f"{slug}-{hashlib.sha256(str(root).encode()).hexdigest()[:6]}", root=root)

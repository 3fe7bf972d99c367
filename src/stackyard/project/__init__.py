"""
A Compose project as Compose finds it: its files, its variables, its model. Only Compose parses Compose files.

Names are imported on first use, because a command that only leases ports needs `environments` and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stackyard.project.model import PublishedPort, copies_of, published_ports
    from stackyard.project.project import Project

__all__ = ["Project", "PublishedPort", "copies_of", "published_ports"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'project' if name == 'Project' else 'model'}"), name)

"""
The environments: `envs/docker_environments.yaml` and one env file for each, read and checked together.

Every mistake in these files raises a `ConfigError` that names file, key, value and rule, and no other exception. Names
are imported on first use, because a command that only leases ports does not need most of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stackyard.project.environments.dotenv import parse_env, read_env
    from stackyard.project.environments.environment import Budget, Environment, Health, load_all, load_services
    from stackyard.project.environments.roots import project_root
    from stackyard.project.environments.rules import Data, Flavour
    from stackyard.project.environments.services import Services

__all__ = [
    "Budget", "Data", "Environment", "Flavour", "Health", "Services", "load_all", "load_services", "parse_env",
    "project_root", "read_env",
]  # fmt: skip

_HOMES = {
    "dotenv": ("parse_env", "read_env"),
    "environment": ("Budget", "Environment", "Health", "load_all", "load_services"),
    "roots": ("project_root",),
    "rules": ("Data", "Flavour"),
    "services": ("Services",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

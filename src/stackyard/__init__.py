"""A private copy of your Compose project for every test run. All names but the errors are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackyard.errors import (
    BookError,
    CommandError,
    ConfigError,
    EngineError,
    ImageError,
    LeaseNotFoundError,
    LeftoversError,
    NotReadyError,
    PoolExhaustedError,
    StackyardError,
    UsageError,
)

if TYPE_CHECKING:
    from stackyard.leases import Lease, LeaseBook, alease, lease
    from stackyard.project import Project
    from stackyard.running import Stack, running

__all__ = [
    "BookError",
    "CommandError",
    "ConfigError",
    "EngineError",
    "ImageError",
    "Lease",
    "LeaseBook",
    "LeaseNotFoundError",
    "LeftoversError",
    "NotReadyError",
    "PoolExhaustedError",
    "Project",
    "Stack",
    "StackyardError",
    "UsageError",
    "__version__",
    "alease",
    "lease",
    "running",
]
__version__ = "0.1.0"

if not TYPE_CHECKING:  # a type checker knows the names from above, and no others
    _HOMES = {
        "stackyard.leases": ("Lease", "LeaseBook", "alease", "lease"),
        "stackyard.project": ("Project",),
        "stackyard.running": ("Stack", "running"),
    }

    def __getattr__(name: str) -> object:
        from importlib import import_module

        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(home)
        return module if name == "running" else getattr(module, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

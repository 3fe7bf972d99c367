"""A private copy of your Compose project for every test run. The names below are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackyard.running import Stack, running

__all__ = ["Stack", "__version__", "running"]
__version__ = "0.1.0"

if not TYPE_CHECKING:  # a type checker knows the names from above, and no others

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module("stackyard.running")
        return module if name == "running" else getattr(module, name)

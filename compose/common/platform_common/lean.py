"""
Modules that libraries import and a service hardly ever uses: loaded when first asked for something.

asyncio and websockets import TLS, what starts programs, a parser of Python, a reader of signatures, one of what
packages say of themselves; together they are a tenth of what a service has in memory. A service speaks plain TCP inside
its stack, so asyncio is told that there is no TLS.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TLS: Final = "ssl"
RARE: Final = (
    TLS, "ast", "asyncio.sslproto", "importlib.metadata", "inspect", "linecache", "secrets", "textwrap", "tokenize",
    "urllib.parse",
)  # fmt: skip
PIPES: Final = {"PIPE": -1, "STDOUT": -2, "DEVNULL": -3}  # what asyncio takes of subprocess to name its defaults


def defer() -> None:
    """Put off what is rarely used; called before anything imports it."""
    for name in RARE:
        _defer(name)
    _defer("subprocess", PIPES)
    # Its classes are taken apart as asyncio is imported, unless the import fails.
    later, sys.modules[TLS] = sys.modules[TLS], None  # type: ignore[assignment] # the language's way to forbid an import
    import asyncio  # noqa: F401, PLC0415 - see above

    sys.modules[TLS] = later


def _defer(name: str, known: Mapping[str, object] | None = None) -> None:
    module = ModuleType(name)
    vars(module).update(known or {})

    def load(wanted: str) -> Any:
        # The import system itself asks every module for some of these.
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        del sys.modules[name]
        try:
            found = vars(import_module(name))
        finally:
            sys.modules[name] = module
        vars(module).update(found)
        return found[wanted]

    vars(module)["__getattr__"] = load
    sys.modules[name] = module
    package, _, last = name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], last, module)

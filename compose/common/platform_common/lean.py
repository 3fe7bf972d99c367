"""
Modules that libraries import and a service hardly ever uses: loaded when first asked for something.

asyncio, asyncpg and websockets import TLS, a parser of Python, one of configuration files, a reader of what packages
say of themselves; together they are a tenth of what a service has in memory. A service speaks plain TCP inside its
stack, so asyncio is told that there is no TLS.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

TLS: Final = "ssl"
RARE: Final = (TLS, "ast", "configparser", "getpass", "importlib.metadata", "linecache", "textwrap", "tokenize")


def defer() -> None:
    """Put off what is rarely used; called before anything imports it."""
    for name in RARE:
        _defer(name)
    # Its classes are taken apart as asyncio is imported, unless the import fails; asyncpg only wants the name.
    later, sys.modules[TLS] = sys.modules[TLS], None  # type: ignore[assignment] # the language's way to forbid an import
    import asyncio  # noqa: F401, PLC0415 - see above

    sys.modules[TLS] = later


def _defer(name: str) -> None:
    module = ModuleType(name)

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
    if package:
        setattr(sys.modules[package], last, module)

"""
Libraries that only some commands need. `pip install stackyard` leaves them out; each extra installs some of them.

A test compares these names with pyproject.toml.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from stackyard.errors import UsageError

# the modules that each extra installs
MODULES: Final = {
    "cli": frozenset({"invoke", "tabulate"}),
    "checks": frozenset({"cyclonedx", "dockerfile_parse", "elftools", "junitparser", "packageurl"}),
    "monitor": frozenset({"prometheus_client", "rich"}),
    "report": frozenset({"jinja2", "junitparser", "markupsafe"}),
    "nox": frozenset({"nox"}),
    "pytest": frozenset({"pytest"}),
}
# the extra that installs a program
PROGRAMS: Final = {"compose-lint": "checks", "hadolint": "checks"}


def explained(error: ModuleNotFoundError) -> UsageError | None:
    """Return the error to show instead of *error*; None if no extra has the module that is missing."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in MODULES.items() if module in modules), None)
    return _missing(module, extra) if extra else None


def program(name: str) -> str:
    """
    Return the path of a program that an extra installs, next to stackyard's interpreter, whatever PATH says.

    Raises:
        UsageError: If it is not there.
    """
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise _missing(name, PROGRAMS[name])
    return str(path)


def _missing(what: str, extra: str) -> UsageError:
    return UsageError(f"{what} is not installed, and this command needs it; run `pip install 'stackyard[{extra}]'`")

"""What a lock of requirements format names, and which of it a newer release is worth offering for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ALWAYS = frozenset({"coverage"})  # asked for with an extra, for which an older pip takes the newest release
PINNED = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[0-9][^ ;\\]*)", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    """Return each package of the lock with its version."""
    return {found["name"]: found["version"] for found in PINNED.finditer(text)}


def most_wanted(text: str, count: int) -> dict[str, str]:
    """Return the *count* packages that most others ask for, with a version that is newer than the locked one."""
    wanted: dict[str, int] = {}
    entry = ""
    for line in text.splitlines():
        found = PINNED.match(line)
        if found:
            entry = found["name"]
            wanted[entry] = 0
        elif line.strip().startswith("#") and entry:
            wanted[entry] += 1
    chosen = sorted(wanted, key=lambda name: (name not in ALWAYS, -wanted[name], name))[:count]
    return {name: _newer(version) for name, version in pins(text).items() if name in chosen}


def _newer(version: str) -> str:
    return f"{int(version.partition('.')[0]) + 1}.0"


def differences(locked: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """Return a line for each package that is installed in another version than the locked one, or not locked at all."""
    return [
        f"{name} {version}, locked is {locked.get(name, 'no such package')}"
        for name, version in sorted(installed.items())
        if locked.get(name) != version
    ]

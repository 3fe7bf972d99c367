"""Alpine's database of installed packages: which packages stay, and which files belong to the others."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True)
class _Package:
    name: str
    text: str
    files: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    provides: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """
    The packages to keep, and what follows from that.

    Attributes:
        packages: Names of the packages that stay: those asked for and all that they need.
        dropped: Absolute paths of every file of the other packages.
        database: The database without the other packages.
    """

    packages: frozenset[str]
    dropped: frozenset[str]
    database: str


def select(database: str, keep: Iterable[str]) -> Selection:
    """Work out which packages of *database* (the text of apk's `installed` file) *keep* needs."""
    packages = [_parse(text) for text in database.split("\n\n") if text.strip()]
    providers = {name: package for package in packages for name in (*package.files, *package.provides, package.name)}
    wanted: dict[str, _Package] = {}
    todo = list(keep)
    while todo:
        package = providers.get(todo.pop())
        if package is not None and package.name not in wanted:
            wanted[package.name] = package
            todo += package.needs
    others = [package for package in packages if package.name not in wanted]
    return Selection(
        packages=frozenset(wanted),
        dropped=frozenset(path for package in others for path in package.files),
        database="".join(f"{package.text}\n\n" for package in packages if package.name in wanted),
    )


def _parse(text: str) -> _Package:
    package = _Package(name="", text=text.strip("\n"))
    folder = ""
    for line in text.splitlines():
        key, value = line[:1], line[2:]
        match key:
            case "P":
                package.name = value
            case "p":
                package.provides += [re.split("[=<>~]", word)[0] for word in value.split()]
            case "D":
                package.needs += [re.split("[=<>~]", word)[0] for word in value.split() if not word.startswith("!")]
            case "F":
                folder = value
            case "R":
                package.files.append(f"/{folder}/{value}" if folder else f"/{value}")
            case _:
                pass
    return package

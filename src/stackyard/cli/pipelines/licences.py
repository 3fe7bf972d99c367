"""
The licences of all locked packages, checked against the list in pyproject.toml.

The wheel's dependencies, and what they depend on, must have a permissive licence. A package that only development or an
extra needs may have another one, where the list names the package with a reason. Licences come from the metadata of the
installed packages.
"""

from __future__ import annotations

import functools
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from typing import TYPE_CHECKING, Any, Final

from license_expression import AND, OR, ExpressionError, get_spdx_licensing  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stackyard.cli.pipelines import linting
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from importlib.metadata import PackageMetadata
    from pathlib import Path

    Reader = Callable[[str], PackageMetadata]

LOCKS: Final = "requirements*.lock"
TABLE: Final = "[tool.stackyard.licences{}] of pyproject.toml"
CLASSIFIER: Final = "License :: "
GENERAL: Final = frozenset({"OSI Approved", "DFSG approved"})  # classifiers that name no licence
LONGEST: Final = 60  # characters; a longer License field is the licence's text


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    What pyproject.toml says about licences; packages are named as in the lock.

    Attributes:
        permissive: SPDX names that every package may have.
        spellings: SPDX names of what packages write instead.
        dependencies: Licence of each exception among the wheel's dependencies.
        development: Licence of each exception that only development or an extra needs.
        unread: Licence, read by hand, of each package that is locked but not installed in .venv.
    """

    permissive: frozenset[str]
    spellings: Mapping[str, str]
    dependencies: Mapping[str, str]
    development: Mapping[str, str]
    unread: Mapping[str, str]

    @classmethod
    def of(cls, project: Mapping[str, Any]) -> Rules:
        """
        Read them from the content of pyproject.toml.

        Raises:
            UsageError: If something is missing or of the wrong type; an exception needs a licence and a reason.
        """
        try:
            table = project["tool"]["stackyard"]["licences"]
            excepted = {kind: _excepted(table[kind]) for kind in ("dependencies", "development", "unread")}
            return cls(permissive=frozenset(table["permissive"]), spellings=table["spellings"], **excepted)
        except (KeyError, TypeError) as error:
            raise UsageError(f"{TABLE.format('')}: missing or of the wrong type: {error}") from None


def _excepted(rows: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {canonicalize_name(name): row["licence"] for name, row in rows.items() if row["reason"]}


def locked(text: str) -> list[Requirement]:
    """Return what a lock in requirements format pins, without the hashes."""
    lines = (line.split("--hash")[0].rstrip(" \\") for line in text.splitlines() if line[:1].isalnum())
    return [Requirement(line) for line in lines]


def shipped(project: Mapping[str, Any], read: Reader = metadata) -> set[str]:
    """Return the names of the wheel's dependencies and of all that those depend on, without extras."""
    found: set[str] = set()
    waiting = [Requirement(each) for each in project["project"]["dependencies"]]
    while waiting:
        each = waiting.pop()
        name = canonicalize_name(each.name)
        if name not in found:
            found.add(name)
            waiting += _needs(each, read)
    return found


def _needs(requirement: Requirement, read: Reader) -> Iterator[Requirement]:
    """Yield what an installed package needs on this machine, with the extras that *requirement* asks for."""
    try:
        rows = read(requirement.name).get_all("Requires-Dist") or []
    except PackageNotFoundError:
        return
    for need in map(Requirement, rows):
        extras = ["", *requirement.extras]
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
            yield need


def licence(found: PackageMetadata, spellings: Mapping[str, str]) -> str:
    """Return a package's licence as an SPDX expression, as far as its metadata has one."""
    expression, text = (str((found.get_all(name) or [""])[0]).strip() for name in ("License-Expression", "License"))
    classifiers = [row.rpartition(" :: ")[2] for row in found.get_all("Classifier") or [] if row.startswith(CLASSIFIER)]
    named = [row for row in classifiers if row not in GENERAL]
    if expression:
        return expression
    if text and "\n" not in text and len(text) <= LONGEST:
        named = [text]
    return " AND ".join(spellings.get(each, each) for each in named)


def is_permissive(expression: str, permissive: Iterable[str]) -> bool:
    """Tell whether an SPDX expression can be met by permissive licences alone."""
    try:
        parsed = _licensing().parse(expression)
    except ExpressionError:
        return False
    return parsed is not None and _met(parsed, frozenset(permissive))


@functools.cache
def _licensing() -> Any:
    return get_spdx_licensing()


def _met(part: Any, permissive: frozenset[str]) -> bool:
    if isinstance(part, OR):
        return any(_met(each, permissive) for each in part.args)
    if isinstance(part, AND):
        return all(_met(each, permissive) for each in part.args)
    return str(part) in permissive


def findings(pins: Iterable[Requirement], project: Mapping[str, Any], read: Reader = metadata) -> list[str]:
    """
    Return what is wrong with the licences of *pins*: one line each, with the package, its licence and what to do.

    Raises:
        UsageError: If the list in *project*, the content of pyproject.toml, is incomplete.
    """
    rules, runtime, pins = Rules.of(project), shipped(project, read), list(pins)
    lines = [line for pin in pins if (line := _finding(pin, rules, runtime, read))]
    names = {canonicalize_name(pin.name) for pin in pins}
    for kind in ("dependencies", "development", "unread"):
        unused = sorted(set(getattr(rules, kind)) - names)
        lines += [f"{name}: not locked; remove it from {TABLE.format(f'.{kind}')}" for name in unused]
    return lines


def _finding(pin: Requirement, rules: Rules, runtime: set[str], read: Reader) -> str | None:
    name = canonicalize_name(pin.name)
    kind = "dependencies" if name in runtime else "development"
    try:
        found = licence(read(name), rules.spellings)
    except PackageNotFoundError:
        unread = f"{pin.name}: locked but not installed, so its licence is unknown; {_row('unread', name)}"
        return None if name in rules.unread else unread
    if is_permissive(found, rules.permissive) or getattr(rules, kind).get(name) == found:
        return None
    what = f"{pin.name}: its licence, {found or 'none in its metadata'}, is not permissive"
    if kind == "dependencies":
        return f"{what}, and the wheel depends on it; use another package, or let only an extra or a group need it"
    return f"{what}; use another package, or {_row(kind, name)}"


def _row(kind: str, name: str) -> str:
    return f"add `{name} = {{ licence = …, reason = … }}` to {TABLE.format(f'.{kind}')}"


def main(root: Path) -> int:
    """Check all locks of the project at *root*; print what is wrong, or how many packages are right."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    pins = {str(pin): pin for lock in sorted(root.glob(LOCKS)) for pin in locked(lock.read_text(encoding="utf-8"))}
    lines = findings(pins.values(), project)
    return linting.show(lines, clean=f"licences: all {len(pins)} locked packages are allowed")


if __name__ == "__main__":
    sys.exit(linting.run(main))

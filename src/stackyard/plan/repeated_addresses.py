"""
Values that a copy changes elsewhere: a published port behind localhost, an address of a moved subnet.

They are reported, and changed only where the project's configuration names them: a value may mean the user's own stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard.plan.records import Change, Concern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackyard.plan.networks import Moved

HOSTS: Final = r"(?:localhost|127\.0\.0\.1|\[::1\]|host\.docker\.internal)"  # 0.0.0.0 is where a service listens
_ADDRESS: Final = re.compile(rf"(?<![\w.-])({HOSTS}):([0-9]{{1,5}})(?![0-9])", re.IGNORECASE)
_IPV4: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacements:
    """
    What moved, by its old text.

    Attributes:
        ports: New TCP port by old one; of a number that several services published, none.
        subnets: Subnets that moved.
    """

    ports: Mapping[int, int]
    subnets: Sequence[Moved]

    def rewrite(self, text: str) -> str:
        """Return *text* with every old port behind a loopback host, and every old address, replaced."""
        ported = _ADDRESS.sub(lambda m: f"{m[1]}:{self.ports.get(int(m[2]), m[2])}", text)
        return _IPV4.sub(lambda m: next((a for s in self.subnets if (a := s.address(m[0]))), m[0]), ported)


def follow(
    model: dict[str, Any], replaced: Replacements, rewrite: frozenset[str]
) -> tuple[list[Change], list[Concern]]:
    """
    Rewrite the values that *rewrite* names, and report the others.

    Args:
        model: The rendered model; it is changed.
        replaced: What moved.
        rewrite: Variables as ``SERVICE.VARIABLE``.
    """
    changes: list[Change] = []
    concerns: list[Concern] = []
    for name, service in model["services"].items():
        environment = service.get("environment") or {}
        for key, value in environment.items():
            after = replaced.rewrite(str(value)) if isinstance(value, str) else value
            if after == value:
                continue
            place = f"services.{name}.environment.{key}"
            if f"{name}.{key}" in rewrite:
                environment[key] = after
                changes.append(Change(
                    kind="value", place=place, before=value, after=after, why="rewrite in the configuration names it",
                ))  # fmt: skip
            else:
                concerns.append(_asks(place, value, f'set rewrite = ["{name}.{key}"] to let it follow the copy'))
        concerns += _elsewhere(name, service, replaced)
    return changes, concerns


def _asks(place: str, value: str, advice: str) -> Concern:
    shown = value if len(value) <= 80 else f"{value[:77]}..."  # noqa: PLR2004 - one terminal line
    return Concern(level="asks", place=place, text=f"has an address that a copy changes: {shown}", advice=advice)


def _elsewhere(name: str, service: Mapping[str, Any], replaced: Replacements) -> Iterator[Concern]:
    """Report the same in commands and labels, which no rule rewrites."""
    for key in ("command", "entrypoint", "labels"):
        for text in _texts(service.get(key)):
            if replaced.rewrite(text) != text:
                yield _asks(f"services.{name}.{key}", text, "use a variable, or a service name, instead")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (str(item) for item in value.values())
    elif isinstance(value, list):
        yield from (str(item) for item in value)

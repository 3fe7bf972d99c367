"""What the copy of a project needs of a lease: any number of ports, each with a name, and networks of any size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from stackyard.settings import SUBNET_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY: Final = re.compile(
    r"(?P<service>[A-Za-z0-9][A-Za-z0-9._-]*?)_(?P<target>[0-9]{1,5})_(?P<protocol>tcp|udp|sctp)"
    r"(?:_(?P<number>[0-9]{1,5}))?",
    re.ASCII,
)
LONGEST_SLUG: Final = 24  # characters of a project's name in the names of its copies


class PortName(NamedTuple):
    """
    A leased port's name, taken apart: ``web_80_tcp``, or ``web_80_tcp_2`` for the second host port of the same.

    Attributes:
        service: The service.
        target: The container's port.
        protocol: tcp, udp or sctp.
        number: 1 for the first host port of this target, 2 for the next.
    """

    service: str
    target: int
    protocol: str
    number: int = 1

    def __str__(self) -> str:
        more = f"_{self.number}" if self.number > 1 else ""
        return f"{self.service}_{self.target}_{self.protocol}{more}"

    @classmethod
    def parse(cls, text: str) -> PortName | None:
        """Take *text* apart; None if it is no such name."""
        found = _KEY.fullmatch(text)
        if found is None or str(name := cls(found["service"], int(found["target"]), found["protocol"],
                                            int(found["number"] or 1))) != text:  # fmt: skip
            return None
        return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """
    The place that a copy of a project needs.

    Attributes:
        ports: Names of its host ports, each once.
        prefixes: Prefix length of each of its IPv4 networks.
        exclusive: Words for what only one lease of the book can have, such as ``host-network``.
    """

    ports: tuple[str, ...] = ()
    prefixes: tuple[int, ...] = (SUBNET_PREFIX,)
    exclusive: tuple[str, ...] = ()

    def blocks(self, size: int) -> int:
        """Return how many consecutive blocks of *size* ports hold its ports; at least one, which is its slot."""
        return max(1, -(-len(self.ports) // size))


def port_names(wanted: Iterable[tuple[str, int, str]]) -> list[str]:
    """Return a name for each service, target and protocol; the same three again get a number."""
    seen: dict[tuple[str, int, str], int] = {}
    names = []
    for item in wanted:
        seen[item] = seen.get(item, 0) + 1
        names.append(str(PortName(*item, seen[item])))
    return names

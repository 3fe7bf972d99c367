"""The ports of a lease as one word, in the book, in env files and in labels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stackyard.leases.needs import PortName
from stackyard.project.environments.services import SERVICE

if TYPE_CHECKING:
    from collections.abc import Mapping

_SERVICE: Final = re.compile(SERVICE, re.ASCII)


def ports_text(ports: Mapping[str, int], spare: tuple[int, ...]) -> str:
    """Write ports as one word, such as ``postgres:9500,redis:9501,spare:9505-9509``."""
    words = [f"{service}:{port}" for service, port in ports.items()]
    if spare:
        words.append(f"spare:{spare[0]}-{spare[-1]}")
    return ",".join(words)


def parse_ports(text: str) -> tuple[dict[str, int], tuple[int, ...]] | None:
    """Read a text that *ports_text* wrote; None for any other."""
    ports: dict[str, int] = {}
    spare: tuple[int, ...] = ()
    try:
        for word in text.split(","):
            name, _, value = word.partition(":")
            if name == "spare":
                first, last = value.split("-")
                spare = tuple(range(_port(first), _port(last) + 1))
            else:
                ports[name] = _port(value)
    except ValueError:
        return None
    # of an environment or of a copy, never of both
    known = all(map(_SERVICE.fullmatch, ports)) or all(map(PortName.parse, ports))
    return (ports, spare) if known else None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:  # noqa: PLR2004 - TCP ports
        raise ValueError(text)
    return int(text)

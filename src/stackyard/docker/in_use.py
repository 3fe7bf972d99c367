"""The host ports and networks that an engine's containers use: a new lease must avoid them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackyard.docker import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """
    Host ports and networks in use by containers, also by those of other programs.

    Attributes:
        ports: Published host ports.
        subnets: Networks in CIDR notation.
    """

    ports: frozenset[int]
    subnets: tuple[str, ...]


def strangers(engine: Engine) -> Taken:
    """
    List what the engine's containers and networks occupy.

    Raises:
        EngineError: If the engine does not answer.
    """
    return Taken(ports=frozenset(engine.published_ports()), subnets=tuple(engine.subnets()))

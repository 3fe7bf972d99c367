"""The host of an engine: its version, processors and memory, and how many copies run there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackyard.docker.engine import plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.ownership import COPY_LABEL
from stackyard.docker.records import LEASE_LABEL

if TYPE_CHECKING:
    from stackyard.docker import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """
    What one engine says of itself.

    Attributes:
        version: The engine's version.
        processors: Processors of its host.
        memory_bytes: Memory of its host.
        copies: Copies of Compose projects that have containers there, of all users and machines.
        manages_swarm: Whether it is a manager of a Swarm.
    """

    version: str
    processors: int
    memory_bytes: int
    copies: int
    manages_swarm: bool

    @classmethod
    def ask(cls, engine: Engine) -> EngineFacts:
        """
        Ask *engine*.

        Raises:
            EngineError: If it does not answer.
        """
        with plain_errors("asking the engine about its host"):
            found = Part(engine.api.info())
            copies = {item.labels.get(LEASE_LABEL) for item in engine.containers([COPY_LABEL])}
            return cls(
                version=found.text("ServerVersion"), processors=found.whole("NCPU"),
                memory_bytes=found.whole("MemTotal"), copies=len(copies),
                manages_swarm=bool(found.get("Swarm").get("ControlAvailable").value),
            )  # fmt: skip

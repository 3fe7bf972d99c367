"""The records of watching: a service at one moment, and all stacks at one moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.docker.usage import Sighting, Usage

# keys of a use in JSON where they are not its attributes' names
KEYS: Final = {
    "cpu_s": "cpu_seconds", "memory": "memory_bytes", "memory_limit": "memory_limit_bytes",
    "memory_peak": "memory_peak_bytes",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    One service of one stack.

    Attributes:
        environment: Its stack's environment.
        lease: Its stack's lease.
        seen: What was seen of its container; None when it has none although others of its stack do.
        cpu_percent: CPU time since the look before, 100 being one CPU; None at the first look.
        name: Its lease's name; None if it has none.
    """

    environment: str
    lease: str
    service: str
    seen: Sighting | None
    cpu_percent: float | None = None
    name: str | None = None

    @property
    def up(self) -> bool:
        """True while it runs and its health check has not given up on it."""
        return self.seen is not None and self.seen.state.well

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data; what is measured has its unit in its key."""
        state, usage = (self.seen.state, self.seen.usage) if self.seen else (None, None)
        return {
            "environment": self.environment, "lease": self.lease, "name": self.name, "service": self.service,
            "up": self.up, "status": state.status if state else "missing", "health": state.health if state else "none",
            "restarts": state.restarts if state else None, "oom_killed": state.oom_killed if state else None,
            "exit_code": state.last_exit if state else None, "cpu_percent": self.cpu_percent,
            "usage": _plain(usage) if usage else None,
        }  # fmt: skip


def _plain(usage: Usage) -> dict[str, Any]:
    return {KEYS.get(key, key): value for key, value in asdict(usage).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All services at one moment, sorted by environment, lease and name; times in seconds of the monotonic clock."""

    at: float
    seconds: float
    services: Sequence[Service]

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {"seconds": round(self.seconds, 4), "services": [each.to_json() for each in self.services]}

"""The result of one clean-up: what it removed, and what is left and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from stackyard._util.advice import Action, typed
from stackyard._util.tables import format_list
from stackyard.errors import LeftoversError


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """
    One thing that could not be removed.

    Attributes:
        kind: container, network or volume; stack for all of it, on an engine that was not asked.
        name: Its name.
        lease: The lease it belongs to.
        reason: The engine's words, or who still uses it.
    """

    kind: str
    name: str
    lease: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """
    What one clean-up did.

    Attributes:
        removed: `kind name` of everything removed.
        left: What is still there, with reasons.
        leases: Ids of the leases released.
        seconds: Wall time, the proving list included.
    """

    removed: list[str] = field(default_factory=list)
    left: list[Leftover] = field(default_factory=list)
    leases: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)

    def check(self, then: str = "") -> Removal:
        """
        Return the record itself.

        Args:
            then: The command that removes what is left, once it can be removed; by default a clean-up.

        Raises:
            LeftoversError: If something is left.
        """
        if self.left:
            head, last = f"{len(self.left)} left after the clean-up", f"then '{then or typed(Action.CLEAN_UP)}'"
            if len(self.left) == 1:
                raise LeftoversError(f"{head}: {self.left[0]}; {last}")
            raise LeftoversError(f"{format_list(head, self.left)}\n{last}")
        return self

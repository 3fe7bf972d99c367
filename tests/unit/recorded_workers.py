"""Workers of a reaper that only record what they were asked to do, and leases for them to see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lease_records import Surroundings

from stackyard.leases import Owner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lease_records import Clock

    from stackyard.reaper.loop import Reaper

PRINT = "f" * 64


@dataclass
class Child:
    """A process that ends when the test says so."""

    words: Sequence[str]
    code: int | None = None
    told: bool = False

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.told = True
        self.code = -15


@dataclass
class RecordedWorkers:
    """Notes each command; the newest child is the last."""

    started: list[Child] = field(default_factory=list)

    def __call__(self, words: Sequence[str]) -> Child:
        self.started.append(Child(words))
        return self.started[-1]

    def doing(self) -> list[str]:
        """Name what each was asked to do, in order."""
        return [child.words[3] for child in self.started]


def offer(master: Reaper, root: Path) -> str:
    lease = master.book.acquire(Surroundings(), force=True, attached=True, ttl=1)
    assert master.stacks.offer(lease, root=root, fingerprint=PRINT, keeper=Owner.current())
    return lease.id


def expire(master: Reaper, clock: Clock) -> str:
    lease = master.book.acquire(Surroundings(), force=True, ttl=1)
    clock.sleep(2)
    return lease.id

"""The times of one start, of an environment's stack and of a copy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.fast_start.records import STARTED
from stackyard.stacks.starts.queue import TELL_AFTER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.stacks.readiness.waiting import StackReady

WORTH_A_STEP: Final = 0.01  # seconds; less is not a wait, but the time of the request
STOOD: Final = "none: it was running already"  # what made the containers of a stack that stood before


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """
    The times of one start, in seconds since its turn came.

    Attributes:
        seconds: Until the last service was ready; 0 for a copy that was running already.
        by: What made the containers: engine; compose, and why; pool for a warm stack; or none if all of them
            ran already.
        created: Until every container of an environment had been started.
        probes: Until each service of an environment passed its probe.
        steps: Beginning and end of each step: ``render``, ``network``, ``create redis``, ``start redis`` and so on;
            ``compose`` if Compose did everything, ``turn``, before 0, if it had to wait for its turn.
        waited: Until its turn came; not part of the other times.
        ready: How each service of a copy proved usable; None where the start did not wait for that.
        started: Until each service's containers had been started; empty if Compose started them.
        waits: What each service of a copy waited for: another service, and the condition of `depends_on`.
    """

    seconds: float
    by: str = "engine"
    created: float = 0.0
    probes: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    waited: float = 0.0
    ready: StackReady | None = None
    started: Mapping[str, float] = field(default_factory=dict)
    waits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def after(self, waited: float) -> Startup:
        """Return the same start after *waited* seconds of waiting for a turn, as a step if it is worth one."""
        steps = {"turn": (-waited, 0.0), **self.steps} if waited >= WORTH_A_STEP else self.steps
        return dataclasses.replace(self, waited=waited, steps=steps)

    def told(self) -> str:
        """Return the line for the user; it names the wait if it was long enough to notice."""
        if not self.seconds:
            return "it was running already"
        wait = f", after {self.waited:.1f} s of waiting for its turn" if self.waited >= TELL_AFTER else ""
        return f"ready after {self.seconds:.2f} s{wait}"

    @property
    def critical_path(self) -> list[str]:
        """The services that made the start as long as it was: the last to be ready, and what it waited for longest."""
        proved = {one.service: one.seconds for one in self.ready.services} if self.ready else {}
        path = [*proved][-1:]
        while path and (waits := self.waits.get(path[0])):
            held = {
                other: self.started.get(other, 0.0) if condition == STARTED else proved[other]
                for other, condition in waits.items() if other in proved
            }  # fmt: skip
            if not held:
                break
            path.insert(0, max(held, key=lambda other: held[other]))
        return path

    def to_json(self) -> dict[str, Any]:
        """Return what commands say of a copy's start, as plain data."""
        return {
            "seconds": self.seconds, "by": self.by, "critical_path": self.critical_path, "started": dict(self.started),
            "ready": self.ready and self.ready.to_json()["services"],
        }  # fmt: skip


STANDING: Final = Startup(seconds=0.0, by=STOOD)

"""Proof that services of a copy are usable again after their data or their connections have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackyard._util.event_loops import outside_any_loop, run
from stackyard.docker import inspection
from stackyard.docker.records import PROJECT_LABEL
from stackyard.errors import NotReadyError
from stackyard.stacks.readiness import waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stackyard.docker import Engine
    from stackyard.leases import Lease
    from stackyard.project.readiness_hints import Hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """
    What it takes to ask the services of a copy.

    Attributes:
        engine: Where the copy is.
        lease: Its lease.
        model: Its model.
        hints: What the configuration says about the readiness of services.
    """

    engine: Engine
    lease: Lease
    model: Mapping[str, Any]
    hints: Mapping[str, Hint]

    def wait(self, services: Iterable[str], deadline: float) -> None:
        """
        Wait until *services* are usable.

        Raises:
            NotReadyError: If one is not within *deadline* seconds.
        """
        kept = {name: self.model["services"][name] for name in services}
        hints = {name: hint for name, hint in self.hints.items() if name in kept}
        model = {**self.model, "services": kept}
        outside_any_loop(lambda: run(waiting.wait(self.engine, self._labels, model, deadline=deadline, hints=hints)))

    def wait_again(self, running: Mapping[str, str], deadline: float) -> None:
        """
        Wait until the services of containers that were running are usable; start those that have ended since.

        A service may end when its connection to a database is cut.

        Args:
            running: Their services, by name of the container.
            deadline: Seconds.

        Raises:
            NotReadyError: If one is not usable in time.
        """
        try:
            self.wait({*running.values()}, deadline)
        except NotReadyError:
            ended = [one.name for one in inspection.seen(self.engine, self._labels) if one.status == "exited"]
            if not {*ended} & running.keys():
                raise
            for name in ended:
                if name in running:
                    self.engine.start(name)
            self.wait({*running.values()}, deadline)

    @property
    def _labels(self) -> list[str]:
        return [f"{PROJECT_LABEL}={self.lease.project}"]

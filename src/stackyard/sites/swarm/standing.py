"""Whether a copy on a Swarm still has each container of its model, and whether each runs or has ended as it should."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stackyard.docker.records import MISSING, with_missing
from stackyard.docker.swarm import ENDED, LOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.docker.swarm import Task

COMPLETE: Final = "complete"


class Expected(msgspec.Struct, frozen=True):
    """
    What a copy needs of one service, as its lease keeps it.

    Attributes:
        containers: How many it has.
        may_end: Whether it is as it should be once it has ended with exit code 0.
        checked: Whether its node runs a health check.
    """

    containers: int = 0
    may_end: bool = True
    checked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    How one container of a copy is doing.

    Attributes:
        service: Its service.
        status: The state of its task; `lost` if its node is, `missing` for one that should be there.
        health: starting, healthy, unhealthy, or none without a health check.
        exit_code: Of its last end; None while it runs, and before it has run.
        restarts: How many containers before it the Swarm still lists.
        node: The name of its node; empty while it has none.
        reason: Why it is not further, or why it ended; may be empty.
    """

    service: str
    status: str
    health: str = "none"
    exit_code: int | None = None
    restarts: int = 0
    node: str = ""
    reason: str = ""

    @property
    def words(self) -> str:
        """Its status with the exit code and the reason."""
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return f"{self.status}{code}{f' ({self.reason})' if self.reason else ''}"

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)


class Standing:
    """
    The containers of a copy, compared with what its lease says.

    Args:
        tasks: The newest task of each place of a service.
        expected: What the copy needs; a service that it does not name counts as it is.
        nodes: The name of each node, by its id.

    Attributes:
        states: The state of each container, sorted by service.
    """

    def __init__(self, tasks: Sequence[Task], expected: Mapping[str, Expected], nodes: Mapping[str, str]) -> None:
        self._expected = expected
        found = [self._state(task, nodes) for task in sorted(tasks, key=lambda task: task.slot)]
        wanted = {name: each.containers for name, each in expected.items()}
        self.states = with_missing(found, wanted, lambda service: State(service=service, status=MISSING))

    def _state(self, task: Task, nodes: Mapping[str, str]) -> State:
        return State(
            service=task.service, status=task.state, health=self._health(task), exit_code=task.last_exit,
            restarts=task.restarts, node=nodes.get(task.node, task.node), reason=task.reason,
        )  # fmt: skip

    def _health(self, task: Task) -> str:
        """Return what the Swarm says of a health check: it calls a container running once the check has passed."""
        if not self._wanted(task.service).checked:
            return "none"
        if "unhealthy" in task.reason:
            return "unhealthy"
        return {"running": "healthy", "starting": "starting"}.get(task.state, "none")

    def _wanted(self, service: str) -> Expected:
        return self._expected.get(service, Expected())

    @property
    def is_well(self) -> bool:
        """True while each container runs, or had one thing to do and did it."""
        return all(state.status == "running" or self._may_rest(state) for state in self.states)

    @property
    def lost(self) -> dict[str, str]:
        """The services that will not run again by themselves, and what has become of each."""
        down = {MISSING, LOST, COMPLETE, *ENDED}
        return {
            state.service: state.words for state in self.states if state.status in down and not self._may_rest(state)
        }

    def _may_rest(self, state: State) -> bool:
        return state.status == COMPLETE and self._wanted(state.service).may_end

"""The state of a copy's services on a Swarm, and whether each has proved itself usable."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stackyard._util.event_loops import run
from stackyard.probes.container_answers import unix_time
from stackyard.probes.idleness import Idleness
from stackyard.sites.swarm.port_readiness import PortProof

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.docker.swarm import Swarm, Task
    from stackyard.probes.readiness_rules import Rule

LOOP: Final = 3  # ends after which a service that is started again has failed
STARTED: Final = frozenset({"starting", "running", "complete"})
LATE: Final = 0.25  # how late the news of an end may be, as a share of what a service has needed until it ran
LONGEST: Final = 3.0  # seconds that such news is waited for at most; pulling an image makes a start long, too
LINES: Final = 200  # of a log that may hold the line that a rule waits for


class FailedError(Exception):
    """A service will not become ready; the text says which and why."""


@dataclass(slots=True)
class Progress:
    """
    One service of a copy from its creation until it is ready.

    Attributes:
        rule: What proves it usable.
        count: How many containers it has.
        id: The service's id on the Swarm.
        retries: Whether the Swarm starts it again after a failure.
        how: What it showed when it was ready; empty until then.
        last: What it showed last.
        tasks: Its containers, the newest of each slot.
        silent_since: Monotonic time since when it has written nothing, no container of it was started, and none of
            its ports has listened; None while that is not so, and where its rule insists on an answer.
        running: The containers that the Swarm last said to run, and since when.
        made: When it was created.
    """

    rule: Rule
    count: int
    id: str
    retries: bool
    how: str = ""
    last: str = "has no container yet"
    tasks: Sequence[Task] = ()
    silent_since: float | None = None
    running: tuple[frozenset[str], float] = (frozenset(), 0.0)
    made: float = field(default_factory=time.monotonic)
    _proofs: dict[str, PortProof] = field(default_factory=dict)  # by container
    _idleness: Idleness | None = None

    @property
    def started(self) -> bool:
        """Whether each of its containers has been started."""
        return len(self.tasks) >= self.count and all(task.state in STARTED for task in self.tasks)

    @property
    def pending(self) -> str:
        """Why the Swarm finds no node for it; empty if it has one."""
        return next((task.reason for task in self.tasks if task.state == "pending" and task.reason), "")

    @property
    def warning(self) -> str:
        """What the user should know where its proof is not whole; empty if it is."""
        return "; ".join(dict.fromkeys(proof.warning for proof in self._own() if proof.warning))

    def give_up(self) -> None:
        """Count it as ready although none of its ports listens: it has been silent for too long."""
        for proof in self._own():
            if not proof.how:
                proof.give_up()
        self.how = self._shown()

    def look(self, swarm: Swarm, tasks: Sequence[Task], addresses: Mapping[str, str], names: Mapping[str, str]) -> None:
        """
        Judge the service by its tasks, and ask its ports.

        Args:
            swarm: Where it is.
            tasks: All its tasks, the oldest first.
            addresses: The address of each node that is ready.
            names: The name of each node.

        Raises:
            FailedError: If it has failed.
        """
        self.tasks, self.silent_since = list({task.slot: task for task in tasks}.values()), None
        self._judge(tasks, addresses, names)
        if len(self.tasks) < self.count:
            return
        if any(task.desired == "shutdown" and task.state == "running" for task in self.tasks):
            self.last = "the Swarm ends its container, to start another one"
            return
        states = {task.state for task in self.tasks}
        if states == {"complete"} and (self.rule.may_end or self.rule.kind == "exit 0"):
            self.how = "ended with exit code 0"
        elif states == {"running"} and self.rule.kind != "exit 0":
            self.how = self._asked(swarm, addresses)
        else:
            self.last = "; ".join(sorted({task.said for task in self.tasks}))

    def watch(self, tasks: Sequence[Task], addresses: Mapping[str, str], names: Mapping[str, str]) -> None:
        """
        See whether the service, which was ready, has failed since.

        Raises:
            FailedError: If it has.
        """
        self.tasks = list({task.slot: task for task in tasks}.values())
        self._judge(tasks, addresses, names)

    def _judge(self, tasks: Sequence[Task], addresses: Mapping[str, str], names: Mapping[str, str]) -> None:
        name, newest = self.rule.service, self.tasks
        ended = [task for task in tasks if task.failed and task.reason]
        if self.rule.kind != "exit 0" and not self.rule.may_end:
            ended += [task for task in newest if task.state == "complete" and not self.retries]
        here = "keeps the Swarm from starting the service on another one"
        lost = [task for task in newest if task.node and task.node not in addresses and task.state != "complete"]
        if lost and not self.retries:
            node = names.get(lost[0].node, lost[0].node)
            raise FailedError(f"{name}: node {node} was lost, and 'restart: no' {here}")
        taken = [task for task in newest if task.desired == "shutdown" and not task.reason and task.state != "complete"]
        if taken and not self.retries and not ended:
            node = names.get(taken[0].node, "")
            raise FailedError(f"{name}: the Swarm ended its container on node {node}, and 'restart: no' {here}")
        if ended and (not self.retries or len(ended) >= LOOP):
            where = names.get(ended[-1].node, "")
            raise FailedError(f"{name} {ended[-1].said}{f' on node {where}' if where else ''}")

    def _asked(self, swarm: Swarm, addresses: Mapping[str, str]) -> str:
        """Return what it showed, if that is enough."""
        match self.rule.kind:
            case "health check":
                return "its health check passed on the node"
            case "command":
                return "its client's check passed on the node"
            case "log":
                return self._logged(swarm)
            case "running":
                return self._ran()
        wanted = [port for port in self.rule.ports if (port.number, port.protocol) in self.tasks[0].ports]
        if not wanted:
            return self._ran("no port of it is published, so nothing outside the node can ask it; ")
        fresh = [task.container for task in self.tasks if task.container not in self._proofs]
        self._proofs |= {container: PortProof(self.rule) for container in fresh}
        for task, proof in zip(self.tasks, self._own(), strict=True):
            if not proof.how:
                run(proof.ask(task, addresses.get(task.node, ""), wanted))
        waiting = [proof for proof in self._own() if not proof.how]
        self.last = "; ".join(dict.fromkeys(proof.last for proof in waiting))
        self._note_silence(swarm, silent=bool(waiting) and not fresh and all(proof.silent for proof in waiting))
        return "" if waiting else self._shown()

    def _own(self) -> list[PortProof]:
        return [self._proofs[task.container] for task in self.tasks if task.container in self._proofs]

    def _shown(self) -> str:
        return "; ".join(dict.fromkeys(proof.how for proof in self._own()))

    def _note_silence(self, swarm: Swarm, *, silent: bool) -> None:
        """Note since when nothing happens; a Swarm tells what its containers write, and not what they compute."""
        if not silent:
            self._idleness = None
            return
        self._idleness = self._idleness or Idleness(lambda: self._written(swarm))
        run(self._idleness.measure(time.monotonic()))
        self.silent_since = self._idleness.still_since

    async def _written(self, swarm: Swarm) -> float:
        """Return a number that grows whenever one of its containers writes a line."""
        return max(map(_written_at, swarm.logs(self.id, tail=1, timestamps=True)), default=0.0)

    def _logged(self, swarm: Swarm) -> str:
        lines = swarm.logs(self.id, tail=LINES)
        self.last = "no line of its log matches yet"
        return next((f"its log says: {line}" for line in lines if re.search(self.rule.pattern, line)), "")

    def _ran(self, because: str = "") -> str:
        """Count from when the Swarm first said so: the news of a container's end takes as long as that of its start."""
        containers = frozenset(task.container for task in self.tasks)
        if containers != self.running[0]:
            self.running = containers, time.monotonic()
        late = min((self.running[1] - self.made) * LATE, LONGEST)  # the slower the Swarm, the later is its news
        seen, wanted = time.monotonic() - self.running[1], max(self.rule.seconds, 0.5, late)
        self.last = f"runs for {seen:.1f} s"
        return f"{because}has run for {wanted:.1f} s" if seen >= wanted else ""


def _written_at(line: str) -> float:
    """Return when a line was written; 0 for what follows a carriage return, which has no time of its own."""
    try:
        return unix_time(line.partition(" ")[0])
    except ValueError:
        return 0.0

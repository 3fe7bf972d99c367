"""How the services of a copy are doing on a Swarm, and whether each has proved itself usable."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stackyard._util.loops import run
from stackyard.probes import port_answers
from stackyard.probes.container_readiness import HTTP_PATIENCE, OTHER_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.docker.swarm import Swarm, Task
    from stackyard.probes.readiness_rules import Rule
    from stackyard.project.spoken_ports import Port

LOOP: Final = 3  # ends after which a service that is started again has failed
LIMIT: Final = 1.0  # seconds for one answer
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
        asked: When each port was asked first.
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
    asked: dict[Port, float] = field(default_factory=dict)
    running: tuple[frozenset[str], float] = (frozenset(), 0.0)
    made: float = field(default_factory=time.monotonic)

    @property
    def started(self) -> bool:
        """Whether each of its containers has been started."""
        return len(self.tasks) >= self.count and all(task.state in STARTED for task in self.tasks)

    @property
    def pending(self) -> str:
        """Why the Swarm finds no node for it; empty if it has one."""
        return next((task.reason for task in self.tasks if task.state == "pending" and task.reason), "")

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
        self.tasks = list({task.slot: task for task in tasks}.values())
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
        answers = [run(self._ask(task, port, addresses)) for task in self.tasks for port in wanted]
        self.last = "; ".join(said for good, said in answers if not good)
        good = [said for good, said in answers if good]
        return "; ".join(good) if good and (not self.last or not self.rule.strict) else ""

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

    async def _ask(self, task: Task, port: Port, addresses: Mapping[str, str]) -> tuple[bool, str]:
        host, number = addresses.get(task.node, ""), task.ports.get((port.number, port.protocol), 0)
        if not host or not number:
            return False, f"port {port} is not published yet"
        if port.protocol != "tcp":
            return True, f"port {port} is published"
        if self.rule.kind == "websocket":
            failure = await port_answers.opens_websocket(host, number, self.rule.path, limit=LIMIT)
            return not failure, f"port {port}: {failure or 'a WebSocket opened'}"
        if self.rule.kind == "http" and (port.may_be_http or self.rule.hinted):
            return await self._http(port, host, number)
        opened = await port_answers.stays_open(host, number)
        return opened, f"port {port} {'listens' if opened else 'accepts no connection'}"

    async def _http(self, port: Port, host: str, number: int) -> tuple[bool, str]:
        answer = await port_answers.get(host, number, self.rule.path, limit=LIMIT)
        if answer.status:
            return answer.status < self.rule.below, f"port {port}: {answer.said}"
        patience = HTTP_PATIENCE if port.usually_http or self.rule.hinted else OTHER_PATIENCE
        late = time.monotonic() - self.asked.setdefault(port, time.monotonic()) >= patience
        opened = (answer.other or (late and answer.silent)) and not self.rule.hinted
        return opened, f"port {port}: {answer.said}"

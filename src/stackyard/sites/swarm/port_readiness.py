"""Proof that a container on a Swarm is usable: its published ports answer at its node's address."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stackyard.probes import port_answers
from stackyard.probes.container_answers import Answer
from stackyard.probes.container_readiness import HTTP_PATIENCE, OPTIONAL_S, OTHER_PATIENCE, SILENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.docker.swarm import Task
    from stackyard.probes.readiness_rules import Rule
    from stackyard.project.service_ports import Port

LIMIT: Final = 1.0  # seconds for one answer


@dataclass(slots=True)
class PortProof:
    """
    One container's ports.

    Attributes:
        rule: What proves its service usable.
        how: What the container showed when it was ready; empty until then.
        last: What was missing at the last look.
        silent: Whether none of its ports listens, although the rule does not insist on an answer.
        warning: What the user should know of a proof that is not whole; empty if it is.
        asked: When each port was asked first.
        first: When the first port proved itself; None before.
    """

    rule: Rule
    how: str = ""
    last: str = ""
    silent: bool = False
    warning: str = ""
    asked: dict[Port, float] = field(default_factory=dict)
    first: float | None = None

    async def ask(self, task: Task, host: str, ports: Sequence[Port]) -> None:
        """
        Ask each port once.

        If each is wanted, one that does not listen is given up `OPTIONAL_S` seconds after another has proved
        itself: files publish ports that nothing uses. If none listens, only those who see all services can tell whether
        one still will.

        Args:
            task: The container.
            host: Its node's address; empty while the node is not ready.
            ports: Those of the rule that are published.
        """
        answers = [await self._answer(task, port, host) for port in ports]
        good = [answer.said for answer in answers if answer.good]
        missing = [answer for answer in answers if not answer.good]
        self.last = "; ".join(answer.said for answer in missing)
        dumb = not any(answer.listens for answer in missing)
        self.silent = dumb and not good and self.rule.strict and not self.rule.hinted
        if good and not (missing and self.rule.strict):
            self.how = "; ".join(good)
        elif good:
            self._wait_for_others(good, dumb=dumb)

    def _wait_for_others(self, good: Sequence[str], *, dumb: bool) -> None:
        self.first = time.monotonic() if self.first is None else self.first
        if dumb and time.monotonic() - self.first >= OPTIONAL_S:
            self.warning = f"{self.last}, although the Compose file publishes it"
            self.how = "; ".join([*good, f"{self.last}, {OPTIONAL_S:g} s later"])

    def give_up(self) -> None:
        """Count the container as ready although none of its ports listens: it has been silent for too long."""
        self.warning = f"{self.last}, and the container has written nothing for {SILENCE:g} s"
        self.how = f"has run without writing anything for {SILENCE:g} s; {self.last}"

    async def _answer(self, task: Task, port: Port, host: str) -> Answer:
        number = task.ports.get((port.number, port.protocol), 0)
        if not host or not number:  # it may listen: it has not been asked
            return Answer(good=False, listens=True, said=f"port {port} is not published yet")
        if port.protocol != "tcp":
            return Answer(good=True, listens=True, said=f"port {port} is published")
        if self.rule.kind == "websocket":
            failure = await port_answers.opens_websocket(host, number, self.rule.path, limit=LIMIT)
            said = f"port {port}: {failure or 'a WebSocket opened'}"
            return Answer(good=not failure, listens=True, said=said)
        if self.rule.kind == "http" and (port.may_be_http or self.rule.hinted):
            return await self._http(port, host, number)
        opened = await port_answers.stays_open(host, number)
        said = f"port {port} {'listens' if opened else 'accepts no connection'}"
        return Answer(good=opened, listens=opened, said=said)

    async def _http(self, port: Port, host: str, number: int) -> Answer:
        answer = await port_answers.get(host, number, self.rule.path, limit=LIMIT)
        if answer.status:
            return Answer(good=answer.status < self.rule.below, listens=True, said=f"port {port}: {answer.said}")
        patience = HTTP_PATIENCE if port.usually_http or self.rule.hinted else OTHER_PATIENCE
        late = time.monotonic() - self.asked.setdefault(port, time.monotonic()) >= patience
        opened = (answer.other or (late and answer.silent)) and not self.rule.hinted
        listens = answer.other or answer.silent
        said = f"port {port}: {answer.said}" if listens else f"port {port} accepts no connection"
        return Answer(good=opened, listens=listens, said=said)

"""Copies of a project on a Docker Swarm, from the model of the plan to the proof of the removal."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from stackyard._util.advice import end_and_start
from stackyard.docker.swarm import LOST, SERVICE_LABEL, Swarm, detailed
from stackyard.errors import (
    EngineError,
    LeaseNotFoundError,
    LeftoversError,
    NotReadyError,
    UsageError,
)
from stackyard.plan import Address, oversights
from stackyard.sites.swarm import removal
from stackyard.sites.swarm.keeper import Keeper
from stackyard.sites.swarm.leases import ADDRESSES, PORTS, SERVICES, Lease, Leases
from stackyard.sites.swarm.preparation import Prepared
from stackyard.sites.swarm.standing import Expected, Standing
from stackyard.stacks.copies.leased_project import CopiedProject
from stackyard.stacks.copies.lifecycle import CHANGED, DEADLINE
from stackyard.stacks.diagnostics import squeeze
from stackyard.stacks.logs import Line
from stackyard.stacks.starts.checks import refuse_missing_files
from stackyard.stacks.starts.retries import undo_ended, undone
from stackyard.stacks.starts.times import STANDING, Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stackyard.cleanup.outcome import Removal
    from stackyard.docker import Engine
    from stackyard.docker.swarm import Node, Task
    from stackyard.project import Project

T = TypeVar("T")


class _Port(msgspec.Struct, frozen=True):
    """A published port, as a lease names it."""

    service: str
    target: int
    protocol: str
    published: str = ""
    variables: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.service}/{self.target}/{self.protocol}"


class _Said(msgspec.Struct, frozen=True):
    """The protocol at an address; a login is not kept on the Swarm."""

    scheme: str = ""
    path: str = ""


def _read(text: str, kind: type[T]) -> T | None:
    """Return what a lease holds; None if it is damaged."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):  # brackets in brackets
        return None


def _seen(task: Task, nodes: Mapping[str, Node]) -> Task:
    """Return a task as it is: the Swarm keeps the last state of the containers of a node that is lost or has left."""
    node = nodes.get(task.node)
    if not task.node or (node and node.state != "down") or task.failed or task.state == "complete":
        return task
    return replace(task, state=LOST, reason=f"node {node.name} is down" if node else "its node has left the Swarm")


@dataclass(slots=True)
class Copy:
    """
    One copy on a Swarm.

    Attributes:
        lease: Its lease.
        swarm: Where it is.
        startup: How its start went.
        changes: What the translation dropped or changed; empty for a copy that was running already.
        expected: What it needs of each service; empty for a copy that was running already.
    """

    lease: Lease
    swarm: Swarm
    startup: Startup = STANDING
    changes: tuple[str, ...] = ()
    expected: Mapping[str, Expected] = field(default_factory=dict)
    logins: Mapping[tuple[str, int, str], str] = field(default_factory=dict, repr=False)
    keeper: Keeper | None = None

    @classmethod
    def of(cls, engine: Engine, name: str) -> Self:
        """
        Return the copy of that name.

        Raises:
            LeaseNotFoundError: If there is none.
        """
        swarm = Swarm(engine)
        return cls(Leases(swarm).get(name), swarm)

    def tasks(self) -> list[Task]:
        """Return its containers, the newest of each place of a service; those of a lost node have the state `lost`."""
        kept = _read(self.lease.item.labels.get(PORTS, "{}"), dict[str, list[tuple[int, str, int]]])
        self.swarm.remember({
            container: {(target, protocol): port for target, protocol, port in ports}
            for container, ports in (kept or {}).items()
        })  # fmt: skip
        tasks, nodes = self.swarm.tasks(self.lease.label), {node.id: node for node in self.swarm.nodes()}
        newest = {(task.service, task.slot): task for task in tasks}
        number = Counter((task.service, task.slot) for task in tasks)
        return [replace(_seen(task, nodes), restarts=number[place] - 1) for place, task in newest.items()]

    @property
    def standing(self) -> Standing:
        """The state of each of its containers, and of those that are missing."""
        expected = _read(self.lease.item.labels.get(SERVICES, "{}"), dict[str, Expected])
        return Standing(self.tasks(), expected or {}, {node.id: node.name for node in self.swarm.nodes()})

    @property
    def addresses(self) -> list[Address]:
        """Where its published ports answer now; a service that moved to another node answers there."""
        nodes = {node.id: node.address for node in self.swarm.nodes()}
        known = _read(self.lease.item.labels.get(ADDRESSES, "{}"), dict[str, _Said])
        running = [task for task in self.tasks() if task.state == "running"]
        found = []
        for one in self._ports():
            said, login = (known or {}).get(one.text, _Said()), self.logins.get((one.service, one.target, one.protocol))
            found += [
                Address(
                    service=one.service, target=one.target, protocol=one.protocol, host=nodes[task.node],
                    port=task.ports[one.target, one.protocol], scheme=said.scheme, path=said.path, login=login or "",
                    published=one.published,
                )
                for task in running
                if task.service == one.service and (one.target, one.protocol) in task.ports and task.node in nodes
            ]  # fmt: skip
        return found

    @property
    def services(self) -> dict[str, str]:
        """The names of its services in the Compose file, each with the service's id on the Swarm."""
        found = self.swarm.labelled("service", self.lease.label)
        return {item.labels[SERVICE_LABEL]: item.id for item in found if SERVICE_LABEL in item.labels}

    @property
    def grace(self) -> dict[str, int]:
        """The seconds that each service gets to end when the copy is removed; none unless it was started so."""
        return removal.grace(self.swarm, self.lease.label)

    def require_grace(self) -> None:
        """
        Refuse a graceful end of a copy that was not started for one: a Swarm's service keeps what it was made with.

        Raises:
            UsageError: If no service gets time to end.
        """
        if not self.grace:
            raise UsageError(
                f"copy {self.lease.name} was started without --graceful, so the Swarm ends its services at once; leave "
                "--graceful out, or start the copy with it"
            )

    def require(self, service: str) -> str:
        """
        Return the id that a service of the copy has on the Swarm.

        Raises:
            UsageError: If the copy has no such service.
        """
        known = self.services
        if service not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise UsageError(f"copy {self.lease.name} has no service {service}; its services: {listed}")
        return known[service]

    def logs(self, service: str, *, tail: int = 50) -> list[str]:
        """Return the last lines that a service of the copy wrote, wherever its containers are."""
        return self.swarm.logs(self.require(service), tail=tail)

    def lines(self, services: Sequence[str], *, tail: int, since: int = 0) -> list[Line]:
        """
        Return the last *tail* lines of each container of *services*, of all without one, oldest first.

        Args:
            services: Which of its services.
            tail: How many lines.
            since: Whole seconds of Unix time; only lines written from then on count. 0 means all.

        Raises:
            UsageError: If the copy has no such service.
        """
        written = {
            one: self.swarm.logs(self.require(one), tail=tail, since=since, timestamps=True, details=True)
            for one in services or sorted(self.services)
        }
        found = [(one, *detailed(line)) for one, lines in written.items() for line in lines]
        return sorted((Line(at, one, text, task) for one, at, task, text in found), key=lambda line: line.at)

    def open_ports(self) -> str:
        """Return the published ports of each container, as its lease keeps them."""
        return json.dumps({
            task.container: [(*inside, outside) for inside, outside in task.ports.items()]
            for task in self.tasks() if task.ports
        })  # fmt: skip

    def publishes(self, service: str) -> bool:
        """Say whether the Compose file publishes a port of *service*."""
        return any(port.service == service for port in self._ports())

    def port_variables(self, found: Sequence[Address]) -> dict[str, str]:
        """
        Return the variables of the project's own files that give its ports, such as ``WEB_PORT``.

        Args:
            found: Where it answers now; a port that answers nowhere has no variable.
        """
        ports = {(one.service, one.target, one.protocol): str(one.port) for one in found}
        return {
            variable: ports[key] for one in self._ports() for variable in one.variables
            if (key := (one.service, one.target, one.protocol)) in ports
        }  # fmt: skip

    def _ports(self) -> list[_Port]:
        return _read(json.dumps(self.lease.data.get("ports", [])), list[_Port]) or []

    def said(self, service: str) -> str:
        """Return the state of each container of *service*, and its node."""
        nodes = {node.id: f" on node {node.shown}" for node in self.swarm.nodes()}
        found = [f"{task.said}{nodes.get(task.node, '')}" for task in self.tasks() if task.service == service]
        return "; ".join(found) or "it has no container"

    def evidence(self, tail: int) -> str:
        """Return the state of each container, and the last *tail* lines of each service."""
        tasks = self.tasks()
        found = []
        for name, identity in sorted(self.services.items()):
            found += [f"{name}: {task.said}" for task in tasks if task.service == name]
            try:
                found += [f"  | {line}" for line in squeeze(self.swarm.logs(identity, tail=tail))]
            except EngineError as error:
                found.append(f"  its log cannot be read: {error}")
        return "\n".join(found)

    def down(self) -> Removal:
        """
        Remove the copy.

        Raises:
            LeaseNotFoundError: If another command removes it.
            LeftoversError: If something is left; the lease stays.
        """
        if self.keeper:
            self.keeper.stop()
        leases = Leases(self.swarm)
        while (lease := leases.get(self.lease.name)).id == self.lease.id and not leases.take(lease):
            pass  # its owner renewed it in the meantime
        if lease.id != self.lease.id:
            raise LeaseNotFoundError(f"copy {self.lease.name} was ended by another command")
        return removal.remove(self.swarm, lease)


def start(
    project: Project,
    engine: Engine,
    *,
    name: str | None = None,
    ttl: float | None = None,
    deadline: float | None = None,
    wait: float | None = None,
    graceful: bool = False,
    progress: Callable[[str], None] = lambda _line: None,
) -> Copy:
    """
    Start a copy of *project* on the Swarm that *engine* manages; the copy that has *name* already is returned as it is.

    Copies whose lease has ended are removed first.

    Args:
        project: The project.
        engine: A manager of the Swarm.
        name: The copy's name.
        ttl: Seconds that it stays; None: until this process ends.
        deadline: Seconds until the start has failed; None takes the configuration's, else `DEADLINE`.
        wait: Seconds more, which services may wait for a node with room for them.
        graceful: Whether services get time to end when the copy is removed, their `stop_grace_period`.
        progress: Called with a line whenever the user should know something.

    Raises:
        UsageError: If a part of the project cannot be had on a Swarm; one line for each.
        NotReadyError: If a service failed; the text says which and why.
        StackyardError: If anything else on the way fails; nothing made here is left.
    """
    swarm = Swarm(engine)
    leases, origin = Leases(swarm), CopiedProject.of(project)
    _sweep(swarm, progress)
    refuse_missing_files(project)
    for line in oversights.warnings(project):
        progress(line)
    usual = project.model()
    prepared = Prepared.of(project, usual, swarm, origin.name, progress)
    digest = prepared.digest()
    lease = leases.acquire(
        origin.name, name, {"folder": str(origin.root), "ports": prepared.ports(), "digest": digest}
    )  # fmt: skip
    if lease is None:
        found = _standing(Copy.of(engine, str(name)), digest, progress)
        if ttl is not None:
            found.lease = leases.renew(found.lease, ttl)
        return found
    copy = Copy(lease, swarm, keeper=Keeper(leases, lease))
    with _failing(copy, project.name, progress):
        limit = (deadline or project.configuration.timeout or DEADLINE) + (wait or 0.0)
        prepared.start(copy, limit, progress, graceful=graceful)
        copy.lease = leases.settle(
            lease, ttl, addresses=json.dumps(prepared.said(copy)), ports=copy.open_ports(),
            services=msgspec.json.encode(copy.expected).decode(),
        )  # fmt: skip
    for one in copy.startup.ready.services if copy.startup.ready else ():
        if one.warning:
            progress(f"warning: {one.warning}")
    if ttl is not None and copy.keeper:
        copy.keeper.stop()
        copy.keeper = None
    return copy


def _sweep(swarm: Swarm, progress: Callable[[str], None]) -> None:
    """Remove the copies whose lease has ended; one that cannot be removed keeps no other from its start."""
    try:
        for ended in removal.sweep(swarm):
            progress(f"removed {ended}, whose lease had ended")
    except LeftoversError as error:
        progress(f"warning: {error}")


def _standing(copy: Copy, digest: str, progress: Callable[[str], None]) -> Copy:
    """Return a copy that is up already, if it is whole; warn if the project has changed since its start."""
    if lost := copy.standing.lost:
        named = ", ".join(f"{service} ({words})" for service, words in lost.items())
        raise NotReadyError(
            f"copy {copy.lease.title} is up, but not every service of it runs: {named}; {end_and_start(copy.lease.id)}"
        )
    if copy.lease.data.get("digest", digest) != digest:
        progress(f"warning: {CHANGED}")
    return copy


@contextlib.contextmanager
def _failing(copy: Copy, title: str, progress: Callable[[str], None]) -> Iterator[None]:
    """Let the start in a `with` block fail without anything left of it; what is left does not hide why it failed."""

    def undo(_taken: str) -> None:
        try:
            copy.down()
        except LeaseNotFoundError:  # another command ended the copy, and this start may have made more since
            removal.emptied(copy.swarm, copy.lease.label, f"copy {copy.lease.name}")

    try:
        yield
    except NotReadyError as error:
        raise NotReadyError(f"{title} did not start: {error}\n{undone(undo)}") from None
    except BaseException as error:
        undo_ended(error, undo, progress)
        raise


def log_in(copy: Copy, project: Project) -> None:
    """Let the addresses of *copy* name users and passwords, if it is a copy of *project*; the Swarm keeps neither."""
    if CopiedProject.of(project).name == copy.lease.project:
        Prepared(project, project.model(), copy.swarm).said(copy)

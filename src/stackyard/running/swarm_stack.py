"""A running copy on a Docker Swarm for its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

from stackyard._util import process
from stackyard._util.event_loops import outside_any_loop
from stackyard.errors import NotReadyError, UsageError
from stackyard.plan import variables
from stackyard.running.stack import Stack
from stackyard.sites.swarm import container_commands, copies
from stackyard.sites.swarm.copies import Copy
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard._util.process import Completed
    from stackyard.cleanup.outcome import Removal
    from stackyard.docker import Engine
    from stackyard.leases import Lease
    from stackyard.plan import Address
    from stackyard.project import Project

LINES: Final = 50  # of each service, where a test failed


class SwarmStack(Stack):
    """
    A running copy of a Compose project on a Docker Swarm.

    Its lease is the Swarm's: it has an id, a name and a deadline, and no ports, because the Swarm gives them.

    Args:
        copy: The copy.
    """

    on_swarm = True

    def __init__(self, copy: Copy) -> None:
        self._there = copy
        self.engine = copy.swarm.engine

    @classmethod
    def attached(cls, engine: Engine, answer: dict[str, Any]) -> Self:
        """Return the stack that another process described with `described`."""
        copy = Copy.of(engine, answer["swarm"])
        copy.startup = Startup(seconds=answer["seconds"], by="none: another process started it")
        copy.logins = {(service, target, protocol): login for service, target, protocol, login in answer["logins"]}
        return cls(copy)

    def described(self) -> dict[str, Any]:
        """Return what another process of this user needs to use it."""
        logins = [[*key, login] for key, login in self._there.logins.items()]
        return {"swarm": self._there.lease.name, "seconds": self.seconds, "logins": logins}

    @property
    def lease(self) -> Lease:
        """Its lease on the Swarm."""
        return cast("Lease", self._there.lease)

    @property
    def project(self) -> str:
        """The beginning of the names of all that belongs to it; no Compose project has this name."""
        return self.lease.id

    @property
    def seconds(self) -> float:
        """How long its start took."""
        return self._there.startup.seconds

    @property
    def services(self) -> list[str]:
        """The names of its services that have containers."""
        return sorted(self._there.services)

    @property
    def addresses(self) -> list[Address]:
        """Where each published port answers now; a service that moved to another node answers there."""
        return self._there.addresses

    @property
    def env(self) -> dict[str, str]:
        """
        Variables that tell programs where it is, as on one engine.

        A variable of the project's files has the port of one container; it is left out if it gives several ports.
        """
        found = self.addresses
        own = {"STACKYARD_LEASE": self.lease.id, "COMPOSE_PROJECT_NAME": self.project}
        return {**self._there.port_variables(found), **own, **variables(found)}

    def _read_logs(self, service: str | None, tail: int) -> str:
        chosen = [service] if service else self.services
        prefix = "" if service else "{} | "
        lines = [f"{prefix.format(one)}{line}\n" for one in chosen for line in self._there.logs(one, tail=tail)]
        return "".join(lines)

    def _run(self, service: str, command: Sequence[str], timeout: float) -> Completed:
        """Run it through the engine of the container's node."""
        return process.run(container_commands.command(self._there, service, command), deadline=timeout, check=False)

    def evidence(self) -> str:
        """Return each service's state and last log lines, for a bug report."""
        return self._there.evidence(LINES)

    def containers(self) -> NoReturn:
        """Refuse: the containers are on several engines."""
        self._without("containers()")

    def status(self) -> NoReturn:
        """Refuse: the containers are on several engines."""
        self._without("status()")

    def reset(self, *_services: str) -> NoReturn:
        """Refuse: the data is on several engines."""
        self._without("reset()")

    def database(self, _service: str) -> NoReturn:
        """Refuse: there is no state of the data to begin with."""
        self._without("database()")

    def _refuse(self, service: str) -> NoReturn:
        """
        Say why *service* has no address.

        Raises:
            NotReadyError: If it publishes a port and none of its containers runs.
            UsageError: If it publishes none, or there is no such service.
        """
        if service in self.services and self._there.publishes(service):
            raise NotReadyError(f"service {service} answers nowhere now: {self._there.said(service)}")
        super()._refuse(service)

    def _without(self, what: str) -> NoReturn:
        raise UsageError(f"stack.{what}: copies on a Swarm do not have this; use a copy for each test, or another site")

    def down(self, *, graceful: bool = False) -> Removal:
        """
        Remove it; the lease ends when nothing is left.

        Args:
            graceful: Let each service end in order, within its `stop_grace_period`; if it was started so.

        Raises:
            UsageError: If *graceful* is true and the copy was not started so.
            LeftoversError: If something is left; the lease stays.
            EngineError: If the manager does not answer; the lease stays.
        """
        if graceful:
            self._there.require_grace()
        return self._there.down()


def on_swarm(
    project: Project, engine: Engine, timeout: float | None, wait: float | None, tell: Callable[[str], None]
) -> SwarmStack:  # fmt: skip
    """
    Start a copy on the Swarm that *engine* manages; its lease ends with this process.

    Args:
        project: The project.
        engine: A manager of the Swarm.
        timeout: Seconds until the start has failed; None takes the usual time.
        wait: Seconds more, which services may wait for a node.
        tell: Called with each line for the user.

    Raises:
        StackyardError: As `copies.start` does.
    """
    return SwarmStack(outside_any_loop(
        lambda: copies.start(project, engine, deadline=timeout, wait=wait, progress=tell)
    ))  # fmt: skip

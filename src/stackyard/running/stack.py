"""A running copy of a Compose project for its tests: addresses, variables, logs, commands inside services."""

from __future__ import annotations

import difflib
import shlex
from typing import TYPE_CHECKING, Final, NoReturn

from stackyard.errors import UsageError
from stackyard.plan import Address, variables
from stackyard.stacks import diagnostics, logs
from stackyard.stacks.data import private_databases
from stackyard.stacks.environments.stack import Stack as AnyStack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from stackyard._util.process import Completed
    from stackyard.cleanup.outcome import Removal
    from stackyard.docker import ContainerState, Resource
    from stackyard.leases import Lease
    from stackyard.stacks.copies.lifecycle import Copy
    from stackyard.stacks.data.records import Reset

EVERY_LINE: Final = 1_000_000  # lines of one service
DEADLINE: Final = 60.0  # seconds that a command inside a service may take


class Stack:
    """
    A running copy of a Compose project.

    Args:
        copy: The copy.

    Attributes:
        engine: The engine that it is on; of a copy on a Swarm, the manager's.
        on_swarm: Whether it is on a Docker Swarm.
    """

    on_swarm = False

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._stack = AnyStack.of(copy.lease, copy.book, copy.engine)
        self.engine = copy.engine

    def __repr__(self) -> str:
        return f"<stack {self.lease.title} of {self.lease.environment}>"

    @property
    def lease(self) -> Lease:
        """Its lease: id, name, ports, subnets."""
        return self._copy.lease

    @property
    def project(self) -> str:
        """Its Compose project name, for `docker compose --project-name` by hand."""
        return self.lease.project

    @property
    def seconds(self) -> float:
        """How long its start took."""
        return self._copy.seconds

    @property
    def services(self) -> list[str]:
        """The names of its services."""
        return sorted(self._copy.model["services"])

    @property
    def addresses(self) -> list[Address]:
        """Where each published port answers, in the order of the Compose file."""
        return self._copy.addresses

    @property
    def env(self) -> dict[str, str]:
        """
        Variables that tell programs where it is.

        ``STACKYARD_WEB_URL``, ``STACKYARD_WEB_80_PORT``, for Compose ``COMPOSE_PROJECT_NAME``, and each variable of
        the project's files that a port comes from, such as ``WEB_PORT``; the program's command `env` prints the same.
        """
        own = {"STACKYARD_LEASE": self.lease.id, "COMPOSE_PROJECT_NAME": self.project}
        return {**self._copy.port_variables, **own, **variables(self.addresses)}

    def address(
        self, service: str, target: int | None = None, protocol: str | None = None, *, number: int = 1
    ) -> Address:
        """
        Return where a published port of *service* answers.

        Args:
            service: A service of the Compose file.
            target: The container's port; None means the first one that the service publishes.
            protocol: tcp, udp or sctp; None means tcp, or whichever the first port has.
            number: Which of the service's containers, from 1, if it has several.

        Raises:
            UsageError: If the stack has no such service, or the service does not publish the port.
        """
        published = [item for item in self.addresses if item.service == service]
        if not published:
            self._refuse(service)
        first = published[0]
        wanted = (target or first.target, protocol or (first.protocol if target is None else "tcp"))
        found = [item for item in published if (item.target, item.protocol) == wanted]
        if not 0 < number <= len(found):
            which = f"{wanted[0]}/{wanted[1]}" + (f" of container {number}" if number != 1 else "")
            listed = ", ".join(dict.fromkeys(f"{item.target}/{item.protocol}" for item in published))
            raise UsageError(f"service {service} publishes no port {which}; it publishes {listed}")
        return found[number - 1]

    def _refuse(self, service: str) -> NoReturn:
        """
        Say why *service* has no address.

        Raises:
            UsageError: Always.
        """
        if service in self.services:
            raise UsageError(f"service {service} publishes no port; add 'ports' to it in the Compose file")
        near = difflib.get_close_matches(service, self.services, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"the project has no service {service!r}; {hint}its services: {', '.join(self.services)}")

    def port(self, service: str, target: int | None = None, protocol: str | None = None, *, number: int = 1) -> int:
        """
        Return the host port of a published port of *service*; arguments and errors are those of `address`.

        Raises:
            UsageError: As `address` does.
        """
        return self.address(service, target, protocol, number=number).port

    def url(self, service: str, target: int | None = None, *, scheme: str | None = None) -> str:
        """
        Return the URL of a published port of *service*, without a slash at its end.

        Args:
            service: A service of the Compose file.
            target: The container's port; None means the first one that the service publishes.
            scheme: The part before ``://``; None means the protocol of the port, with user, password and database if
                the service's own variables hold them, and http if the protocol is not known.

        Raises:
            UsageError: As `address` does.
        """
        found = self.address(service, target)
        return f"{scheme}://{found.where}" if scheme else found.url or f"http://{found.where}"

    def logs(self, service: str | None = None, *, tail: int = EVERY_LINE) -> str:
        """
        Return what *service* wrote to both output streams; without one all services, each line after its name.

        Args:
            service: A service of the Compose file.
            tail: Only this many last lines of each service.

        Raises:
            UsageError: If the stack has no such service.
            EngineError: If the engine does not answer.
        """
        return self._read_logs(service, tail)

    def _read_logs(self, service: str | None, tail: int) -> str:
        lines = logs.read(self._stack, [service] if service else [], tail=tail)
        return logs.text(lines, prefix=service is None, timestamps=False)

    def exec(self, service: str, *command: str, timeout: float = DEADLINE) -> Completed:
        """
        Run a command inside *service*; return its exit code (`returncode`), `stdout` and `stderr`.

        Args:
            service: A service of the Compose file.
            command: Program and arguments; no shell reads them.
            timeout: Seconds that it may take.

        Raises:
            UsageError: If the stack has no such service, no command is given, or no Docker context has the name of the
                service's node in a Swarm.
            CommandError: If the command takes longer than *timeout*.
        """
        if not command:
            raise UsageError(f"which command? stack.exec({service!r}, 'ls', '/') runs one")
        return self._run(service, command, timeout)

    def _run(self, service: str, command: Sequence[str], timeout: float) -> Completed:
        return self._stack.exec_output(service, shlex.join(command), deadline=timeout)

    def evidence(self) -> str:
        """Return each service's state and last log lines, for a bug report."""
        found = diagnostics.collect(self.engine, self.containers(), secrets=())
        return "\n".join(map(str, found))

    def containers(self) -> list[Resource]:
        """Return its containers, running or not."""
        return self._stack.containers()

    def status(self) -> list[ContainerState]:
        """Return the state of each container, sorted by service."""
        return self._stack.status()

    def reset(self, *services: str) -> Reset:
        """
        Bring its data back to the state after the start; return what was done with each service, and how long it took.

        Args:
            services: Only these, and those that share volumes with them; none means all.

        Raises:
            UsageError: If it was not started as resettable, or has no such service.
            NotReadyError: If a service is not usable afterwards.
            StackyardError: If a database or the engine refuses.
        """
        return self._copy.reset(*services)

    def database(self, service: str) -> AbstractContextManager[str]:
        """
        Make a database for one test in *service*, a PostgreSQL; a `with` block gets its URL, and its end drops it.

        It has the content that the configured database had right after the start.

        Raises:
            UsageError: If the stack was not started as resettable, or the service is no PostgreSQL with a port.
            StackyardError: If PostgreSQL refuses.
        """
        return private_databases.database(self._copy, service, self.url(service))

    def down(self, *, graceful: bool = False) -> Removal:
        """
        Remove it with its volumes; the lease ends when nothing is left.

        Args:
            graceful: Let each service end in order, within its `stop_grace_period`.

        Raises:
            EngineError: If the engine does not answer; the lease stays.
        """
        return self._copy.down(graceful=graceful)

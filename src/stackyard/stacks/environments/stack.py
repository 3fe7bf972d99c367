"""
A stack: the containers, network and volumes of one environment under one lease.

A start that fails keeps its evidence, removes what it made (unless it is to be kept) and says why. `start` makes one.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stackyard._util import process
from stackyard._util.advice import Action, typed
from stackyard._util.event_loops import run
from stackyard._util.failpoints import reach
from stackyard.cleanup import removal
from stackyard.docker import lease_engine, unanswered_requests
from stackyard.docker.compose import Compose
from stackyard.docker.ownership import Holdings
from stackyard.docker.records import SERVICE_LABEL
from stackyard.errors import EngineError, NotReadyError, UsageError
from stackyard.leases.stack_lock import still_leased
from stackyard.project.environments.services import variable
from stackyard.stacks import diagnostics
from stackyard.stacks.environments.start import Start
from stackyard.stacks.starts.queue import turn
from stackyard.stacks.starts.retries import failing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from stackyard.cleanup.outcome import Removal
    from stackyard.docker import ContainerState, Engine, MemoryUse, Resource
    from stackyard.leases import Lease, LeaseBook
    from stackyard.probes import Probe
    from stackyard.project.environments import Environment
    from stackyard.stacks.environments.databases import Database
    from stackyard.stacks.environments.resets import EnvironmentReset
    from stackyard.stacks.starts.times import Startup


class Stack:
    """
    The containers, network and volumes of *environment* under *lease*.

    Args:
        environment: What to start; None has the lease's environment read from its checkout where it is needed. Only a
            start, a reset and `docker compose` by hand need it.
        lease: Its ports, subnet, project name and env file.
        book: Where the lease is released once nothing is left.
        engine: The engine it lives on.

    Attributes:
        holdings: What is ours under the lease.
        stood_before: True when `up` found the stack standing; a failure then leaves it as it is.
    """

    def __init__(self, environment: Environment | None, lease: Lease, book: LeaseBook, engine: Engine) -> None:
        self._environment = environment
        self.lease = lease
        self.book = book
        self.engine = engine
        self.holdings = Holdings.of(book.host, lease)
        self.stood_before = False
        self._standing: list[Resource] = []
        self._fresh = lease.owner.kind != "detached"  # no other process knows the lease, and it has made nothing yet

    @classmethod
    def of(cls, lease: Lease, book: LeaseBook, engine: Engine) -> Stack:
        """Return the stack under *lease*, whatever has become of the files that it was made from."""
        return cls(None, lease, book, engine)

    @property
    def environment(self) -> Environment:
        """
        The environment it is of.

        Raises:
            UsageError: If its checkout has no such environment.
            ConfigError: If a file of it is wrong.
        """
        if self._environment is None:
            from stackyard.project.environments import Environment

            checkout = Path(self.lease.checkout)
            root = checkout if self.lease.checkout and checkout.is_dir() else self.book.settings.root
            self._environment = Environment.load(self.lease.environment, root)
        return self._environment

    @property
    def labels(self) -> list[str]:
        """The engine's filter for what carries the labels of the lease; `holdings` finds the rest of it, too."""
        return self.holdings.labels

    @property
    def compose(self) -> Compose:
        """The Compose project a person can drive by hand as well."""
        return Compose(
            file=self.environment.compose_file, env_file=self.lease.env_file, project=self.lease.project
        )  # fmt: skip

    def probes(self) -> list[Probe]:
        """Return one probe for each service, WebSocket included."""
        from stackyard.probes import HttpProbe, probe_for

        variables = self.lease.variables()
        urls = self.lease.urls_in(variables)
        paths = {name: variables.get(variable(name, "READY"), "") for name in urls}
        return [
            HttpProbe(service=name, url=url, path=paths[name]) if paths[name] else probe_for(name, url)
            for name, url in urls.items()
        ]

    def up(
        self,
        *,
        keep: bool = False,
        deadline: float | None = None,
        progress: Callable[[str], None] | None = None,
        last: bool = False,
    ) -> Startup:
        """
        Start every service and return when each has answered its probe.

        Waits while another command is at the stack, and for a turn while others start on this host.

        Args:
            keep: Leave a failed start standing.
            deadline: Seconds from its turn on until it has failed; None takes the environment's start-up budget.
            progress: Called with a line while the start waits for its turn.
            last: Let every other start go first.

        Raises:
            NotReadyError: If a service ended or did not answer in time; carries the evidence.
            CommandError: If another program took a leased port or subnet; what it made is removed.
            RefusedError: As CommandError, from the engine itself.
            LeaseNotFoundError: If another command has ended the lease in the meantime.
        """
        limit = self.environment.budget.startup_s if deadline is None else deadline
        # the turn first: a start that waits for one must not delay a removal of the stack
        with self._turn(progress, last=last) as waited, still_leased(self.lease):
            lease_engine.claim(self.lease, self.engine)
            self._standing = self._found()
            self._fresh = False
            startup = self._up(limit, keep=keep or self.stood_before)
        reach("probe")
        return startup.after(waited)

    def _found(self) -> list[Resource]:
        """List what stands already; for a fresh lease that is nothing, and asking costs a round trip."""
        found = [] if self._fresh else self.holdings.everything(self.engine)
        self.stood_before = any(item.kind == "container" for item in found)
        return found

    def _turn(self, progress: Callable[[str], None] | None, *, last: bool) -> AbstractContextManager[float]:
        """Wait for a turn to start, unless the stack stands already."""
        self._found()
        if self.stood_before:
            return contextlib.nullcontext(0.0)
        return turn(self.book.settings, last=last, progress=progress)

    def _up(self, limit: float, *, keep: bool) -> Startup:
        """Start; a failure removes what was made, evidence first."""
        with failing(lambda error: self._post_mortem(str(error), keep=keep), self._clear, keep=keep):
            return run(self._start(limit))

    def _clear(self, _what: str = "") -> None:
        """Remove what a failed start has made; data that is kept stays."""
        outcome = removal.remove(self.engine, self.holdings, keep_volumes=self.keeps_data)
        unanswered_requests.settle(self.lease, outcome.removed)
        outcome.check(typed(Action.REMOVE, name=self.lease.id))

    async def _start(self, limit: float) -> Startup:
        """Have everything made and probed."""
        begun = Start(self.compose, self.lease, self.engine, self.book.settings, standing=self._standing)
        return await begun.run(self.probes(), limit=limit, trouble=self._trouble)

    def _trouble(self) -> str | None:
        """Name the first service that will not come up any more; None while all may."""
        with contextlib.suppress(EngineError):
            for container in self.holdings.troubled(self.engine):
                state = self.engine.state(container.id)
                if self.is_well(state):  # an engine that has just come back is still at it
                    continue
                return f"service {state.service} is {state.words}"
        return None

    def _post_mortem(self, reason: str, *, keep: bool) -> str:
        """Return why the start failed, with each service's evidence."""
        found = diagnostics.collect(self.engine, self.containers(), secrets=self.lease.secrets())
        repeat = typed(Action.KEEP, environment=self.environment.name)
        return diagnostics.explain(reason, found, repeat=repeat, kept=self.lease.id if keep else None)

    @property
    def keeps_data(self) -> bool:
        """True when its data is in a named volume that outlives it."""
        return self.lease.keeps_data

    def down(self, *, volumes: bool = False) -> Removal:
        """
        Remove the stack at once and release the lease when nothing is left.

        Args:
            volumes: Remove the data volume of an environment that keeps one, too.

        Raises:
            EngineError: If the engine does not answer; the lease is kept.
        """
        keep = self.keeps_data and not volumes
        return removal.remove_lease(self.book, self.engine, self.lease, keep_volumes=keep)

    def containers(self) -> list[Resource]:
        """Return its containers, running or not."""
        return self.holdings.containers(self.engine)

    def status(self) -> list[ContainerState]:
        """Return the state of each of its containers, sorted by service."""
        states = [self.engine.state(container.id) for container in self.containers()]
        return sorted(states, key=lambda state: state.service)

    def is_well(self, state: ContainerState) -> bool:
        """Say whether a service is as it should be: it runs, or it had one thing to do and ended with exit code 0."""
        return state.well or (state.finished and state.service not in self.lease.ports)

    def memory(self) -> dict[str, MemoryUse | None]:
        """Measure each service's memory now; None where a container does not run."""
        found = {container.id: service for service, container in self._containers().items()}
        return dict(sorted((service, self.engine.memory(identity)) for identity, service in found.items()))

    def container(self, service: str) -> Resource:
        """
        Return the container of *service*.

        Raises:
            UsageError: If the stack has no such service.
        """
        found = self._containers()
        if service not in found:
            known = ", ".join(sorted(found)) or "none: it is not up"
            raise UsageError(f"{self.lease.title} has no service {service!r}; its services: {known}")
        return found[service]

    def _containers(self) -> dict[str, Resource]:
        return {item.labels.get(SERVICE_LABEL, item.name): item for item in self.containers()}

    def restart(self, service: str) -> None:
        """Restart one service's container and return when the engine has started it again."""
        self.engine.restart(self.container(service).id)

    def exec(self, service: str, command: str) -> int:
        """
        Run *command* inside *service* on this terminal; return its exit code.

        Args:
            service: Compose service.
            command: Program and arguments, split as a shell would but run without one.

        Raises:
            UsageError: If the service is not there or *command* cannot be split into words.
            NotReadyError: If it does not run.
        """
        terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
        return process.passthrough(self._exec_command(service, command, "--interactive", *terminal), inherit=False)

    def exec_output(self, service: str, command: str, *, deadline: float = 3600.0) -> process.Completed:
        """
        Run *command* inside *service* as `exec` does, and return what it wrote and its exit code.

        Raises:
            UsageError: If the service is not there or *command* cannot be split into words.
            NotReadyError: If it does not run.
            CommandError: If it needs more than *deadline* seconds.
        """
        return process.run(self._exec_command(service, command), deadline=deadline, check=False)

    def _exec_command(self, service: str, command: str, *options: str) -> list[str]:
        container = self.container(service).id
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"--command cannot be split into words ({error}), got {command!r}") from None
        state = self.engine.state(container)
        if state.status != "running":
            raise NotReadyError(f"{service} of {self.lease.title} does not run ({state.words}); no command runs in it")
        return ["docker", "exec", *options, container, *words]

    def reset(self, *, yes: bool = False) -> EnvironmentReset:
        """
        Bring the data of PostgreSQL and Redis back to the state after the start; the services stay up.

        Args:
            yes: Do so even where the data is meant to be kept.

        Raises:
            UsageError: If the environment keeps its data and *yes* is false.
            NotReadyError: If a service does not answer.
            LeaseNotFoundError: If another command has ended the lease in the meantime.
        """
        from stackyard.stacks.environments import resets

        if self.keeps_data and not yes:
            name = self.lease.environment
            raise UsageError(f"environment {name} keeps its data, and a reset deletes it; add --yes to agree")
        with still_leased(self.lease):
            stores = (self.lease.url_of("postgresql"), self.lease.url_of("redis"))
            return resets.reset(*stores, self.lease.speaking("http"))

    def database(self, name: str | None = None) -> Database:
        """
        Make a database for one test: the application's tables, no rows; a `with` block drops it in the end.

        Args:
            name: Small letters, digits and underscores; a new one when left out.

        Raises:
            UsageError: If the name cannot be used or is taken.
            NotReadyError: If PostgreSQL does not answer.
        """
        from stackyard.stacks.environments.databases import clone

        return clone(self.lease.url_of("postgresql"), name)

    async def adatabase(self, name: str | None = None) -> Database:
        """Make a database as *database* does, inside an event loop; `async with` drops it."""
        from stackyard.stacks.environments.databases import aclone

        return await aclone(self.lease.url_of("postgresql"), name)

    def wait(self, *, deadline: float) -> Mapping[str, float]:
        """
        Wait until every probe passes; return each one's seconds.

        Raises:
            NotReadyError: If a service ended or did not answer within *deadline* seconds.
        """
        from stackyard.probes import wait_until_ready

        stop: Callable[[], str | None] = self._trouble
        return run(wait_until_ready(self.probes(), deadline=deadline, stop=stop)).seconds

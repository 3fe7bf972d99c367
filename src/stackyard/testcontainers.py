"""
`DockerCompose` for tests that use testcontainers: the same class, but every instance starts a copy of the project.

    from stackyard.testcontainers import DockerCompose  # instead of testcontainers.compose

    with DockerCompose("path/to/project") as compose:
        host, port = compose.get_service_host_and_port("web", 80)

It is a subclass on purpose. Tests that name testcontainers' class, its containers, its exceptions or its wait
strategies go on working, and the methods that only ask Compose are testcontainers' own. So this module alone needs
testcontainers; the rest of stackyard does not.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stackyard._util.event_loops import outside_any_loop
from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.docker.records import PROJECT_LABEL
from stackyard.errors import NotReadyError, UsageError
from stackyard.leases.records import MODEL
from stackyard.plan.ports import LOOPBACK
from stackyard.project import Project
from stackyard.project.configuration import Configuration
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.readiness import waiting
from stackyard.stacks.starts.request import CopyRequest

try:
    from testcontainers import compose as theirs
    from testcontainers.core.exceptions import ContainerIsNotRunning
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"stackyard.testcontainers needs the library testcontainers ({error}); pip install testcontainers",
        name=error.name,
    ) from None

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stackyard.stacks.copies.lifecycle import Copy

T = TypeVar("T")
LONGEST: Final = 200  # characters of a service's name that an error shows


@dataclass
class ComposeContainer(theirs.ComposeContainer):
    """A container of a copy. Wait strategies ask it for addresses, and get those of the host, not the container's."""

    def get_container_host_ip(self) -> str:
        """Return the host's address of the first published port."""
        found = (item.normalize().URL for item in self.Publishers if item.PublishedPort)
        return next(filter(None, found), LOOPBACK)

    def get_exposed_port(self, port: int) -> int:
        """
        Return the host's port for the container's *port*.

        Raises:
            NoSuchPortExposed: If the container does not publish it.
        """
        return self.get_publisher(by_port=port).normalize().PublishedPort or port


@dataclass
class DockerCompose(theirs.DockerCompose):
    """
    A copy of a Compose project, with the arguments and methods of `testcontainers.compose.DockerCompose`.

    `start` leases ports, subnets and a name, isolates the project, and returns when every service is ready. `stop`
    removes what carries the lease's labels, with the volumes, and proves that nothing is left. Neither touches the
    user's own stack of the project. If the process ends without `stop`, the reaper or the next clean-up removes the
    copy.

    Args:
        timeout: Seconds until a start has failed; None takes the project's configuration, else 120.
    """

    timeout: float | None = None
    _copy: Copy | None = field(default=None, init=False, repr=False, compare=False)
    _configuration: Configuration = field(default_factory=Configuration, init=False, repr=False, compare=False)

    @property
    def compose_command_property(self) -> list[str]:
        """The words of `docker compose` for the copy; for the user's own files while there is no copy."""
        if self._copy is None:
            words: list[str] = vars(theirs.DockerCompose)["compose_command_property"].func(self)
            return words
        lease, program = self._copy.lease, self.docker_command_path or "docker"
        place = ["--project-name", lease.project, "--project-directory", lease.checkout]
        return [program, "compose", *place, "--file", str(lease.directory / MODEL)]

    def start(self) -> None:
        """
        Start a copy; continue the one that `stop(down=False)` has stopped.

        Raises:
            UsageError: If no copy of the project can run, or an argument is wrong.
            NotReadyError: If a service failed; the text says which, and its last lines. Nothing is left then, except
                of a copy that was only stopped.
            StackyardError: If anything else on the way fails.
        """
        if self._copy is None:
            self._start_first()
        else:
            self._start_again(self._copy)
        for service, strategy in (self._wait_strategies or {}).items():
            strategy.wait_until_ready(self.get_container(service))

    def _start_first(self) -> None:
        if self.docker_command_path and Path(self.docker_command_path).name != "docker":
            raise UsageError(f"docker_command_path must lead to docker, got {self.docker_command_path!r}")
        if self.pull:
            quiet = ["--quiet"] if self.quiet_pull else []
            self._run_command(cmd=[*self.compose_command_property, "pull", *quiet])
        project = self._project()
        self._configuration = project.configuration
        asked = CopyRequest(deadline=self.timeout, until_ready=self.wait)
        with Engine() as engine:
            book = open_book(None, engine)
            self._copy = outside_any_loop(lambda: lifecycle.start(project, book, engine, asked))

    def _start_again(self, copy: Copy) -> None:
        try:
            self._run_command(cmd=[*self.compose_command_property, "start"])
        except CalledProcessError as error:
            why = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise NotReadyError(f"copy {copy.lease.title} could not be started again: {why}") from None
        if not self.wait:
            return
        labels = [f"{PROJECT_LABEL}={copy.lease.project}"]
        deadline, hints = self.timeout or self._configuration.timeout or lifecycle.DEADLINE, self._configuration.ready
        with copy.engine as engine:
            work = functools.partial(waiting.wait, engine, labels, copy.model, deadline=deadline, hints=hints)
            outside_any_loop(lambda: asyncio.run(work()))

    def _project(self) -> Project:
        """Find the project, with the chosen services alone if there are any."""
        files, env_files = _listed(self.compose_file_name), _listed(self.env_file)
        found = Project.find(
            Path(self.context).absolute(), files=files, profiles=self.profiles or (), env_files=env_files
        )
        return Part.of(found, self.services) if self.services else found

    def stop(self, down: bool = True) -> None:
        """
        Remove the copy with its volumes; nothing happens if there is none.

        Args:
            down: False only stops the containers. `start` continues them.

        Raises:
            LeftoversError: If something could not be removed; the text names it.
            EngineError: If the engine does not answer.
        """
        if self._copy is None:
            return
        if not down:
            self._run_command(cmd=[*self.compose_command_property, "stop"])
            return
        with self._copy.engine:
            self._copy.down().check()
        self._copy = None

    def get_containers(self, include_all: bool = False) -> list[theirs.ComposeContainer]:
        """Return the copy's containers that run; with *include_all* those that have ended, too."""
        if self._copy is None:
            return []
        return [self._own(item) for item in super().get_containers(include_all=include_all)]

    def _own(self, item: theirs.ComposeContainer) -> ComposeContainer:
        made = ComposeContainer(**{one.name: getattr(item, one.name) for one in fields(item) if one.init})
        made._docker_compose = self  # noqa: SLF001 - as theirs does
        return made

    def get_logs(self, *services: str) -> tuple[str, str]:
        """Return what the copy's services wrote, all of them or *services*: standard output and standard error."""
        return super().get_logs(*services) if self._copy else ("", "")

    def exec_in_container(self, command: list[str], service_name: str | None = None) -> tuple[str, str, int]:
        """
        Run a command in a container of the copy.

        Raises:
            ContainerIsNotRunning: If there is no copy.
            CalledProcessError: If the command fails.
        """
        if self._copy is None:
            raise ContainerIsNotRunning(f"{service_name or 'no container'} is not running in the compose context")
        return super().exec_in_container(command, service_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Project):
    """
    A project of which only some services are started.

    Attributes:
        services: These, and those that they depend on.
    """

    services: frozenset[str]

    @classmethod
    def of(cls, project: Project, chosen: Iterable[str]) -> Part:
        """
        Return the part of *project* that `docker compose up` starts for the services *chosen*.

        Raises:
            UsageError: If the project has no such service.
        """
        listed = project.template.get("services") or {}
        profiles = {name for service in chosen for name in (listed.get(service) or {}).get("profiles") or ()}
        words = (*project.words, *(word for name in sorted(profiles) for word in ("--profile", name)))
        wider = replace(project, words=words)
        services = _needed(wider.model(), chosen)
        template = {**project.template, "services": {name: listed[name] for name in listed if name in services}}
        return cls(
            folder=project.folder, words=words, environment=project.environment, template=template,
            configuration=project.configuration, services=services,
        )  # fmt: skip

    def model(self, *, name: str | None = None, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the rendered model without the other services."""
        whole = Project.model(self, name=name, variables=variables)
        return {**whole, "services": {key: one for key, one in whole["services"].items() if key in self.services}}


def _needed(model: Mapping[str, Any], chosen: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    left = list(chosen)
    while left:
        name = left.pop()
        if name not in model["services"]:
            known = ", ".join(sorted(model["services"]))
            raise UsageError(f"the project has no service {name[:LONGEST]!r}; its services: {known}")
        if name not in found:
            found.add(name)
            left += model["services"][name].get("depends_on") or {}
    return frozenset(found)


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []

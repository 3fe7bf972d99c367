"""
A copy of a Compose project: containers, networks and volumes of its own, under a lease.

The way of one copy: Compose renders the project's model; the images are built; the lease book grants ports, subnets and
a project name; `template` isolates the model for them; `start` starts it; the copy is ready when each service is. A
start that fails says why and removes what it made. A removal needs only the lease: everything carries its labels.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files, json_text
from stackyard._util.advice import Action, end_and_start, typed
from stackyard._util.event_loops import outside_any_loop, run
from stackyard.cleanup import removal
from stackyard.docker import lease_engine
from stackyard.docker.in_use import strangers
from stackyard.docker.ownership import Holdings
from stackyard.docker.remote_lease_book import SharedBook
from stackyard.errors import CommandError, NotReadyError, UsageError
from stackyard.leases.book import REST
from stackyard.leases.records import MODEL
from stackyard.leases.stack_lock import still_leased
from stackyard.plan import Address, oversights
from stackyard.probes.published_protocols import spoken
from stackyard.stacks import builds, diagnostics, project_images
from stackyard.stacks.copies import shared_resources
from stackyard.stacks.copies.host_sources import replaced, told
from stackyard.stacks.copies.leased_project import CopiedProject
from stackyard.stacks.copies.standing import Standing
from stackyard.stacks.copies.start import CopyStart
from stackyard.stacks.copies.template import EXTENSION, SOURCES, VARIABLES, WHOLE, Template, is_whole, runs
from stackyard.stacks.data import resetting, snapshot
from stackyard.stacks.data.records import Note
from stackyard.stacks.diagnostics import LONGER, REMOVED
from stackyard.stacks.reaper_launch import wake
from stackyard.stacks.starts.checks import refuse, refuse_missing_files
from stackyard.stacks.starts.engine_or_compose import Maker
from stackyard.stacks.starts.queue import turn
from stackyard.stacks.starts.request import CopyRequest
from stackyard.stacks.starts.retries import failing, placed
from stackyard.stacks.starts.times import STANDING, Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.cleanup.outcome import Removal
    from stackyard.docker import Engine, Resource
    from stackyard.errors import StackyardError
    from stackyard.leases import Lease, LeaseBook
    from stackyard.project import Project
    from stackyard.stacks.data.records import Reset
    from stackyard.stacks.readiness.waiting import StackReady

DEADLINE: Final = 120.0  # seconds until a start has failed, unless its caller says otherwise
KILLED: Final = "an earlier start of this copy was killed; what it made is removed, and the copy is started again"
CHANGED: Final = (
    "the project has changed since this copy was started, and the copy still runs its earlier state; end the copy and "
    "start it again to run the new one"
)


class Copy:
    """
    One copy of a project.

    Args:
        lease: Its lease.
        book: Where the lease is released once nothing is left.
        engine: The engine it lives on.
        startup: How its start went, if another process started it just now.

    Attributes:
        startup: How its start went.
    """

    def __init__(self, lease: Lease, book: LeaseBook, engine: Engine, *, startup: Startup | None = None) -> None:
        self.lease = lease
        self.book = book
        self.engine = engine
        self.startup = startup or STANDING

    @property
    def seconds(self) -> float:
        """How long its start took; 0 for a copy that was running already."""
        return self.startup.seconds

    @property
    def ready(self) -> StackReady | None:
        """How each service proved usable; None for a copy that was running already."""
        return self.startup.ready

    @functools.cached_property
    def model(self) -> dict[str, Any]:
        """
        The model that it was started from.

        Raises:
            UsageError: If it cannot be read.
        """
        path = self.lease.directory / MODEL
        try:
            found: dict[str, Any] = json_text.read(files.read(path))
            _ = found["services"].items(), found[EXTENSION]["addresses"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            text = f"copy {self.lease.title}: {path} cannot be read; {end_and_start(self.lease.id)}"
            raise UsageError(text) from None
        return found

    @property
    def addresses(self) -> list[Address]:
        """Where its published ports answer, and with which protocol."""
        found = [Address(**item) for item in self.model[EXTENSION]["addresses"]]
        return found if self.is_whole else self._spoken(found)

    @property
    def port_variables(self) -> dict[str, str]:
        """The variables of the project's own files that its leased ports are in, such as ``WEB_PORT``."""
        return dict(self.model[EXTENSION].get(VARIABLES, {}))

    @property
    def is_whole(self) -> bool:
        """Whether its start went to the end: `keep_addresses` is the last step that all starts have."""
        return is_whole(self.model)

    def _spoken(self, found: list[Address]) -> list[Address]:
        images = project_images.facts(self.engine, self.model, {item.service for item in found})
        return outside_any_loop(lambda: run(spoken(found, self.model, images)))

    def keep_addresses(self) -> None:
        """Note the protocol of each port, so that no later command asks again."""
        kept = {"addresses": [item.kept() for item in self.addresses], WHOLE: True}
        model = {**self.model, EXTENSION: {**self.model[EXTENSION], **kept}}
        files.write(self.lease.directory / MODEL, json.dumps(model).encode())
        del self.model

    def reset(self, *services: str, deadline: float = DEADLINE) -> Reset:
        """Bring its data back to the state after the start, as `resetting.reset` does."""
        return resetting.reset(self, services, deadline)

    def down(self, *, graceful: bool = False, progress: Callable[[str], None] = lambda _line: None) -> Removal:
        """
        Remove the copy with its volumes, and release the lease when nothing is left.

        Args:
            graceful: Let each service end in order, within its `stop_grace_period`.
            progress: Called with a line about how long that may take.

        Raises:
            EngineError: If the engine does not answer; the lease is kept.
        """
        return removal.remove_lease(self.book, self.engine, self.lease, graceful=graceful, progress=progress)


def start(project: Project, book: LeaseBook, engine: Engine, request: CopyRequest | None = None) -> Copy:
    """
    Start a copy of *project* and return it when it is ready; one that has the name already is returned as it is.

    Args:
        project: The project.
        book: Where the lease is.
        engine: Where the copy lives.
        request: What is asked of it; None asks for nothing in particular.

    Raises:
        UsageError: If no copy of the project can run.
        NotReadyError: If a service failed; the text says which, and its last lines.
        StackyardError: If anything else on the way fails; nothing made here is left.
    """
    request = request or CopyRequest()
    if isinstance(book, SharedBook):  # no background process does it there
        removal.sweep(book, engine)
    refuse_missing_files(project)
    for line in oversights.warnings(project):
        request.progress(line)
    usual, origin = project.model(), CopiedProject.of(project)
    with builds.built(project, usual, origin.name, book, engine, request.progress) as images:
        project_images.pull(engine, usual, request.progress)
        starts = _Starts(book, engine, request, origin, Template.of(project, usual, images))
        copy = placed(starts.attempt, title=project.name)
    for one in copy.ready.services if copy.ready else ():
        if one.warning:
            request.progress(f"warning: {one.warning}")
    if request.ttl is not None:
        copy.lease = book.renew(copy.lease.id, request.ttl, detach=True)
    return copy


@dataclass(frozen=True, slots=True)
class _Starts:
    """The attempts to start one copy."""

    book: LeaseBook
    engine: Engine
    request: CopyRequest
    origin: CopiedProject
    template: Template

    def attempt(self, lost: Sequence[str]) -> Copy:
        if lost:
            self.request.progress(f"another program took a leased {lost[-1]}; the copy gets another place")
        copy = Copy(self._lease(scattered=bool(lost)), self.book, self.engine)
        wake(self.book.settings)
        return _Start(copy, self.request, self.template).run()

    def _lease(self, *, scattered: bool) -> Lease:
        asked, book, engine = self.request, self.book, self.engine
        return book.acquire(
            self.origin, parallel_id=asked.name, ttl=asked.ttl, needs=self.template.needs, wait=asked.wait,
            strangers=lambda: strangers(engine), attached=asked.outlives_process, scattered=scattered,
            make_room=lambda: removal.make_room(book, engine, asked.progress),
        )  # fmt: skip


@dataclass(slots=True)
class _Start:
    """One start under one lease."""

    copy: Copy
    request: CopyRequest
    template: Template
    step: str = ""  # what failed, if no service did

    def run(self) -> Copy:
        lease, progress = self.copy.lease, self.request.progress
        with turn(self.copy.book.settings, progress=progress) as waited, still_leased(lease):
            lease_engine.claim(lease, self.copy.engine)
            if not self._stands():
                with failing(self._explained, self._undo, progress=progress):
                    self.copy.startup = self._up().after(waited)
                    if self.request.until_ready:
                        self._finish()
        return self.copy

    @property
    def deadline(self) -> float:
        return self.request.deadline or self.template.project.configuration.timeout or DEADLINE

    def _stands(self) -> bool:
        """Say whether an earlier start has made the copy; raise if it needs another place by now, or is not whole."""
        copy = self.copy
        if not copy.lease.reused:
            return False
        self.template.refuse_other_place(copy.lease)
        holdings = Holdings.of(copy.book.host, copy.lease)
        containers = holdings.containers(copy.engine)
        if containers and self._was_killed(containers):
            self.request.progress(KILLED)
            removal.remove(copy.engine, holdings).check(typed(Action.REMOVE, name=copy.lease.id))
            del copy.model
            return False
        if containers and (warning := self._outdated(containers)):
            self.request.progress(f"warning: {warning}")
        return bool(containers)

    def _was_killed(self, containers: Sequence[Resource]) -> bool:
        """Say whether an earlier start was killed before its end; raise if a whole copy has lost a service since."""
        copy, hints = self.copy, self.template.project.configuration.ready
        lost = Standing(copy.engine, containers, copy.model, hints).lost
        if lost and copy.is_whole:
            named = ", ".join(f"{service} ({words})" for service, words in lost.items())
            again = end_and_start(copy.lease.id)
            raise NotReadyError(f"copy {copy.lease.title} is up, but not every service of it runs: {named}; {again}")
        return bool(lost) or (self.request.until_ready and not copy.is_whole)

    def _outdated(self, containers: Sequence[Resource]) -> str:
        """Say what the project has by now and the copy has not; empty if it is up to date."""
        copy = self.copy
        planned = self.template.plan(copy.lease, copy.engine)
        if not runs(copy.model, self.template.labelled(planned.model, copy.lease, copy.engine)[0]):
            return CHANGED
        states = (copy.engine.state(one.id) for one in containers)
        found = replaced(copy.model[EXTENSION].get(SOURCES, {}), copy.model, states)
        return told(found, copy.lease.project) if found else ""

    def _up(self) -> Startup:
        """Plan, start and wait."""
        copy, project = self.copy, self.template.project
        maker = Maker(copy.lease, copy.engine, copy.book.settings)
        planned = self.template.plan(copy.lease, copy.engine)
        refuse([item for item in planned.concerns if item.level == "not possible"])
        shared_resources.check(copy.engine, planned.model)
        Note.drop(copy.lease)
        model, cargo = self.template.labelled(planned.model, copy.lease, copy.engine)
        cargo.deliver(maker.asking(), model)
        start = CopyStart(project, model, maker, self.request.progress)
        return run(start.run(self.deadline, until_ready=self.request.until_ready))

    def _finish(self) -> None:
        """Note where the copy answers, and keep the state of its data if that is asked for."""
        self.copy.keep_addresses()
        configuration = self.template.project.configuration
        if self.request.resettable or configuration.reset:
            self.step = "the state of its data could not be kept for resets: "
            snapshot.keep(self.copy, configuration.ready, self.deadline)

    def _explained(self, error: StackyardError) -> str:
        """Say why, beginning with the services that are in trouble."""
        if isinstance(error, NotReadyError):
            why = f"{self.step}{str(error).removeprefix('not ready: ')}"
        else:
            containers = Holdings.of(self.copy.book.host, self.copy.lease).containers(self.copy.engine)
            found = diagnostics.collect(self.copy.engine, containers, secrets=())
            why = diagnostics.blame(found, f"{self.step}{_last_line(error)}")
        return f"{self.template.project.name} did not start: {why}\n{REMOVED}"

    def _undo(self, taken: str) -> None:
        """Remove what the start made, and end the lease."""
        lease, book = self.copy.lease, self.copy.book
        if taken:
            book.quarantine(lease.id, REST)
        removal.remove_locked(book, self.copy.engine, lease).check(typed(Action.REMOVE, name=lease.id))


def _last_line(error: StackyardError) -> str:
    if not isinstance(error, CommandError):
        return str(error)
    if error.returncode is None:
        return f"it was not up when its time was over; {LONGER}"
    return error.lines[-1] if error.lines else str(error)

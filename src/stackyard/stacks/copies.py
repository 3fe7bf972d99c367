"""
A copy of a Compose project: the project's containers, networks and volumes once more, under a lease.

The way of one copy: Compose renders the project's model; the images are built; the lease book grants ports, subnets and
a project name; `plan` isolates the model for them; `copy_start` starts it; the copy is ready when each service is. A
start that fails says why and removes what it made. A removal needs only the lease: everything carries its labels.
"""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files
from stackyard._util.loops import outside_any_loop, run
from stackyard._util.tables import format_count
from stackyard.cleanup import removal
from stackyard.docker.compose import taken
from stackyard.docker.in_use import strangers
from stackyard.docker.ownership import COPY_LABEL, Holdings
from stackyard.docker.shared_book import SharedBook
from stackyard.errors import CommandError, LeaseNotFoundError, NotReadyError, RefusedError, UsageError
from stackyard.leases.needs import Needs, port_names
from stackyard.leases.records import MODEL
from stackyard.leases.stack_lock import alone
from stackyard.plan import Address, Place, addresses, exclusive, plan
from stackyard.plan import networks as planned_networks
from stackyard.plan import ports as planned_ports
from stackyard.plan.services import check_soon
from stackyard.probes.spoken import spoken
from stackyard.stacks import builds, diagnostics, project_images, shared
from stackyard.stacks.copy_start import CopyStart
from stackyard.stacks.data import keeping, resetting
from stackyard.stacks.origin import Origin
from stackyard.stacks.refusals import refuse, refuse_missing_files
from stackyard.stacks.start_queue import turn
from stackyard.stacks.startup import STANDING, Startup
from stackyard.stacks.travelling import Cargo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stackyard.cleanup.outcome import Removal
    from stackyard.docker import Engine
    from stackyard.errors import EngineError
    from stackyard.leases import Lease, LeaseBook
    from stackyard.plan import Plan
    from stackyard.project import Project
    from stackyard.stacks.data.records import Reset
    from stackyard.stacks.readiness import StackReady

EXTENSION: Final = "x-stackyard"  # what the model says of the copy; Compose passes over it
DEADLINE: Final = 120.0  # seconds until a start has failed, unless its caller says otherwise
REMOVED: Final = "everything that the start made was removed"
TRIES: Final = 5  # places that are tried while other programs take their ports
REST: Final = 60.0  # seconds for which no lease gets a slot after a program took one of its ports
CHANGED: Final = (
    "the project has changed since this copy was started, and the copy still runs its earlier state; end the copy and "
    "start it again to run the new one"
)
LABELS: Final = "lease environment host owner created ports subnet memory_mb exclusive checkout".split()


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
        """How long its start took; 0 for a copy that stood before."""
        return self.startup.seconds

    @property
    def ready(self) -> StackReady | None:
        """How each service proved usable; None for a copy that stood before."""
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
            found: dict[str, Any] = json.loads(files.read(path))
        except (OSError, ValueError):
            text = f"copy {self.lease.title}: {path} cannot be read; end the copy and start it again"
            raise UsageError(text) from None
        return found

    @property
    def addresses(self) -> list[Address]:
        """Where its published ports answer, and what is spoken there."""
        kept = self.model[EXTENSION]
        found = [Address(**item) for item in kept["addresses"]]
        return found if kept.get("spoken") else self._spoken(found)

    def _spoken(self, found: list[Address]) -> list[Address]:
        images = project_images.facts(self.engine, self.model, {item.service for item in found})
        return outside_any_loop(lambda: run(spoken(found, self.model, images)))

    def keep_addresses(self) -> None:
        """Note what is spoken on each port, so that no later command asks again."""
        kept = {"addresses": [item.kept() for item in self.addresses], "spoken": True}
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
            graceful: Let each service end by itself, within its `stop_grace_period`.
            progress: Is told how long that may take.

        Raises:
            EngineError: If the engine does not answer; the lease is kept.
        """
        return removal.remove_lease(self.book, self.engine, self.lease, graceful=graceful, progress=progress)


def start(  # noqa: PLR0913 - each is a choice of a command line or of testcontainers
    project: Project,
    book: LeaseBook,
    engine: Engine,
    *,
    name: str | None = None,
    ttl: float | None = None,
    deadline: float | None = None,
    wait: float | None = None,
    until_ready: bool = True,
    resettable: bool = False,
    progress: Callable[[str], None] = lambda _line: None,
) -> Copy:
    """
    Start a copy of *project* and return it when it is ready; the copy that has *name* already is returned as it is.

    Args:
        project: The project.
        book: Where the lease is.
        engine: Where the copy lives.
        name: The lease's name.
        ttl: Seconds that the copy stays unless renewed; None: it ends with this process.
        deadline: Seconds until the start has failed; None takes the configuration's, else `DEADLINE`.
        wait: Seconds to queue for a place; None does not.
        until_ready: False returns when the containers have started.
        resettable: Keep the state of its data for `Copy.reset`; the configuration may say so, too.
        progress: Is given a line whenever the user should know something.

    Raises:
        UsageError: If no copy of the project can run.
        NotReadyError: If a service failed; the text says which, and its last lines.
        StackyardError: If anything else on the way fails; nothing made here is left.
    """
    if isinstance(book, SharedBook):  # no background process does it there
        removal.sweep(book, engine)
    refuse_missing_files(project)
    usual, origin = project.model(), Origin.of(project)
    with builds.built(project, usual, origin.name, book, engine, progress) as images:
        project_images.pull(engine, usual, progress)
        given = planned_ports.single_variables(project.template, usual)
        draws = planned_ports.draws(usual, given)
        needs = Needs(
            ports=tuple(port_names((port.service, port.target, port.protocol) for port, _ in draws)),
            prefixes=tuple(planned_networks.needed(usual, project.configuration.share.networks)) or Needs().prefixes,
            exclusive=exclusive(usual, project.configuration.share.networks),
        )
        outlives = ttl is not None or name is not None
        lost = list[_StolenError]()
        while True:
            lease = book.acquire(
                origin, parallel_id=name, ttl=ttl, needs=needs, strangers=lambda: strangers(engine), wait=wait,
                attached=outlives, scattered=bool(lost), make_room=lambda: removal.make_room(book, engine, progress),
            )  # fmt: skip
            drawn, copy = [variable for _, variable in draws], Copy(lease, book, engine)
            starting = _Starting(project, usual, copy, drawn, given, images, until_ready, resettable)
            try:
                copy = starting.run(needs, deadline or project.configuration.timeout or DEADLINE, progress)
            except _StolenError as stolen:
                lost.append(stolen)
                if len(lost) == TRIES:
                    raise NotReadyError(f"{project.name} did not start: {_losses(lost)}: {stolen}") from None
                progress(f"another program took a leased {stolen.what}; the copy gets another place")
                continue
            for one in copy.ready.services if copy.ready else ():
                if one.warning:
                    progress(f"warning: {one.warning}")
            if ttl is not None:
                copy.lease = book.renew(copy.lease.id, ttl, detach=True)
            return copy


class _StolenError(Exception):
    """A leased port or subnet was taken before the copy had it; the text is the engine's."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(why)
        self.what = what


def _losses(lost: Sequence[_StolenError]) -> str:
    counts = Counter(one.what for one in lost)
    return "other programs took " + " and ".join(
        f"a leased {what} {format_count(number, 'time')}" for what, number in counts.items()
    )


@dataclass(slots=True)
class _Starting:
    """One start under one lease."""

    project: Project
    usual: Mapping[str, Any]
    copy: Copy
    drawn: Sequence[str]
    given: Mapping[str, Sequence[str]]
    images: Mapping[str, str]
    until_ready: bool
    resettable: bool
    cargo: Cargo = field(default_factory=Cargo)
    step: str = ""  # what failed, if no service did

    def run(self, needs: Needs, deadline: float, progress: Callable[[str], None]) -> Copy:
        lease, book = self.copy.lease, self.copy.book
        with turn(book.settings, progress=progress) as waited, alone(lease) as still_leased:
            if not still_leased:
                raise LeaseNotFoundError(f"lease {lease.id} was ended by another command; start again")
            if lease.reused:
                self._compare(needs)
                if Holdings.of(book.host, lease).containers(self.copy.engine):
                    if not _runs(self.copy.model, self._labelled(self._plan().model)):
                        progress(f"warning: {CHANGED}")
                    return self.copy
            try:
                self.copy.startup = self._up(deadline, progress).after(waited)
                if self.until_ready:
                    self.copy.keep_addresses()
                if self.until_ready and (self.resettable or self.project.configuration.reset):
                    self.step = "the state of its data could not be kept for resets: "
                    keeping.keep(self.copy, self.project.configuration.ready, deadline)
            except (CommandError, RefusedError) as error:
                what = taken(error)
                why = str(error) if what else self._explained(f"{self.step}{_last_line(error)}")
                self._undo(rest=bool(what))
                raise _StolenError(what, why) if what else NotReadyError(why) from None
            except NotReadyError as error:
                self._undo()
                why = f"{self.step}{str(error).removeprefix('not ready: ')}"
                raise NotReadyError(f"{self.project.name} did not start: {why}\n{REMOVED}") from None
            except BaseException:
                self._undo()
                raise
        return self.copy

    def _compare(self, needs: Needs) -> None:
        """Raise if the lease of an earlier start is not what the project needs now."""
        lease = self.copy.lease
        kept = Needs(ports=tuple(lease.ports), prefixes=lease.prefixes, exclusive=lease.exclusive)
        if kept != needs:
            raise UsageError(
                f"copy {lease.title} was started before the project's ports or networks changed; end it first, or "
                "choose another name"
            )

    def _up(self, deadline: float, progress: Callable[[str], None]) -> Startup:
        """Plan, start and wait."""
        began = time.monotonic()
        planned = self._plan()
        refuse([item for item in planned.concerns if item.level == "not possible"])
        shared.check(self.copy.engine, planned.model)
        lease, settings = self.copy.lease, self.copy.book.settings
        model, path = self._labelled(planned.model), lease.directory / MODEL
        self.cargo.deliver(self.copy.engine, model)
        starting = CopyStart(
            self.project, lease, self.copy.engine, settings, model, path, began=began, progress=progress
        )  # fmt: skip
        return run(starting.run(deadline, until_ready=self.until_ready))

    def _plan(self) -> Plan:
        lease = self.copy.lease
        leased = list(zip(self.drawn, sorted(lease.ports.values()), strict=True))
        variables = {variable: str(port) for variable, port in leased if variable}
        subnets = iter(lease.subnets)
        place = Place(
            project=lease.project,
            ports=[port for variable, port in leased if not variable],
            subnet=lambda _prefix: IPv4Network(next(subnets)),
            variables={place: variable for variable, places in self.given.items() for place in places},
            tags=self.images,
            address=self.copy.engine.endpoint.address,
        )
        model = self.project.model(name=lease.project, variables=variables)
        return plan(self.project.template, self.usual, model, place, self.project.configuration)

    def _labelled(self, planned: Mapping[str, Any]) -> dict[str, Any]:
        """Put the labels of the lease on everything, and the copy's addresses into the model."""
        variables = self.copy.lease.variables()
        words = {word: variables.get(f"STACKYARD_{word.upper()}", "") for word in LABELS}
        words |= {"name": variables.get("STACKYARD_PARALLEL_ID", "")}
        labels = {f"stackyard.{word}": value.replace("$", "$$") for word, value in words.items() if value}
        labels[COPY_LABEL] = self.project.name
        model = dict(planned)
        self.cargo = Cargo(project=self.copy.lease.project)
        if self.copy.engine.endpoint.elsewhere:
            self.cargo.pack(model)
        for kind in ("services", "networks", "volumes"):
            for key, item in (model.get(kind) or {}).items():
                if not (item or {}).get("external"):
                    model[kind][key] = {**(item or {}), "labels": {**((item or {}).get("labels") or {}), **labels}}
        for name, service in model["services"].items():
            service.pop("pull_policy", None)  # all images are here by now
            if name in self.images:
                service.pop("build", None)
        found = [item.kept() for item in addresses(self.usual, model, self.copy.engine.endpoint.address)]
        return model | {EXTENSION: {"addresses": found, "project": self.project.name}}

    def _explained(self, reason: str) -> str:
        """Say why, with the services that are in trouble."""
        containers = Holdings.of(self.copy.book.host, self.copy.lease).containers(self.copy.engine)
        found = diagnostics.collect(self.copy.engine, containers, secrets=())
        return "\n".join([f"{self.project.name} did not start: {diagnostics.blame(found, reason)}", REMOVED])

    def _undo(self, *, rest: bool = False) -> None:
        """Remove what the start made, and end the lease."""
        lease, book = self.copy.lease, self.copy.book
        if rest:
            book.quarantine(lease.id, REST)
        removal.remove_locked(book, self.copy.engine, lease).check("the next clean-up")


def _runs(standing: Mapping[str, Any], planned: Mapping[str, Any]) -> bool:
    """Say whether a copy is as it would be planned now; Compose's way of starting has other intervals of checks."""
    by_compose = deepcopy(dict(planned))
    check_soon(by_compose)
    return _core(standing) in (_core(planned), _core(by_compose))


def _core(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a user writes of a copy's model; labels and the like belong to one start."""
    return {
        kind: {
            key: {word: value for word, value in (item or {}).items() if word != "labels"}
            for key, item in found.items()
        }
        for kind in ("services", "networks", "volumes")
        if (found := model.get(kind))
    }


def _last_line(error: EngineError) -> str:
    if not isinstance(error, CommandError):
        return str(error)
    if error.returncode is None:
        return "it was not up when its time was over"
    return error.lines[-1] if error.lines else str(error)

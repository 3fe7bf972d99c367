"""
What belongs to stackyard: decided here alone, for all that lists, shows, restarts or removes (docs/ownership.md).

A container, network or volume is ours if it carries the id of our lease book and the id of a lease. In a Compose
project that only one of our leases can have, because its name ends with the id of that lease, what carries no labels of
ours belongs to the lease too: a service that somebody added to the Compose file without them. Nothing else is ours: not
what has only one of the two labels, what another book has labelled, or what merely has a name like ours.

`docker commit` gives an image all labels of a container, and so each container that is made of that image. These labels
do not count (`Engine.containers`).

An image has no lease, because many copies use it. It is ours if it carries the labels of a `Build` with the id of our
book, and a name that builds of this book give. An image that somebody builds on top of ours inherits the labels only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard.docker.inspection import ONE_OFF_LABEL
from stackyard.docker.records import LEASE_LABEL, NUMBER_LABEL, PROJECT_LABEL, SERVICE_LABEL
from stackyard.leases.names import ID
from stackyard.leases.records import keeps_data, project_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stackyard.docker import Engine, Resource
    from stackyard.leases import Lease

HOST_LABEL: Final = "stackyard.host"
ENVIRONMENT_LABEL: Final = "stackyard.environment"
COPY_LABEL: Final = "stackyard.copy"  # on what belongs to the copy of a project; its value is the project's own name
BUILD_LABEL: Final = "stackyard.build"  # begins the labels of an image that copies were built with
IMAGES: Final = "stackyard-copy"  # begins its names


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """
    What an image of a copied project was built for.

    Attributes:
        host: The id of the lease book, ``Settings.host``.
        project: The project's name with the digits of its folder, as leases have it.
        service: The service; the first of those that are built in the same way.
    """

    host: str
    project: str
    service: str

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Build | None:
        """Return what the labels of an image say; None unless all three are there."""
        values = [labels.get(f"{BUILD_LABEL}.{word}", "") for word in ("host", "project", "service")]
        return cls(host=values[0], project=values[1], service=values[2]) if all(values) else None

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the build gives."""
        words = {"host": self.host, "project": self.project, "service": self.service}
        return {f"{BUILD_LABEL}.{word}": value for word, value in words.items()}

    @property
    def _repository(self) -> str:
        return f"{IMAGES}/{self.host}/{re.sub(r'[_-]{2,}', '-', self.project)}"

    @property
    def name(self) -> str:
        """The name of the image that the service was built or started with last."""
        return f"{self._repository}:{self.service}"

    def earlier(self, image: str) -> str:
        """Return the name that the image with the id *image* keeps when a later one takes `name`."""
        return f"{self._repository}/earlier:{image.removeprefix('sha256:')[:12]}"

    def own(self, names: Iterable[str]) -> list[str]:
        """Return which *names* of an image builds for this project give; only these are ours."""
        return [name for name in names if name.startswith((f"{self._repository}:", f"{self._repository}/earlier:"))]

    def is_latest(self, names: Iterable[str]) -> bool:
        """Say whether an image with *names* is the latest of a service of this project."""
        return any(name.startswith(f"{self._repository}:") for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """
    What is ours under one lease.

    Attributes:
        host: The id of the lease book, ``Settings.host``.
        lease: The id of the lease.
        environment: The name of its environment; empty if nothing says it.
        project: The lease's Compose project where only this lease can have it; empty if the labels alone decide.
        keeps_data: Whether the lease's volumes hold data that is kept until somebody names its environment.
    """

    host: str
    lease: str
    environment: str = ""
    project: str = ""
    keeps_data: bool = False

    @classmethod
    def of(cls, host: str, lease: Lease) -> Holdings:
        """Return what is ours under *lease* of the book *host*."""
        return cls.named(host, lease.environment, lease.id)

    @classmethod
    def named(cls, host: str, environment: str, lease: str) -> Holdings:
        """Return what is ours under the lease with the id *lease*, whether the book knows it or not."""
        # a project such as stackyard-dev is in reach of every Compose file, and no lease's alone
        project = "" if lease == environment else project_name(environment, lease)
        keeps = keeps_data(lease, environment)
        return cls(host=host, lease=lease, environment=environment, project=project, keeps_data=keeps)

    @property
    def labels(self) -> list[str]:
        """The two labels, as the engine's filters have them."""
        return [f"{HOST_LABEL}={self.host}", f"{LEASE_LABEL}={self.lease}"]

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Say whether something with *labels* is ours under this lease."""
        if labels.get(HOST_LABEL) == self.host and labels.get(LEASE_LABEL) == self.lease:
            return True
        in_project = bool(self.project) and labels.get(PROJECT_LABEL) == self.project
        return (
            in_project
            and labels.get(HOST_LABEL, self.host) == self.host
            and labels.get(LEASE_LABEL, self.lease) == self.lease
        )

    def containers(self, engine: Engine) -> list[Resource]:
        """
        List its containers, running or not.

        Raises:
            EngineError: If the engine does not answer.
        """
        return self._list(engine.containers)

    def troubled(self, engine: Engine) -> list[Resource]:
        """
        List its containers that ended, keep restarting, or fail their health check.

        Raises:
            EngineError: If the engine does not answer.
        """
        return self._list(engine.troubled)

    def everything(self, engine: Engine, *, volumes: bool = True) -> list[Resource]:
        """
        List containers, then networks, then, unless *volumes* is false, volumes: the order in which they can go.

        Raises:
            EngineError: If the engine does not answer.
        """
        found = [*self._list(engine.containers), *self._list(engine.networks)]
        return [*found, *self._list(engine.volumes)] if volumes else found

    def removable(self, engine: Engine, *, keep_volumes: bool) -> list[Resource]:
        """
        List everything that a removal takes along.

        Args:
            engine: Where it is.
            keep_volumes: Leave named volumes out, except those of a copy: nothing can ever use them again.

        Raises:
            EngineError: If the engine does not answer.
        """
        return [item for item in self.everything(engine) if not (keep_volumes and is_kept(item))]

    def volumes(self, engine: Engine) -> list[Resource]:
        """
        List its volumes.

        Raises:
            EngineError: If the engine does not answer.
        """
        return self._list(engine.volumes)

    def of_another_book(self, engine: Engine) -> list[Resource]:
        """
        List the containers and networks that have the lease's project and id, but the id of another book.

        A lease's id is random, so both books had it: the state directory was moved or copied, or the host renamed.

        Raises:
            EngineError: If the engine does not answer.
        """
        if not self.project:
            return []
        asked = [f"{PROJECT_LABEL}={self.project}", f"{LEASE_LABEL}={self.lease}"]
        found = [*engine.containers(asked), *engine.networks(asked)]
        return [item for item in found if item.labels.get(HOST_LABEL, self.host) != self.host]

    def among(self, found: Iterable[Resource]) -> list[Resource]:
        """Return what of *found* is ours under this lease, each thing once."""
        return list({(item.kind, item.id): item for item in found if self.holds(item.labels)}.values())

    def _list(self, ask: Callable[[Sequence[str]], list[Resource]]) -> list[Resource]:
        found = ask(self.labels)
        if self.project:
            found = [*found, *ask([f"{PROJECT_LABEL}={self.project}"])]
        return self.among(found)  # the engine's filters only choose what to look at


def numbered(found: Iterable[Resource]) -> dict[tuple[str, str], Resource]:
    """Return the containers of *found* by service and number, whatever their names; those of `compose run` left out."""
    return {
        (item.labels.get(SERVICE_LABEL, ""), item.labels.get(NUMBER_LABEL, "")): item
        for item in found if item.labels.get(ONE_OFF_LABEL) != "True"
    }  # fmt: skip


def is_kept(item: Resource) -> bool:
    """Say whether *item* is a volume that may outlive its stack; the volumes of copies may not."""
    return item.kind == "volume" and COPY_LABEL not in item.labels


def marked(ask: Callable[[Sequence[str]], list[Resource]], host: str) -> list[Resource]:
    """
    List what carries the id of the book *host* and the id of any lease.

    Args:
        ask: The engine's list, such as ``engine.everything``.
        host: ``Settings.host``.

    Raises:
        EngineError: If the engine does not answer.
    """
    return [item for item in ask([f"{HOST_LABEL}={host}"]) if lease_of(item.labels, host)]


def in_projects(engine: Engine) -> list[Resource]:
    """
    List what belongs to any Compose project, ours or not: `Holdings.among` chooses.

    Raises:
        EngineError: If the engine does not answer.
    """
    return engine.everything([PROJECT_LABEL])


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """
    One thing that is ours.

    Attributes:
        thing: What it is.
        lease: The id of its lease.
        environment: The name of its environment; empty if nothing tells.
    """

    thing: Resource
    lease: str
    environment: str


def owned_containers(engine: Engine, host: str, leases: Sequence[Lease], *, lost: bool) -> list[Owned]:
    """
    List the containers of *leases*.

    Args:
        engine: Where they are.
        host: ``Settings.host`` of the book.
        leases: Whose containers.
        lost: List what carries the labels of any other lease of the book, too.

    Raises:
        EngineError: If the engine does not answer.
    """
    found = engine.containers([f"{HOST_LABEL}={host}"]) + engine.containers([PROJECT_LABEL])
    owned: dict[str, Owned] = {}
    for lease in leases:
        for item in Holdings.of(host, lease).among(found):
            owned[item.id] = Owned(thing=item, lease=lease.id, environment=lease.environment)
    for item in found if lost else ():
        environment = item.labels.get(ENVIRONMENT_LABEL, "")
        if item.id not in owned and (lease_id := lease_of(item.labels, host)):
            owned[item.id] = Owned(thing=item, lease=lease_id, environment=environment)
    return list(owned.values())


def lease_of(labels: Mapping[str, str], host: str) -> str:
    """Return the id of the lease that *labels* name, if they are of the book *host*; else an empty text."""
    lease = labels.get(LEASE_LABEL, "")
    return lease if labels.get(HOST_LABEL) == host and ID.fullmatch(lease) else ""


def lost(host: str, found: Iterable[Resource], known: Iterable[str]) -> dict[str, Holdings]:
    """
    Return what is ours under leases that the book does not know, by lease id.

    Args:
        host: ``Settings.host``.
        found: What the engine holds.
        known: The ids of all leases in the book, read after *found*: a lease is always older than its containers.
    """
    ids, holdings = set(known), dict[str, Holdings]()
    for item in found:
        lease = lease_of(item.labels, host)
        if not lease or lease in ids:
            continue
        named = Holdings.named(host, item.labels.get(ENVIRONMENT_LABEL, ""), lease)
        if lease not in holdings or item.labels.get(PROJECT_LABEL) == named.project:
            holdings[lease] = named
    return dict(sorted(holdings.items()))

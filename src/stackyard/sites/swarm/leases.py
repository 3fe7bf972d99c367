"""
Leases on a Swarm: one config object for each, in the Swarm's own store.

The Swarm makes a config of one name only once, so a name is had by one copy. Labels say who owns the lease and until
when; a change names the version that was read, so of two that write at once one fails. The config is removed last:
while anything of a copy is there, so is its lease. All deadlines count by the manager's clock.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from stackyard._util import json_text
from stackyard.errors import LeaseNotFoundError, RefusedError, StillStartingError, UsageError
from stackyard.leases.names import check_id
from stackyard.leases.owners import Owner, boot_id, pid_namespace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.docker.swarm import Item, Swarm

PREFIX: Final = "stackyard-lease-"
LEASE_LABEL: Final = "stackyard.swarm.lease"  # on all that belongs to a copy: the lease's id
WORDS: Final = "stackyard.swarm"
LABEL: Final = f"{WORDS}.book"  # on every lease, and on nothing else
PROJECT, FOLDER, OWNER, STATE, DEADLINE = (
    f"{WORDS}.{word}" for word in ("project", "folder", "owner", "state", "deadline")
)
ADDRESSES: Final = f"{WORDS}.addresses"
PORTS: Final = f"{WORDS}.ports"
SERVICES: Final = f"{WORDS}.services"
State = Literal["starting", "ready", "ending"]
FURTHEST: Final = float(1 << 40)  # seconds; a calendar has no name for what is beyond
WITHOUT_OWNER: Final = 60.0  # seconds that the lease of a process is kept while the process does not renew it


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """
    One lease.

    Attributes:
        name: What its user calls it; also the end of the config's name.
        id: The beginning of the names of all that belongs to the copy.
        project: The project, and six hex digits made from its folder.
        checkout: The project's folder; empty if its config does not say.
        owner: Who keeps it.
        state: How far its copy is.
        deadline: When it ends, in Unix seconds of the manager's clock.
        data: What commands need to know of the copy.
    """

    name: str
    id: str
    project: str
    checkout: str
    owner: Owner | None
    state: State
    deadline: float
    item: Item
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """The lease as messages show it: ``mine (shop-9bdbf9f1)``."""
        return f"{self.name} ({self.id})"

    @property
    def parallel_id(self) -> str:
        """Its name, as a lease of one engine has it."""
        return self.name

    @property
    def is_copy(self) -> bool:
        """True: a Swarm has nothing but copies."""
        return True

    @property
    def label(self) -> str:
        """What everything of the copy carries."""
        return f"{LEASE_LABEL}={self.id}"

    @classmethod
    def read(cls, item: Item, data: Mapping[str, Any] | None = None) -> Self:
        """Return the lease that a config is; if its deadline cannot be read, it has none."""
        labels = item.labels
        return cls(
            name=item.name.removeprefix(PREFIX), id=labels.get(LEASE_LABEL, ""),
            project=labels.get(PROJECT, ""), checkout=labels.get(FOLDER, ""), item=item, data=data or {},
            owner=Owner.parse(labels.get(OWNER, "")), state=_state(labels.get(STATE)),
            deadline=_deadline(labels.get(DEADLINE, "")),
        )  # fmt: skip

    def is_stale(self, now: float) -> bool:
        """
        Say whether it may be removed: its deadline has passed, or its process, which ran here, has ended.

        Args:
            now: Unix seconds of the manager's clock.
        """
        owner = self.owner
        here = owner is not None and owner.kind == "process" and owner.boot == boot_id()
        dead = here and owner is not None and owner.namespace == pid_namespace() and not owner.runs()
        return dead or now >= self.deadline


def _state(text: str | None) -> State:
    return "ready" if text == "ready" else "starting" if text == "starting" else "ending"


def _deadline(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return math.inf
    return found if abs(found) < FURTHEST else math.inf


def _is_lease(item: Item) -> bool:
    """Say whether a config is a lease of stackyard's, and not a stranger's of such a name."""
    return item.name.startswith(PREFIX) and LABEL in item.labels and bool(item.labels.get(LEASE_LABEL))


def _data(content: bytes) -> dict[str, Any]:
    """Return what a lease holds; nothing if it cannot be read, as a removal needs none of it."""
    try:
        found: Any = json_text.read(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class Leases:
    """
    All leases of one Swarm.

    Args:
        swarm: The Swarm.
    """

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm

    def now(self) -> float:
        """Return the manager's time in Unix seconds."""
        return datetime.fromisoformat(self.swarm.now()).timestamp()

    def acquire(self, project: str, name: str | None, data: Mapping[str, Any]) -> Lease | None:
        """
        Make a lease of this process, and return it; None if the project has a copy of that name, which is ready.

        Args:
            project: The project, and the digits made from its folder.
            name: The user's name; None makes one up.
            data: What later commands need to know.

        Raises:
            UsageError: If the name cannot be one, or another project has it.
            StillStartingError: If another process starts or removes the copy of that name now.
        """
        name = secrets.token_hex(4) if name is None else check_id("a name", name)
        identifier = f"{re.sub(r'-[0-9a-f]{6}$', '', project)[:20].strip('-_.')}-{secrets.token_hex(4)}"
        labels = {
            LABEL: "1", LEASE_LABEL: identifier, PROJECT: project, OWNER: Owner.current().label(), STATE: "starting",
            DEADLINE: f"{self.now() + WITHOUT_OWNER:.3f}", FOLDER: str(data.get("folder", "")),
        }  # fmt: skip
        content = json.dumps(data).encode()
        while not self.swarm.create_config(PREFIX + name, content, labels):
            with contextlib.suppress(LeaseNotFoundError):  # it ended a moment ago, and the name is free
                self._refuse_other(name, project)
                return None
        return self.get(name)

    def _refuse_other(self, name: str, project: str) -> None:
        found = self.get(name)
        if found.project != project:
            raise UsageError(f"the name {name} belongs to a copy of {found.project}; choose another one")
        if found.state != "ready":
            raise StillStartingError(f"copy {name} is {found.state} in another process; wait for it, or choose a name")

    def get(self, name: str) -> Lease:
        """
        Return the lease of that name, as it is now.

        Raises:
            LeaseNotFoundError: If there is none.
            UsageError: If the Swarm's config of that name is not stackyard's.
        """
        try:
            item, content = self.swarm.content(PREFIX + name)
        except RefusedError as error:
            if "not found" not in str(error):
                raise
            raise LeaseNotFoundError(f"no copy on the Swarm has the name {name}") from None
        if not _is_lease(item):
            raise UsageError(f"config {item.name} of the Swarm is not stackyard's; choose another name for the copy")
        return Lease.read(item, _data(content))

    def leases(self) -> list[Lease]:
        """Return all leases, oldest first, without their data."""
        found = sorted(self.swarm.labelled("config", LABEL), key=lambda item: item.created)
        return [Lease.read(item) for item in found if _is_lease(item)]

    def renew(self, lease: Lease, ttl: float, **labels: str) -> Lease:
        """
        Let a lease end *ttl* seconds from now; *labels* are the other labels to change, by the end of their names.

        Raises:
            LeaseNotFoundError: If it has ended, or another process removes its copy.
        """
        while True:
            found = self.get(lease.name)
            if found.id != lease.id or found.state == "ending":
                raise LeaseNotFoundError(f"copy {lease.name} was ended by another command; start it again")
            changed = {**labels, "deadline": f"{self.now() + ttl:.3f}"}
            new = {**found.item.labels, **{f"{WORDS}.{word}": value for word, value in changed.items()}}
            if self.swarm.relabel(found.item, new):
                return self.get(lease.name)

    def settle(self, lease: Lease, ttl: float | None, **facts: str) -> Lease:
        """
        Note that a copy is ready, and where it answers.

        Args:
            lease: Its lease.
            ttl: Seconds that it stays; None: as long as this process renews it.
            facts: The protocols of its addresses, the ports of its containers, and what it needs of its services.
        """
        owner = Owner.current() if ttl is None else Owner.detached()
        return self.renew(lease, ttl or WITHOUT_OWNER, state="ready", owner=owner.label(), **facts)

    def take(self, lease: Lease) -> bool:
        """
        Note that this process removes a copy; its owner can then renew it no longer. Say whether it is ours to remove.

        False means that its owner renewed it since it was read, or that it is gone. If this process is killed, the
        next command goes on: on this host at once, elsewhere `WITHOUT_OWNER` seconds from now.
        """
        ends = {STATE: "ending", OWNER: Owner.current().label(), DEADLINE: f"{self.now() + WITHOUT_OWNER:.3f}"}
        return self.swarm.relabel(lease.item, {**lease.item.labels, **ends})

    def end(self, lease: Lease) -> None:
        """Remove the lease itself; nothing else of its copy may be left."""
        self.swarm.remove(lease.item)

"""
What a clean-up would remove, and why: the same judgement as `stackyard.cleanup`, and nothing is changed.

A lease counts as stale when its deadline has passed or its owner is gone; an orphan carries this book's host label and
a lease the book does not know. Everything else that the book has leased is somebody's, and only `cleanup.all` takes it.
"""

from __future__ import annotations

import pwd
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from stackyard.cleanup import HOST_LABEL, LEASE_LABEL
from stackyard.leases.owners import boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.engine import Engine, Resource
    from stackyard.engine.records import Kind
    from stackyard.leases import Lease, LeaseBook

ENVIRONMENT_LABEL: Final = "stackyard.environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    One thing a clean-up would remove.

    Attributes:
        command: The least that removes it: `stale`, or `all` for what a living owner still has.
        kind: lease, container, network or volume.
        name: Its name; a lease's project name.
        lease: The lease it belongs to.
        environment: Its environment.
        owner: Who kept the lease alive; empty when the book does not know the lease.
        alive: True while that owner is.
        deadline: When the lease ends, in seconds since 1970; None without one.
        user: Whose the lease's files are; empty when the book does not know the lease.
        why: The reason, for a person.
    """

    command: Literal["stale", "all"]
    kind: Kind | Literal["lease"]
    name: str
    lease: str
    environment: str
    owner: str = ""
    alive: bool = False
    deadline: float | None = None
    user: str = ""
    why: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)


def candidates(
    book: LeaseBook, engine: Engine, *, keep_volumes: bool = True, clock: Callable[[], float] = time.time
) -> list[Candidate]:
    """
    List what `cleanup.stale` and `cleanup.all` would remove now, the stale first.

    Args:
        book: Whose leases.
        engine: Where their stacks are.
        keep_volumes: Leave named volumes out, as a clean-up without --volumes does.
        clock: Seconds since 1970.

    Raises:
        BookError: If the lease book cannot be used.
        EngineError: If the engine does not answer.
    """
    kinds = {"container", "network"} if keep_volumes else {"container", "network", "volume"}
    found = [item for item in engine.everything([f"{HOST_LABEL}={book.host}"]) if item.kind in kinds]
    leases = book.leases()  # after the list: a lease is always older than its containers
    listed = [each for lease in leases for each in _of(lease, found, clock())]
    known = {lease.id for lease in leases}
    listed += [_orphan(item) for item in found if item.labels.get(LEASE_LABEL, "") not in known | {""}]
    return sorted(listed, key=lambda each: each.command != "stale")


def _of(lease: Lease, found: Sequence[Resource], now: float) -> list[Candidate]:
    """Return a candidate for the lease itself and one for each thing under it."""
    things: list[tuple[Kind | Literal["lease"], str]] = [("lease", lease.project)]
    things += [(item.kind, item.name) for item in found if item.labels.get(LEASE_LABEL) == lease.id]
    stale, alive = lease.is_stale(now), lease.owner.is_alive(lease.lock)
    return [
        Candidate(
            command="stale" if stale else "all", kind=kind, name=name, lease=lease.id, environment=lease.environment,
            owner=lease.owner.describe(), alive=alive, deadline=lease.deadline, user=_user(lease),
            why=_why(lease, now) if stale else "in use",
        )
        for kind, name in things
    ]  # fmt: skip


def _orphan(item: Resource) -> Candidate:
    labels = item.labels
    return Candidate(
        command="stale", kind=item.kind, name=item.name, lease=labels[LEASE_LABEL],
        environment=labels.get(ENVIRONMENT_LABEL, ""), why="the book has no such lease",
    )  # fmt: skip


def _why(lease: Lease, now: float) -> str:
    if lease.deadline is not None and lease.deadline <= now:
        return f"its deadline passed {now - lease.deadline:.0f} s ago"
    if lease.owner.boot != boot_id():
        return "the host has been started anew since"
    return "its owner has ended"


def _user(lease: Lease) -> str:
    """Name the owner of the lease's directory; its number when it has no name, nothing when the directory is gone."""
    try:
        number = lease.directory.stat().st_uid
    except FileNotFoundError:
        return ""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)

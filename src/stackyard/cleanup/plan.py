"""
What a clean-up removes, and why. The clean-up itself removes what is listed here; to list it changes nothing.

A lease is stale when its deadline has passed or its owner has ended. A thing is lost when it is ours
(`stackyard.docker.ownership`) and the book does not know its lease. A lease that is in use goes only when everything
goes. The data of an environment that keeps it never goes here: `removal.remove_data` removes it, by the name of its
environment.
"""

from __future__ import annotations

import pwd
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from stackyard.docker import ownership
from stackyard.leases.owners import boot_id
from stackyard.leases.recovery.lost_leases import Survivor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.docker import Engine, Resource
    from stackyard.docker.records import Kind
    from stackyard.leases import Lease, LeaseBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    One thing a clean-up would remove.

    Attributes:
        command: The clean-up that removes it: `stale`, or `all` for what is in use.
        kind: lease, container, network or volume.
        name: Its name; a lease's project name.
        lease: The lease it belongs to.
        environment: Its environment.
        owner: What keeps the lease alive; empty when the book does not know the lease.
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


def plan(
    book: LeaseBook,
    engine: Engine,
    *,
    everything: bool = True,
    keep_volumes: bool = True,
    clock: Callable[[], float] = time.time,
) -> list[Candidate]:
    """
    List what a clean-up removes now: the stale and the lost first.

    Args:
        book: Whose leases.
        engine: Where their stacks are.
        everything: List what is in use, too.
        keep_volumes: Leave named volumes out, as a clean-up without --volumes does.
        clock: Seconds since 1970.

    Raises:
        BookError: If the lease book cannot be used.
        EngineError: If the engine does not answer.
    """
    found, now = ownership.marked(engine.everything, book.host), clock()
    leases = book.leases()  # after the list: a lease is always older than its containers
    lost = ownership.lost(book.host, found, (lease.id for lease in leases))
    if lost:
        leases, lost = _restored(book, found, lost, everything=everything)
    judged = [lease for lease in leases if everything or lease.is_stale(now)]
    if judged or lost:
        found += ownership.in_projects(engine)
    listed = [each for lease in judged for each in _of(lease, book.host, found, now, keep_volumes=keep_volumes)]
    listed += [
        _lost(item, holdings)
        for holdings in lost.values()
        for item in _removable(holdings, found, keep_volumes=keep_volumes)
    ]
    return sorted(listed, key=lambda each: each.command != "stale")


def _restored(
    book: LeaseBook, found: Sequence[Resource], lost: dict[str, ownership.Holdings], *, everything: bool
) -> tuple[list[Lease], dict[str, ownership.Holdings]]:
    """Enter what a book from a backup has never known; return its leases, and what is lost all the same."""
    shown = (Survivor.from_labels(item.labels, host=book.host) for item in found)
    survivors = {survivor.id: survivor for survivor in shown if survivor is not None and survivor.id in lost}
    leases, known = book.restore(survivors.values())
    spared = {lease.id for lease in leases} | (set() if everything else known)
    return leases, {lease: holdings for lease, holdings in lost.items() if lease not in spared}


def _removable(holdings: ownership.Holdings, found: Sequence[Resource], *, keep_volumes: bool) -> list[Resource]:
    keep = keep_volumes or holdings.keeps_data
    return [item for item in holdings.among(found) if not (keep and ownership.is_kept(item))]


def _of(lease: Lease, host: str, found: Sequence[Resource], now: float, *, keep_volumes: bool) -> list[Candidate]:
    """Return a candidate for the lease itself and one for each thing under it."""
    things: list[tuple[Kind | Literal["lease"], str]] = [("lease", lease.project)]
    held = _removable(ownership.Holdings.of(host, lease), found, keep_volumes=keep_volumes)
    things += [(item.kind, item.name) for item in held]
    stale, alive = lease.is_stale(now), lease.owner.is_alive(lease.lock)
    return [
        Candidate(
            command="stale" if stale else "all", kind=kind, name=name, lease=lease.id, environment=lease.environment,
            owner=lease.owner.describe(), alive=alive, deadline=lease.deadline, user=_user(lease),
            why=_why(lease, now) if stale else "in use",
        )
        for kind, name in things
    ]  # fmt: skip


def _lost(item: Resource, holdings: ownership.Holdings) -> Candidate:
    return Candidate(
        command="stale", kind=item.kind, name=item.name, lease=holdings.lease,
        environment=holdings.environment, why="the book has no such lease",
    )  # fmt: skip


def _why(lease: Lease, now: float) -> str:
    if lease.deadline is not None and lease.deadline <= now:
        return f"its deadline passed {now - lease.deadline:.0f} s ago"
    if lease.owner.boot != boot_id():
        return "the host has been restarted since"
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

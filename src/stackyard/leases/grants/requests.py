"""One request for a lease, answered in one transaction: with an existing lease, or with a new one."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from stackyard.errors import BookError, PoolExhaustedError, StillStartingError, UsageError
from stackyard.leases import owners
from stackyard.leases.database import rows
from stackyard.leases.directory import files
from stackyard.leases.directory.draft import Draft
from stackyard.leases.grants import admission, messages
from stackyard.leases.grants.allocation import Place, Search
from stackyard.leases.names import check_id, check_seconds
from stackyard.leases.needs import Needs
from stackyard.leases.owners import Owner
from stackyard.leases.records import CHECKOUT, Lease, project_name, stable_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackyard.leases.database.store import Transaction
    from stackyard.leases.grants.host_ports import Ground
    from stackyard.leases.records import Fixed, Leasable
    from stackyard.project.environments.services import Services
    from stackyard.settings import Settings

PARALLEL_TTL: Final = 3600.0  # seconds until a lease with a name ends, unless it is requested again


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    What `LeaseBook.acquire` was asked for; its arguments are explained there.

    Raises:
        UsageError: If an id or time is wrong, or the two do not go together.
    """

    settings: Settings
    host: str
    directory: Path
    environment: Leasable
    parallel_id: str | None
    ttl: float | None
    fixed: Fixed
    variables: Mapping[str, str] = field(repr=False)
    needs: Needs | None = None
    force: bool = False
    attached: bool = False
    scattered: bool = False

    def __post_init__(self) -> None:
        if self.parallel_id is not None:
            check_id("a name", self.parallel_id)
            if self._keeps_data:
                raise UsageError(
                    f"environment {self.environment.name!r} keeps its data, so it has only one stack; "
                    f"leave the name {self.parallel_id!r} out"
                )
        if self.ttl is not None and self.ttl != math.inf:
            check_seconds("ttl", self.ttl)

    @property
    def wanted(self) -> str:
        """What the request queues for: the pool, an environment's own block, or what only one copy can have."""
        if self.needs is not None and self.needs.exclusive:
            return "exclusive"
        return f"block:{self.environment.name}" if self.fixed == "only" else "pool"

    def draft(self) -> Draft:
        """
        Return the directory of a new lease, not yet prepared.

        Raises:
            UsageError: If a variable cannot be written.
        """
        return Draft.of(self.directory, self._environment, self.variables, self.host, self._services)

    def answer(self, db: Transaction, draft: Draft, ground: Ground, now: float, ahead: int) -> Lease:
        """
        Return the lease.

        Args:
            db: The book, in a transaction.
            draft: Becomes the lease's directory if it is a new one.
            ground: The host as it is now.
            now: Seconds since 1970.
            ahead: How many requests wait before this one; as many places stay free for them.

        Raises:
            PoolExhaustedError: If there is no place for this request now.
            UsageError: If a variable cannot be written.
        """
        held = self._existing(db)
        if held is not None:
            return self._again(db, held, now)
        self._claim(db, ahead)
        self._admit(db, ground, now, ahead)
        return self._grant(db, draft, self._place(db, ground, now, ahead), now)

    @property
    def _keeps_data(self) -> bool:
        return self.environment.data == "volume"

    @property
    def _services(self) -> Services | None:
        return self.environment.services if self.needs is None else None

    @property
    def _environment(self) -> dict[str, str]:
        """The variables of the environment's env file, and the checkout they are of."""
        root = str(self.environment.root)
        # left out if no env file can hold the path: it only tells a person where the stack comes from
        checkout = {CHECKOUT: root} if root.isprintable() and "'" not in root else {}
        return {**self.environment.variables, **checkout}

    @property
    def _stable_id(self) -> str:
        return stable_id(self.environment.name, self.host, self.environment.root)

    def _existing(self, db: Transaction) -> Lease | None:
        if self._keeps_data:
            return rows.one(db, self.directory, self._stable_id)
        if self.parallel_id is None:
            return None
        return rows.by_parallel_id(db, self.directory, self.parallel_id, self.environment.name)

    def _again(self, db: Transaction, held: Lease, now: float) -> Lease:
        """Return an existing lease again, unless a living process owns it."""
        stale = held.is_stale(now)
        if held.owner.kind == "process" and not stale:
            starting = held.parallel_id is not None and not held.removing
            # another thread of this process may be the starter
            if held.owner != Owner.current() or (starting and self.attached):
                raise (StillStartingError if starting else PoolExhaustedError)(messages.kept(held))
        # a detached stack that exists must not end together with the process that asks for it again
        keeps = self.attached and held.owner.kind == "detached" and held.owner.is_alive(held.lock)
        owner = held.owner if keeps else self._owner()
        again = replace(held, owner=owner, deadline=self._deadline(now, owner), removing=False, reused=True)
        if self.variables or again.owner != held.owner or not _is_whole(again):
            files.write(again, self._environment, self.variables, self.host, self._services)
        _hold(again)
        rows.update(db, again)
        return again

    def _claim(self, db: Transaction, ahead: int) -> None:
        """Raise if another lease has something that only one can have, or others wait for it."""
        wanted = self.needs.exclusive if self.needs else ()
        if held := rows.holder(db, self.directory, wanted):
            raise PoolExhaustedError(messages.exclusive(*held))
        if wanted and ahead:
            raise PoolExhaustedError(messages.waited_for(wanted[0], ahead))

    def _admit(self, db: Transaction, ground: Ground, now: float, ahead: int) -> None:
        """Raise if there is no memory for the stack."""
        if self.force or ground.memory is None:
            return
        own = self.environment
        text = admission.refusal(own.name, own.reserve_mb, ground.memory, admission.Booked.read(db, now), ahead)
        if text is not None:
            raise PoolExhaustedError(text)

    def _place(self, db: Transaction, ground: Ground, now: float, ahead: int) -> Place:
        if self.fixed != "never":
            own = self.environment
            block = Place(slot=None, ports=dict(own.ports), spare=(), subnet=own.subnet)
            obstacle = messages.obstacle(db, self.directory, block, ground)
            if obstacle is None and ahead == 0:
                return block
            if self.fixed == "only":
                raise PoolExhaustedError(
                    messages.fixed(own.name, obstacle or f"others wait for them (requests ahead in the queue: {ahead})")
                )
            import logging

            logging.getLogger("stackyard").info("environment %s moves to the pool: %s", own.name, obstacle)
        search = Search(db=db, settings=self.settings, ground=ground, now=now)
        try:
            names = self._services.names if self._services else ()
            return search.place(self.needs or Needs(ports=names), ahead, scattered=self.scattered)
        except PoolExhaustedError as error:
            leases = rows.every(db, self.directory)
            raise PoolExhaustedError(messages.exhausted(error, leases, search, ahead)) from None

    def _grant(self, db: Transaction, draft: Draft, place: Place, now: float) -> Lease:
        name, owner = self.environment.name, self._owner()
        identifier = self._stable_id if self._keeps_data else os.urandom(4).hex()
        lease = Lease(
            id=identifier,
            parallel_id=self.parallel_id,
            environment=name,
            slot=place.slot,
            ports=place.ports,
            spare=place.spare,
            subnet=place.subnet,
            project=project_name(name, identifier),
            owner=owner,
            created=now,
            deadline=self._deadline(now, owner),
            memory_mb=self.environment.reserve_mb,
            exclusive=self.needs.exclusive if self.needs else (),
            directory=self.directory / identifier,
        )
        rows.insert(db, lease)
        # a rebuilt book would take a directory that is left behind for a lease
        db.undo.append(lambda: files.discard(files.remove(lease.directory)))
        db.undo.append(lambda: owners.drop(lease.lock))
        draft.settle(lease, named=Owner.detached() if self.attached else owner)
        return lease

    def _owner(self) -> Owner:
        outlives = self.ttl is not None or self.parallel_id is not None
        return Owner.detached() if outlives and not self.attached else Owner.current()

    def _deadline(self, now: float, owner: Owner) -> float | None:
        if self.attached and owner.kind == "process":
            return None
        lifetime = PARALLEL_TTL if self.ttl is None and self.parallel_id is not None else self.ttl
        return None if lifetime is None or lifetime == math.inf else now + lifetime


def _is_whole(lease: Lease) -> bool:
    """Say whether the lease's env file can be used as it is."""
    try:
        lease.variables()
    except BookError:
        return False
    return True


def _hold(lease: Lease) -> None:
    if lease.owner.kind == "process":
        owners.hold(lease.lock)
    else:
        owners.drop(lease.lock)

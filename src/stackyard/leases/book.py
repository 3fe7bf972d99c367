"""
The lease book: who on this host has which ports, subnet and project name.

A grant is one transaction that chooses a place, writes the claims and the lease's files; killed half-way it leaves at most a
directory that belongs to no lease, which the next sweep removes. Leases end in one of two ways: their holder releases them,
or somebody finds them stale, takes them over, removes their stack and then releases them. Taking over is one compare-and-set
in the book, and a release must name the owner it was given, so of two who judge the same lease stale only one acts, and a
slow one never ends a fresh lease of the same name.
"""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stackyard.errors import LeaseNotFoundError, PoolExhaustedError, UsageError
from stackyard.leases import files, grants, owners, recovery, rows
from stackyard.leases.ground import Ground
from stackyard.leases.names import check_id, check_seconds
from stackyard.leases.owners import Owner
from stackyard.leases.records import Lease, project_name
from stackyard.leases.slots import Place, Search
from stackyard.leases.store import Store

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from stackyard.leases.records import Fixed, Leasable, Strangers, Survivor
    from stackyard.settings import Settings

log = logging.getLogger("stackyard")

PARALLEL_TTL: Final = 3600.0  # seconds that a lease with a parallel id lives without being asked for again


class LeaseBook:
    """
    The leases of one user on one host; any number of processes and threads may use it at once.

    Args:
        settings: Where the book is, and the pool.
        survivors: Lists the leases of the stacks that run, for a book that was lost; called at most once for each loss.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        survivors: Callable[[], Iterable[Survivor]] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.host = settings.host
        self._survivors = survivors
        self._clock = clock
        self._directory = settings.state_dir / "leases"
        self._store = Store(settings.state_dir, self._recover)

    def acquire(
        self,
        environment: Leasable,
        *,
        parallel_id: str | None = None,
        ttl: float | None = None,
        fixed: Fixed = "never",
        variables: Mapping[str, str] | None = None,
        strangers: Strangers | None = None,
    ) -> Lease:
        """
        Grant a lease, or return the one that *parallel_id* (or an environment whose data is a volume) already has.

        Args:
            environment: What the lease is for.
            parallel_id: The same id gives the same lease, from any process, and renews its deadline.
            ttl: Seconds until the lease ends unless renewed. None ties it to this process instead, except that a parallel id
                gets an hour; infinity ties it to nothing.
            fixed: Whether the environment's own ports and subnet are used: never, if they are free, or else not at all.
            variables: More variables for the env file, such as image references.
            strangers: Ports and networks an engine has that the kernel does not show.

        Raises:
            PoolExhaustedError: If nothing is free; the text says who holds it and how to go on.
            UsageError: If an id, time or variable is wrong.
            BookError: If the book cannot be used.
        """
        if parallel_id is not None:
            check_id("a parallel id", parallel_id)
            if environment.data == "volume":
                raise UsageError(
                    f"environment {environment.name!r} keeps its data, so there is one stack of it; leave the parallel id out"
                )
        if ttl is not None and ttl != math.inf:
            check_seconds("ttl", ttl)
        ground = Ground.survey(strangers.ports, strangers.subnets) if strangers else Ground.survey()
        lifetime = PARALLEL_TTL if ttl is None and parallel_id is not None else ttl

        def work(db: sqlite3.Connection) -> Lease:
            held = self._existing(db, environment, parallel_id)
            if held is not None:
                return self._again(db, held, environment, lifetime, variables or {})
            place = self._place(db, environment, fixed, ground)
            return self._grant(db, place, environment, parallel_id, lifetime, variables or {})

        return self._store.run(work)

    def _existing(self, db: sqlite3.Connection, environment: Leasable, parallel_id: str | None) -> Lease | None:
        """Return the lease this request already has; a request for a new one has none."""
        if environment.data == "volume":
            return rows.one(db, self._directory, environment.name)
        if parallel_id is None:
            return None
        return rows.by_parallel_id(db, self._directory, parallel_id, environment.name)

    def _again(
        self,
        db: sqlite3.Connection,
        held: Lease,
        environment: Leasable,
        ttl: float | None,
        variables: Mapping[str, str],
    ) -> Lease:
        """Hand a lease out once more, unless a living process has it to itself."""
        me = Owner.current()
        if held.owner.kind == "process" and held.owner != me and not self.is_stale(held):
            doing = "is being removed" if held.removing else "is held"
            raise PoolExhaustedError(
                f"environment {environment.name!r}: lease {held.id} {doing} by {held.owner.describe()}; wait for it to end"
            )
        again = replace(
            held, owner=me if ttl is None else Owner.detached(), deadline=self._deadline(ttl), removing=False
        )
        if not self._is_written(again) or variables or again.owner != held.owner:
            files.write(again, environment.variables, variables, self.host)
        self._hold(again)
        rows.update(db, again)
        return again

    @staticmethod
    def _is_written(lease: Lease) -> bool:
        return lease.env_file.is_file() and lease.secrets_dir.is_dir()

    @staticmethod
    def _hold(lease: Lease) -> None:
        if lease.owner.kind == "process":
            owners.hold(lease.lock)
        else:
            owners.drop(lease.lock)

    def _grant(
        self,
        db: sqlite3.Connection,
        place: Place,
        environment: Leasable,
        parallel_id: str | None,
        ttl: float | None,
        variables: Mapping[str, str],
    ) -> Lease:
        identifier = environment.name if environment.data == "volume" else os.urandom(4).hex()
        lease = Lease(
            id=identifier,
            parallel_id=parallel_id,
            environment=environment.name,
            slot=place.slot,
            ports=place.ports,
            spare=place.spare,
            subnet=place.subnet,
            project=project_name(environment.name, identifier),
            owner=Owner.current() if ttl is None else Owner.detached(),
            created=self._clock(),
            deadline=self._deadline(ttl),
            directory=self._directory / identifier,
        )
        rows.insert(db, lease)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        try:
            files.write(lease, environment.variables, variables, self.host)
            self._hold(lease)
        except BaseException:
            owners.drop(lease.lock)
            files.discard(files.remove(lease.directory))
            raise
        return lease

    def _place(self, db: sqlite3.Connection, environment: Leasable, fixed: Fixed, ground: Ground) -> Place:
        if fixed != "never":
            block = Place(slot=None, ports=dict(environment.ports), spare=(), subnet=environment.subnet)
            obstacle = grants.obstacle(db, self._directory, block, ground)
            if obstacle is None:
                return block
            if fixed == "only":
                raise PoolExhaustedError(grants.refusal(environment.name, obstacle))
            log.info("environment %s moves to the pool: %s", environment.name, obstacle)
        search = Search(db=db, settings=self.settings, ground=ground, now=self._clock())
        try:
            return search.place()
        except PoolExhaustedError as error:
            raise PoolExhaustedError(
                grants.exhausted(error, rows.every(db, self._directory), search, self.is_stale)
            ) from None

    def _deadline(self, ttl: float | None) -> float | None:
        return None if ttl is None or ttl == math.inf else self._clock() + ttl

    def _find(self, db: sqlite3.Connection, identifier: str, environment: str | None) -> Lease:
        found = rows.find(db, self._directory, check_id("a lease id", identifier), environment)
        if found is None:
            raise LeaseNotFoundError(f"no lease has the id or parallel id {identifier!r}; invoke ports.list shows all")
        return found

    def _recover(self, db: sqlite3.Connection, state: str) -> None:
        recovery.recover(db, self.settings, state, self._directory, self._survivors, self._clock())

    def find(self, identifier: str, *, environment: str | None = None) -> Lease:
        """
        Return the lease with this id or parallel id.

        Raises:
            LeaseNotFoundError: If there is none.
            UsageError: If the id is not one, or leases of several environments have it.
        """
        return self._store.run(lambda db: self._find(db, identifier, environment))

    def leases(self) -> list[Lease]:
        """Return all leases, oldest first."""
        return self._store.run(lambda db: rows.every(db, self._directory))

    def stale(self) -> list[Lease]:
        """Return the leases whose owner is gone or whose deadline has passed; nothing is changed."""
        return [lease for lease in self.leases() if self.is_stale(lease)]

    def is_stale(self, lease: Lease) -> bool:
        """Say whether *lease*, as it was read, has lost its owner or outlived its deadline."""
        if lease.deadline is not None and lease.deadline <= self._clock():
            return True
        if lease.owner.kind == "detached" and lease.deadline is None:
            return False
        return not lease.owner.is_alive(lease.lock)

    def renew(self, identifier: str, ttl: float) -> Lease:
        """
        Let the lease end *ttl* seconds from now; infinity takes the deadline away.

        Raises:
            LeaseNotFoundError: If there is no such lease, or its stack is already being removed.
            UsageError: If *ttl* is wrong.
        """
        if ttl != math.inf:
            check_seconds("ttl", ttl)

        def work(db: sqlite3.Connection) -> Lease:
            held = self._find(db, identifier, None)
            if held.removing:
                raise LeaseNotFoundError(f"lease {held.id} is being removed by {held.owner.describe()}")
            renewed = replace(held, deadline=self._deadline(ttl))
            rows.update(db, renewed)
            return renewed

        return self._store.run(work)

    def take_over(self, lease: Lease) -> Lease | None:
        """
        Become the owner of a stale lease, to remove its stack and then release it; nobody can renew or use it meanwhile.

        Returns:
            The lease as it is now; None if it is gone, was renewed, or somebody else was first.
        """

        def work(db: sqlite3.Connection) -> Lease | None:
            held = rows.one(db, self._directory, lease.id)
            if held is None or held.created != lease.created or not self.is_stale(held):
                return None
            taken = replace(held, owner=Owner.current(), deadline=None, removing=True)
            taken.directory.mkdir(mode=0o700, exist_ok=True)
            owners.hold(taken.lock)
            rows.update(db, taken)
            return taken

        return self._store.run(work)

    def release(self, lease: Lease | str) -> bool:
        """
        End a lease and delete its files; its containers must be gone.

        Args:
            lease: An id ends whatever lease has it. A `Lease` ends only that one, under the owner it was read with: not a later
                one of the same name, nor one that somebody else has taken over.

        Returns:
            Whether there was such a lease.
        """

        def work(db: sqlite3.Connection) -> tuple[bool, Path | None]:
            held = rows.find(db, self._directory, lease if isinstance(lease, str) else lease.id)
            if held is None or (isinstance(lease, Lease) and not _is_same(held, lease)):
                return False, None
            rows.delete(db, held)
            owners.drop(held.lock)
            return True, files.remove(held.directory)

        done, aside = self._store.run(work)
        files.discard(aside)
        return done


def _is_same(held: Lease, lease: Lease) -> bool:
    return (held.created, held.owner) == (lease.created, lease.owner)

"""
Warm stacks: ready, booked like any other, and kept by the reaper until a run takes one.

A warm stack is a lease with a row in the table ``warm``. The reaper owns it, by boot id, pid and start time only;
the process that takes it makes the lock. Taking one is one transaction: it deletes the row and changes the owner. So
several takers get different stacks, and of a taker and a clean-up only one gets it. From then on the lease's files
name the taker. The labels of its containers never name a process, so a rebuilt book does not take the stack for a dead
one.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard.leases import owners
from stackyard.leases.database import column_rules, rows
from stackyard.leases.directory import files
from stackyard.leases.owners import Owner
from stackyard.leases.records import KEEPER

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.leases.book import LeaseBook
    from stackyard.leases.database.store import Transaction
    from stackyard.leases.records import Lease

_COLUMNS: Final = "lease, root, fingerprint, since"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """
    How many warm stacks an environment should have.

    Attributes:
        root: The project's directory.
        environment: The environment's name.
        size: Their number, at least 1.
    """

    root: Path
    environment: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """
    One stack that is ready and not taken yet.

    Attributes:
        lease: Its lease.
        root: The directory of its project.
        fingerprint: What it was made from.
        since: When it became ready, in seconds since 1970.
    """

    lease: Lease
    root: Path
    fingerprint: str
    since: float

    def fits(self, pool: Pool) -> bool:
        """Say whether it belongs to *pool*."""
        return (self.root, self.lease.environment) == (pool.root, pool.environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """
    Leases, pools and warm stacks at one moment.

    Attributes:
        leases: All leases, oldest first.
        pools: All pools.
        warm: All warm stacks, oldest first.
    """

    leases: list[Lease]
    pools: list[Pool]
    warm: list[Warm]


class WarmStacks:
    """
    The warm stacks of one lease book; any number of processes may use them at once.

    Args:
        book: The lease book.
        clock: Seconds since 1970.

    Raises:
        BookError: From every method, if the book cannot be used.
    """

    def __init__(self, book: LeaseBook, *, clock: Callable[[], float] = time.time) -> None:
        self.book = book
        self._clock = clock

    def inventory(self) -> Inventory:
        """Read leases, pools and warm stacks in one transaction."""

        def work(db: Transaction) -> Inventory:
            leases = rows.every(db, self.book.directory)
            return Inventory(leases=leases, pools=_pools(db), warm=_every(db, {lease.id: lease for lease in leases}))

        return self.book.transact(work, reading=True)

    def any(self) -> bool:
        """Say whether there is a warm stack at all."""
        return self.book.transact(lambda db: db.execute("SELECT 1 FROM warm").fetchone() is not None, reading=True)

    def want(self, pool: Pool) -> None:
        """Set the pool of an environment; a size of 0 ends it."""

        def work(db: Transaction) -> None:
            where = (str(pool.root), pool.environment)
            db.execute("DELETE FROM pools WHERE root=? AND environment=?", where)
            if pool.size:
                db.execute("INSERT INTO pools (root, environment, size) VALUES (?,?,?)", (*where, pool.size))

        self.book.transact(work)

    def want_none(self) -> None:
        """End every pool; existing warm stacks stay until a command removes them."""
        self.book.transact(lambda db: db.execute("DELETE FROM pools"))

    def offer(self, lease: Lease, *, root: Path, fingerprint: str, keeper: Owner) -> bool:
        """
        Make the ready stack of *lease*, which this process owns, a warm one.

        Args:
            lease: Held by this process.
            root: The directory of its project.
            fingerprint: What it was made from; a taker must give the same.
            keeper: The reaper, its owner until a run takes it.

        Returns:
            False if the lease has ended or has another owner, or if *keeper* has ended.
        """

        def work(db: Transaction) -> bool:
            held = rows.one(db, self.book.directory, lease.id)
            if held is None or held.created != lease.created or held.owner != lease.owner or not keeper.runs():
                return False
            rows.update(db, replace(held, owner=keeper, deadline=None))
            row = (held.id, str(root), fingerprint, self._clock())
            db.execute(f"INSERT INTO warm ({_COLUMNS}) VALUES (?,?,?,?)", row)  # noqa: S608 - constant columns
            # a lock file that no process holds would mean a dead owner
            db.undo.append(lambda: owners.hold(held.lock))
            _unlock(held)
            return True

        return self.book.transact(work)

    def take(
        self, root: Path, environment: str, fingerprint: str, *, parallel_id: str | None = None, outlives: bool = False
    ) -> Lease | None:
        """
        Make this process the owner of the oldest warm stack that fits; None if there is none.

        Args:
            root: The directory of its project.
            environment: Its environment's name.
            fingerprint: What it must be made from.
            parallel_id: The lease's name from now on. If a lease has this name already, return None: use that one.
            outlives: Write a detached owner into its files, because the lease is detached as soon as the stack is
                known to work.
        """

        def work(db: Transaction) -> Lease | None:
            if parallel_id and rows.by_parallel_id(db, self.book.directory, parallel_id, environment):
                return None
            for found in _every(db, self._leases(db)):
                if (found.root, found.lease.environment, found.fingerprint) == (root, environment, fingerprint):
                    return self._hand_over(db, found.lease, parallel_id, outlives=outlives)
            return None

        return self.book.transact(work)

    def retire(self, unwanted: Callable[[Warm], bool]) -> list[Lease]:
        """Make the *unwanted* warm stacks stale, so that the next clean-up removes them; return them."""

        def work(db: Transaction) -> list[Lease]:
            found = [warm.lease for warm in _every(db, self._leases(db)) if unwanted(warm)]
            now = self._clock()
            for lease in found:
                _forget(db, lease)
                rows.update(db, replace(lease, deadline=now))
            return found

        return self.book.transact(work)

    def give_up(self) -> Lease | None:
        """Take over the oldest warm stack, to remove it and release its lease; None if there is none."""

        def work(db: Transaction) -> Lease | None:
            warm = _every(db, self._leases(db))
            if not warm:
                return None
            held = warm[0].lease
            taken = replace(held, owner=Owner.current(), removing=True)
            _lock(db, taken)
            _forget(db, held)
            rows.update(db, taken)
            return taken

        return self.book.transact(work)

    def _leases(self, db: Transaction) -> dict[str, Lease]:
        return {lease.id: lease for lease in rows.every(db, self.book.directory)}

    def _hand_over(self, db: Transaction, held: Lease, parallel_id: str | None, *, outlives: bool) -> Lease:
        taken = replace(held, owner=Owner.current(), parallel_id=parallel_id)
        _lock(db, taken)
        _forget(db, held)
        rows.rename(db, taken)
        rows.update(db, taken)
        named = Owner.detached() if outlives else taken.owner
        db.undo.append(files.restorer(held))
        files.rewrite(held, replace(taken, owner=named), self.book.host)
        return taken


def _pools(db: Transaction) -> list[Pool]:
    found = db.execute("SELECT root, environment, size FROM pools ORDER BY root, environment").fetchall()
    for row in found:
        column_rules.check("pools", row)
    return [Pool(root=Path(root), environment=environment, size=size) for root, environment, size in found]


def _every(db: Transaction, leases: dict[str, Lease]) -> list[Warm]:
    """Return the warm stacks that can still be taken, oldest first; those of an earlier boot have ended."""
    found = db.execute(f"SELECT {_COLUMNS} FROM warm ORDER BY since, lease").fetchall()  # noqa: S608 - constant columns
    for row in found:
        column_rules.check("warm", row)
    boot = owners.boot_id()
    return [
        Warm(lease=held, root=Path(root), fingerprint=fingerprint, since=since)
        for identifier, root, fingerprint, since in found
        if (held := leases.get(identifier)) and not held.removing and held.owner.boot == boot
    ]


def _forget(db: Transaction, lease: Lease) -> None:
    db.execute("DELETE FROM warm WHERE lease=?", (lease.id,))


def _lock(db: Transaction, taken: Lease) -> None:
    """Take the lock of a lease that had none; the undo step drops it."""
    db.undo.append(lambda: _unlock(taken))
    owners.hold(taken.lock)


def _unlock(lease: Lease) -> None:
    owners.drop(lease.lock)
    with contextlib.suppress(FileNotFoundError):
        lease.lock.rename(lease.directory / KEEPER)

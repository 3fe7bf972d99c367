"""
The lease book: which lease on this host has which ports, subnet and project name.

A grant is one transaction: it chooses a place and writes the claims and the lease's files. If the process is killed in
it, at most a directory without a lease is left, and the next clean-up removes it. A lease ends in one of two ways. Its
owner releases it, or another process finds it stale, takes it over, removes its stack and then releases it. Taking over
is one compare-and-set in the book, and a release by `Lease` must name the owner that the lease was read with. So if two
processes find the same stale lease, only one acts, and the slower one never ends a new lease of the same name. A
detached lease has no owner to name; the time at which it was granted tells it from a later one.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from stackyard._util import files as disk
from stackyard._util.advice import Action, how
from stackyard._util.clocks import Moment, steady_for
from stackyard.errors import LeaseNotFoundError
from stackyard.leases import owners
from stackyard.leases.database import rows
from stackyard.leases.database.store import Store
from stackyard.leases.directory import files
from stackyard.leases.grants import messages
from stackyard.leases.grants.admission import Booked, Capacity
from stackyard.leases.grants.allocation import Search
from stackyard.leases.grants.requests import Request
from stackyard.leases.grants.waiting import Waiting, survey
from stackyard.leases.names import check_id, check_seconds
from stackyard.leases.needs import Needs
from stackyard.leases.owners import Owner
from stackyard.leases.records import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from stackyard.leases.database.store import Transaction
    from stackyard.leases.records import Fixed, Leasable, Strangers
    from stackyard.leases.recovery.lost_leases import Survivor
    from stackyard.settings import Settings

T = TypeVar("T")
REST: Final = 60.0  # seconds for which no lease gets a slot after a program took one of its ports


class LeaseBook:
    """
    The leases of one user on one host; any number of processes and threads may use it at once.

    Args:
        settings: Where the book is, and the pool.
        survivors: Lists the leases of the running stacks, to rebuild a lost book; called until it first succeeds.
        read_only: Change nothing on the disk. Every method that would write raises a BookError.
        clock: Seconds since 1970.
        steady: Seconds since the host was started; the default is what `stackyard._util.clocks.steady_for` returns.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        settings: Settings,
        survivors: Callable[[], Iterable[Survivor]] | None = None,
        *,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.host = settings.host
        self._survivors = survivors
        self._clock = clock
        self._steady = steady or steady_for(clock)
        self._directory = settings.state_dir / "leases"
        self._standing: set[str] = set()  # leases of running stacks that a book from a backup may not have room for yet
        self._store = Store(settings.state_dir, self._recover, fix=self._fix, now=self._now, read_only=read_only)
        self._waiting = Waiting(self._store, steady=self._steady, sleep=sleep)

    def acquire(  # noqa: PLR0913 - each is a choice of the command line
        self,
        environment: Leasable,
        *,
        parallel_id: str | None = None,
        ttl: float | None = None,
        fixed: Fixed = "never",
        variables: Mapping[str, str] | None = None,
        needs: Needs | None = None,
        strangers: Callable[[], Strangers | None] | None = None,
        wait: float | None = None,
        force: bool = False,
        attached: bool = False,
        scattered: bool = False,
        make_room: Callable[[], bool] | None = None,
    ) -> Lease:
        """
        Grant a lease, or return the existing one of *parallel_id* or of an environment that keeps its data.

        Args:
            environment: What the lease is for.
            parallel_id: The same id gives the same lease, from any process, and renews its deadline.
            ttl: Seconds until the lease ends unless it is renewed. If None, this process owns the lease; a lease with a
                parallel id gets an hour instead. Infinity: no deadline.
            fixed: When to use the environment's own ports and subnet: never, if they are free, or only these.
            variables: More variables for the env file, such as image references.
            needs: Ports and networks of a copy of a Compose project; None for a stack of the platform.
            strangers: Looks at the ports and networks an engine has that the kernel does not show.
            wait: Seconds to queue for a place, first come first served; None does not wait.
            force: Grant the lease even if the host has no memory for another stack.
            attached: This process owns a new lease until `renew` detaches it; others that ask for its id wait.
            scattered: Take any free slot, because another book of this host takes the first one, too.
            make_room: Called when no place is free, with this request in the queue; says whether it has freed one.

        Raises:
            PoolExhaustedError: If no place or no memory is free; the text names the holders and what to do next.
            UsageError: If an id, time or variable is wrong.
            BookError: If the book cannot be used.
        """
        request = Request(
            settings=self.settings, host=self.host, directory=self._directory, environment=environment,
            parallel_id=parallel_id, ttl=ttl, fixed=fixed, variables=variables or {}, needs=needs,
            force=force, attached=attached, scattered=scattered,
        )  # fmt: skip
        if wait is not None:
            check_seconds("wait", wait)
        draft = request.draft()
        try:
            with self._store.usable():
                draft.prepare()
            return self._waiting.attend(request, draft, strangers, wait or 0.0, make_room)
        finally:
            draft.drop()

    @property
    def directory(self) -> Path:
        """Where the leases' directories are."""
        return self._directory

    def transact(self, work: Callable[[Transaction], T], *, reading: bool = False) -> T:
        """
        Do *work* in one transaction while no other process uses the book; it may run again on a new book.

        Args:
            work: Called with the open book.
            reading: *work* only reads, so no state directory is made for it.

        Raises:
            BookError: If the book cannot be used.
        """
        return self._store.run(work, reading=reading)

    def find(self, identifier: str, *, environment: str | None = None) -> Lease:
        """
        Return the lease with this id or parallel id.

        Raises:
            LeaseNotFoundError: If there is none.
            UsageError: If the id is not one, or leases of several environments have it.
        """
        return self._store.run(lambda db: self._find(db, identifier, environment), reading=True)

    def leases(self) -> list[Lease]:
        """Return all leases, oldest first."""
        return self._store.run(lambda db: rows.every(db, self._directory), reading=True)

    def restore(self, survivors: Iterable[Survivor]) -> tuple[list[Lease], set[str]]:
        """
        Enter the leases of running stacks that the book has never known, because it was put back from a backup.

        Args:
            survivors: What the labels of running stacks tell, the leases of ended ones included.

        Returns:
            All leases, oldest first, and the ids of *survivors* that the book has not ended.
        """
        from stackyard.leases.recovery import lost_book

        def work(db: Transaction) -> tuple[list[Lease], set[str]]:
            known = lost_book.restore(db, self.settings, self._directory, survivors, self._clock())
            self._standing |= known
            return rows.every(db, self._directory), known

        return self._store.run(work, reading=True)

    def stale(self) -> list[Lease]:
        """Return the leases whose owner has ended or whose deadline has passed; change nothing."""
        return [lease for lease in self.leases() if self.is_stale(lease)]

    def tidy(self) -> int:
        """
        Remove directories of leases that have ended, which killed processes left.

        Returns:
            How many were removed.
        """
        from stackyard.leases.recovery import lost_book

        def work(db: Transaction) -> list[Path]:
            # until the leases of a lost book have been restored, no directory is known to be left over
            return files.orphans(self._directory, rows.ids(db) | self._standing) if lost_book.is_done(db) else []

        found = self._store.run(work) if self._store.exists() else []
        for directory in found:
            files.discard(directory)
        return len(found)

    def is_stale(self, lease: Lease) -> bool:
        """Say whether the owner of *lease*, as it was read, has ended or its deadline has passed."""
        return lease.is_stale(self._clock())

    def renew(self, identifier: str, ttl: float, *, detach: bool = False) -> Lease:
        """
        Let the lease end *ttl* seconds from now; infinity removes the deadline.

        Args:
            identifier: Its id or parallel id.
            ttl: Seconds.
            detach: Let it outlive the process that owns it; from now on only the deadline keeps it alive.

        Raises:
            LeaseNotFoundError: If there is no such lease, or its stack is already being removed.
            UsageError: If *ttl* is wrong.
        """
        if ttl != math.inf:
            check_seconds("ttl", ttl)

        def work(db: Transaction) -> Lease:
            held = self._find(db, identifier, None)
            if held.removing:
                raise LeaseNotFoundError(messages.kept(held))
            owner = Owner.detached() if detach else held.owner
            renewed = replace(held, owner=owner, deadline=None if ttl == math.inf else self._clock() + ttl)
            rows.update(db, renewed)
            if detach and held.owner.kind == "process":
                owners.drop(held.lock)
                if held.env_file.is_file():
                    files.rewrite(held, renewed, self.host)
            return renewed

        return self._store.run(work)

    def take_over(self, lease: Lease) -> Lease | None:
        """
        Become the owner of a stale lease, to remove its stack and release it; until then it cannot be renewed or used.

        Returns:
            The lease as it is now; None if it has ended, was renewed, or another process took it first.
        """

        def work(db: Transaction) -> Lease | None:
            held = rows.one(db, self._directory, lease.id)
            if held is None or held.created != lease.created or not self.is_stale(held):
                return None
            taken = replace(held, owner=Owner.current(), deadline=None, removing=True)
            # without a lock, pid and start time show that the process is alive
            with contextlib.suppress(OSError):
                disk.make_folder(taken.directory)
                owners.hold(taken.lock)
            rows.update(db, taken)
            return taken

        return self._store.run(work)

    def release(self, lease: Lease | str) -> bool:
        """
        End a lease and delete its files; its containers must be gone.

        Args:
            lease: An id releases the lease that has it. A `Lease` releases only that one: not a later one of the same
                name, nor one that another process has taken over since it was read.

        Returns:
            Whether there was such a lease.
        """

        def work(db: Transaction) -> tuple[bool, Path | None]:
            held = rows.find(db, self._directory, lease if isinstance(lease, str) else lease.id)
            if held is None or (isinstance(lease, Lease) and not _is_same(held, lease)):
                return False, None
            rows.delete(db, held)
            if held.owner == Owner.current():
                owners.drop(held.lock)
                db.undo.append(lambda: owners.hold(held.lock))
            aside = files.remove(held.directory)
            if aside is not None:
                db.undo.append(lambda: aside.rename(held.directory))
            return True, aside

        ended, aside = self._store.run(work)
        files.discard(aside)
        return ended

    def quarantine(self, identifier: str, seconds: float) -> None:
        """
        Keep the lease's slot unused for *seconds* after its release, because another program uses one of its ports.

        Raises:
            LeaseNotFoundError: If there is no such lease.
            UsageError: If *seconds* is wrong.
        """
        check_seconds("seconds", seconds)
        self._store.run(lambda db: rows.rest(db, self._find(db, identifier, None), db.moment.steady + seconds))

    def move(
        self, lease: Lease, *, strangers: Strangers | None = None, rest: float = REST, scattered: bool = False
    ) -> Lease:
        """
        Give the lease another slot, and keep its old one unused for *rest* seconds; its containers must be gone.

        Id, project name and credentials stay; ports and subnet change, in the env file too; no fixed block remains.

        Raises:
            PoolExhaustedError: If there is no other slot; the lease stays as it was.
            LeaseNotFoundError: If the lease has ended, or has another owner now.
        """
        check_seconds("rest", rest)
        ground = survey(strangers)

        def work(db: Transaction) -> Lease:
            held = rows.one(db, self._directory, lease.id)
            if held is None or not _is_same(held, lease):
                raise LeaseNotFoundError(f"lease {lease.title} has ended or has another owner; acquire a new one")
            # a fixed block has no ports for the second addresses of services
            names = dict.fromkeys([*held.ports, *(() if held.is_copy else held.urls())])
            search = Search(db=db, settings=self.settings, ground=ground, now=db.moment.wall)
            place = search.place(Needs(ports=tuple(names), prefixes=held.prefixes), scattered=scattered)
            moved = replace(held, slot=place.slot, ports=place.ports, spare=place.spare, subnet=place.subnet)
            rows.delete(db, held)
            rows.rest(db, held, db.moment.steady + rest)
            rows.insert(db, moved)
            db.undo.append(files.restorer(held))
            files.rewrite(held, moved, self.host)
            return moved

        return self._store.run(work)

    def capacity(self, environment: Leasable, *, strangers: Strangers | None = None) -> Capacity:
        """
        Say how many more stacks of *environment* would get a place now, and which limit they reach first.

        Args:
            environment: What the stacks are of.
            strangers: As for *acquire*.
        """
        ground = survey(strangers)

        def work(db: Transaction) -> tuple[list[range], int, Booked]:
            search = Search(db=db, settings=self.settings, ground=ground, now=self._clock())
            blocks = list(search.unclaimed())
            return blocks, search.networks(len(blocks)), Booked.read(db, search.now)

        blocks, networks, booked = self._store.run(work, reading=True)
        slots = sum(ground.is_free(block) for block in blocks)
        return Capacity.of(
            environment.name, slots=slots, networks=networks, memory=ground.memory, booked=booked,
            reserve_mb=environment.reserve_mb,
        )  # fmt: skip

    def check(self) -> str:
        """
        Check every page of the book, every row, and every lease against its claims.

        Returns:
            ``ok``, or what is wrong; or ``fixed:`` and what was wrong before this call fixed it.

        Raises:
            BookError: If the book cannot be used.
        """
        verdict = self._store.run(rows.verdict, fresh=True, reading=True)
        return f"fixed: {'; '.join(self._store.fixed)}" if verdict == "ok" and self._store.fixed else verdict

    def _find(self, db: Transaction, identifier: str, environment: str | None) -> Lease:
        found = rows.find(db, self._directory, check_id("a lease id", identifier), environment)
        if found is None:
            raise LeaseNotFoundError(f"no lease has the id or name {identifier!r}; {how(Action.LEASES)}")
        return found

    def _now(self) -> Moment:
        return Moment(wall=self._clock(), steady=self._steady(), boot=owners.boot_id())

    def _fix(self, db: Transaction) -> list[str]:
        from stackyard.leases.recovery import damaged_rows

        return damaged_rows.fix(db, self._directory, self.settings)

    def _recover(self, db: Transaction, state: str) -> None:
        if state == "due" or self._survivors is not None:
            from stackyard.leases.recovery import lost_book

            lost_book.recover(db, self.settings, state, self._directory, self._survivors, self._clock())


def _is_same(held: Lease, lease: Lease) -> bool:
    """Say whether *held* is *lease*, and no other process has taken it over since it was read."""
    return held.created == lease.created and (held.owner == lease.owner or held.owner.kind == "detached")

"""The book against a model of what it promises, under any order of what people and crashes do to it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from lease_records import Clock, Surroundings

from stackyard.errors import LeaseNotFoundError, PoolExhaustedError
from stackyard.leases import Lease, LeaseBook
from stackyard.settings import Settings

SLOTS = 5


class Book(RuleBasedStateMachine):
    """Five slots, one fixed block, two parallel ids."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.root = Path(tempfile.mkdtemp())
        given = {
            "STACKYARD_STATE_DIR": str(self.root / "state"),
            "STACKYARD_POOL": "11300-11324",
            "STACKYARD_POOL_BLOCK": "5",
            "STACKYARD_POOL_SUBNETS": "10.214.64.0/20",
        }
        self.settings = Settings.load(given)
        self.model: dict[str, Lease] = {}
        self.rests: dict[int, float] = {}
        self.given_back: list[int] = []
        self.environment = Surroundings()

    @property
    def book(self) -> LeaseBook:
        """A new one each time, as from another process."""
        return LeaseBook(self.settings, clock=self.clock)

    def teardown(self) -> None:
        for lease in self.book.leases():
            self.book.release(lease.id)
        shutil.rmtree(self.root)

    def free(self) -> list[int]:
        taken = {lease.slot for lease in self.model.values()}
        fresh = [slot for slot in range(SLOTS) if slot not in self.given_back]
        order = [slot for slot in [*fresh, *self.given_back] if slot not in taken]
        return [slot for slot in order if self.rests.get(slot, 0) <= self.clock.now]

    def forget(self, lease: Lease) -> None:
        del self.model[lease.id]
        if lease.slot is not None:
            self.given_back = [slot for slot in self.given_back if slot != lease.slot] + [lease.slot]

    @rule(target=held, ttl=st.sampled_from([None, 10.0, 1000.0]))
    def acquire(self, ttl: float | None) -> str:
        free = self.free()
        if not free:
            with pytest.raises(PoolExhaustedError):
                self.book.acquire(self.environment, ttl=ttl)
            return ""
        lease = self.book.acquire(self.environment, ttl=ttl)
        assert lease.slot == free[0]
        self.model[lease.id] = lease
        return lease.id

    @rule(target=held)
    def prefer_fixed(self) -> str:
        blocked = any(lease.slot is None for lease in self.model.values())
        free = self.free()
        if blocked and not free:
            with pytest.raises(PoolExhaustedError):
                self.book.acquire(self.environment, fixed="prefer")
            return ""
        lease = self.book.acquire(self.environment, fixed="prefer")
        assert lease.slot == (free[0] if blocked else None)
        self.model[lease.id] = lease
        return lease.id

    @rule(target=held, name=st.sampled_from(["one", "two"]))
    def acquire_by_name(self, name: str) -> str:
        known = next((lease for lease in self.model.values() if lease.parallel_id == name), None)
        free = self.free()
        if known is None and not free:
            with pytest.raises(PoolExhaustedError):
                self.book.acquire(self.environment, parallel_id=name)
            return ""
        lease = self.book.acquire(self.environment, parallel_id=name)
        assert lease.deadline == self.clock.now + 3600
        assert lease.slot == (known.slot if known else free[0])
        assert known is None or lease.id == known.id
        self.model[lease.id] = lease
        return lease.id

    @rule(identifier=consumes(held))
    def release(self, identifier: str) -> None:
        known = self.model.get(identifier)
        if known is None:
            return
        assert self.book.release(known)
        assert not self.book.release(known)
        self.forget(known)

    @rule(identifier=held, ttl=st.sampled_from([5.0, 50.0]))
    def renew(self, identifier: str, ttl: float) -> None:
        if identifier not in self.model:
            if identifier:
                with pytest.raises(LeaseNotFoundError):
                    self.book.renew(identifier, ttl)
            return
        self.model[identifier] = self.book.renew(identifier, ttl)

    @rule(identifier=held)
    def move(self, identifier: str) -> None:
        known, free = self.model.get(identifier), self.free()
        if known is None:
            return
        if not free:
            with pytest.raises(PoolExhaustedError):
                self.book.move(known)
            return
        moved = self.book.move(known, rest=60)
        assert moved.slot == free[0]
        self.forget(known)
        if known.slot is not None:
            self.rests[known.slot] = self.clock.now + 60
        self.model[moved.id] = moved

    @rule()
    def collect(self) -> None:
        for lease in self.book.stale():
            taken = self.book.take_over(lease)
            assert taken is not None
            assert self.book.release(taken)
            self.forget(self.model[lease.id])

    @rule(seconds=st.sampled_from([1.0, 11.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def the_book_holds_exactly_what_was_granted(self) -> None:
        leases = self.book.leases()
        ports = [port for lease in leases for port in (*lease.ports.values(), *lease.spare)]
        subnets = [lease.subnet for lease in leases]

        assert {lease.id: lease for lease in leases} == self.model
        assert len(set(ports)) == len(ports)
        assert len(set(subnets)) == len(subnets)
        assert self.book.check() == "ok"
        stale = {lease.id for lease in self.model.values() if (lease.deadline or 1e12) <= self.clock.now}
        assert {lease.id for lease in self.book.stale()} == stale
        folder = self.settings.state_dir / "leases"
        assert {path.name for path in folder.glob("*")} == set(self.model)


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)

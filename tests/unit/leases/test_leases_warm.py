"""Warm stacks as the book has them: offered once, taken once, never judged by the reaper's life once taken."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from stackyard.errors import BookError, StillStartingError
from stackyard.leases import LeaseBook, Owner, owners
from stackyard.leases.grants import waiting
from stackyard.leases.warm import Pool, WarmStacks
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from lease_records import Clock, MakeBook, Surroundings

    from stackyard.leases import Lease

ROOT = Path("/project")
PRINT = "f" * 64


@pytest.fixture
def stacks(book: LeaseBook, clock: Clock) -> WarmStacks:
    return WarmStacks(book, clock=clock)


@pytest.fixture
def warm(stacks: WarmStacks, environment: Surroundings) -> Callable[..., Lease]:
    """Offer one lease after another."""

    def make(*, fingerprint: str = PRINT, keeper: Owner | None = None) -> Lease:
        lease = stacks.book.acquire(environment, attached=True, ttl=60, variables={"STACKYARD_IMAGE_REDIS": "r:1"})
        who = keeper or Owner.current()
        assert stacks.offer(lease, root=ROOT, fingerprint=fingerprint, keeper=who)
        return lease

    return make


def ended() -> Owner:
    """Return a process that has ended."""
    return replace(Owner.current(), pid=2**22 - 1, ticks=1)


def test_a_taken_stack_is_its_takers_and_keeps_ports_and_credentials(
    stacks: WarmStacks, warm: Callable[..., Lease]
) -> None:
    offered = warm()
    before = offered.variables()

    taken = stacks.take(ROOT, "test", PRINT)

    assert taken is not None
    assert (taken.id, taken.ports, taken.owner) == (offered.id, offered.ports, Owner.current())
    changed = {key for key, value in taken.variables().items() if before[key] != value}
    assert changed == {"STACKYARD_OWNER"}
    assert stacks.book.find(offered.id) == taken
    assert owners.is_held(taken.lock)
    assert stacks.take(ROOT, "test", PRINT) is None
    assert not stacks.any()


@pytest.mark.parametrize(
    ("root", "name", "fingerprint"),
    [(Path("/other"), "test", PRINT), (ROOT, "ci", PRINT), (ROOT, "test", "0" * 64)],
    ids=["another project", "another environment", "made from something else"],
)
def test_only_an_equal_stack_is_handed_out(
    stacks: WarmStacks, warm: Callable[..., Lease], root: Path, name: str, fingerprint: str
) -> None:
    warm()

    assert stacks.take(root, name, fingerprint) is None
    assert stacks.any()


def test_the_stack_that_has_waited_longest_goes_first(
    stacks: WarmStacks, warm: Callable[..., Lease], clock: Clock
) -> None:
    first = warm()
    clock.sleep(1)
    warm()

    taken = stacks.take(ROOT, "test", PRINT)

    assert taken is not None
    assert taken.id == first.id


def test_a_parallel_id_names_the_taken_lease_and_is_claimed(stacks: WarmStacks, warm: Callable[..., Lease]) -> None:
    offered = {warm().id, warm().id}

    taken = stacks.take(ROOT, "test", PRINT, parallel_id="mine", outlives=True)

    assert taken is not None
    assert taken.id in offered
    assert taken == stacks.book.find("mine")
    assert taken.variables()["STACKYARD_PARALLEL_ID"] == "mine"
    assert stacks.book.check() == "ok"
    assert stacks.take(ROOT, "test", PRINT, parallel_id="mine") is None


def test_the_taker_of_a_stack_that_will_be_detached_is_not_named_in_its_files(
    stacks: WarmStacks, warm: Callable[..., Lease]
) -> None:
    offered = warm()
    told = offered.variables()["STACKYARD_OWNER"]

    taken = stacks.take(ROOT, "test", PRINT, outlives=True)
    assert taken is not None
    renewed = stacks.book.renew(taken.id, 60, detach=True)

    assert told == renewed.owner.label() == Owner.detached().label()
    assert taken.variables()["STACKYARD_OWNER"] == told


def test_nothing_is_offered_to_a_reaper_that_has_ended(
    stacks: WarmStacks, environment: Surroundings, book: LeaseBook
) -> None:
    lease = book.acquire(environment)

    assert not stacks.offer(lease, root=ROOT, fingerprint=PRINT, keeper=ended())
    assert book.find(lease.id).owner == Owner.current()
    assert owners.is_held(lease.lock)


def test_a_lease_that_ended_meanwhile_is_not_offered(
    stacks: WarmStacks, environment: Surroundings, book: LeaseBook
) -> None:
    lease = book.acquire(environment)
    book.release(lease)

    assert not stacks.offer(lease, root=ROOT, fingerprint=PRINT, keeper=Owner.current())
    assert not stacks.any()


def test_a_warm_stack_outlives_the_process_that_made_it_but_not_its_reaper(
    stacks: WarmStacks, warm: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = warm()

    assert not stacks.book.find(offered.id).is_stale(stacks.book._clock())
    monkeypatch.setattr(Owner, "runs", lambda _owner: False)
    assert stacks.book.find(offered.id).is_stale(stacks.book._clock())


def test_a_dead_reapers_stack_can_still_be_taken_until_somebody_removes_it(
    stacks: WarmStacks, warm: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = warm(), warm()
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "runs", lambda _owner: False)
        assert {lease.id for lease in stacks.book.stale()} == {one.id, two.id}
        stacks.book.take_over(stacks.book.find(one.id))

    taken = stacks.take(ROOT, "test", PRINT)

    assert taken is not None
    assert taken.id == two.id
    assert stacks.take(ROOT, "test", PRINT) is None
    assert stacks.book.take_over(stacks.book.find(two.id)) is None


def test_stacks_of_another_boot_are_not_handed_out(
    stacks: WarmStacks, warm: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    warm()
    monkeypatch.setattr(owners, "boot_id", lambda: "another")

    assert stacks.take(ROOT, "test", PRINT) is None


def test_a_retired_stack_is_stale_at_once_and_belongs_to_no_one(stacks: WarmStacks, warm: Callable[..., Lease]) -> None:
    old, new = warm(fingerprint="0" * 64), warm()

    retired = stacks.retire(lambda item: item.fingerprint != PRINT)

    assert [lease.id for lease in retired] == [old.id]
    assert [lease.id for lease in stacks.book.stale()] == [old.id]
    assert [item.lease.id for item in stacks.inventory().warm] == [new.id]


def test_a_stack_given_up_belongs_to_the_process_that_removes_it(
    stacks: WarmStacks, warm: Callable[..., Lease]
) -> None:
    offered = warm()

    given = stacks.give_up()

    assert given is not None
    assert (given.id, given.removing, given.owner) == (offered.id, True, Owner.current())
    assert stacks.book.release(given)
    assert stacks.give_up() is None


def test_a_pool_is_changed_and_ended(stacks: WarmStacks) -> None:
    for size in (2, 5):
        stacks.want(Pool(root=ROOT, environment="test", size=size))
    stacks.want(Pool(root=Path("/other"), environment="test", size=1))

    assert [(pool.root, pool.size) for pool in stacks.inventory().pools] == [(Path("/other"), 1), (ROOT, 5)]
    stacks.want(Pool(root=ROOT, environment="test", size=0))
    assert [pool.root for pool in stacks.inventory().pools] == [Path("/other")]


def test_a_take_that_fails_half_way_leaves_the_stack_warm(
    stacks: WarmStacks, warm: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = warm()
    before = offered.env_file.read_text()

    def full(_db: object, _lease: Lease) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("stackyard.leases.database.rows.update", full)
        with pytest.raises(BookError, match="No space left"):
            stacks.take(ROOT, "test", PRINT)

    assert offered.env_file.read_text() == before
    assert not offered.lock.exists()
    taken = stacks.take(ROOT, "test", PRINT)
    assert taken is not None
    assert taken.id == offered.id


def test_an_offer_that_fails_half_way_leaves_the_lease_its_makers(
    stacks: WarmStacks, environment: Surroundings, book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = book.acquire(environment)

    with monkeypatch.context() as patch:
        patch.setattr("stackyard.leases.warm.owners.drop", lambda _lock: (_ for _ in ()).throw(OSError(5, "I/O error")))
        with pytest.raises(BookError, match="I/O error"):
            stacks.offer(lease, root=ROOT, fingerprint=PRINT, keeper=Owner.current())

    assert book.find(lease.id) == lease
    assert not stacks.any()


def test_a_lost_book_knows_the_taker_from_the_leases_files(
    stacks: WarmStacks, warm: Callable[..., Lease], make_book: MakeBook
) -> None:
    offered = warm()
    stacks.take(ROOT, "test", PRINT)
    stacks.book._store.file.unlink()

    found = make_book().find(offered.id)

    assert found.owner == Owner.current()
    assert not found.is_stale(stacks.book._clock())


# the processes of the next test; each ends without tidying up, like one that was killed
def take_and_tell(state: str, told: Any) -> None:
    found = WarmStacks(LeaseBook(Settings.load({"STACKYARD_STATE_DIR": state, "STACKYARD_POOL": "11000-11099"})))
    taken = found.take(ROOT, "test", PRINT)
    told.send((os.getpid(), taken.id if taken else None))
    signal.pause()


@pytest.mark.parametrize("round_", range(3))
def test_of_twenty_takers_each_warm_stack_goes_to_one(tmp_path: Path, environment: Surroundings, round_: int) -> None:
    del round_
    given = {"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "11000-11099"}
    book = LeaseBook(Settings.load(given | {"STACKYARD_POOL_SUBNETS": "10.214.0.0/17"}))
    stacks = WarmStacks(book)
    offered = set()
    for _ in range(5):
        lease = book.acquire(environment, force=True)
        assert stacks.offer(lease, root=ROOT, fingerprint=PRINT, keeper=Owner.current())
        offered.add(lease.id)
    context = multiprocessing.get_context("fork")
    ears, mouth = context.Pipe(duplex=False)
    takers = [context.Process(target=take_and_tell, args=(given["STACKYARD_STATE_DIR"], mouth)) for _ in range(20)]
    for taker in takers:
        taker.start()
    answers = dict(ears.recv() for _ in takers)
    held = {lease.id: lease.owner.pid for lease in book.leases()}

    for taker in takers:
        taker.kill()
        taker.join()
        taker.close()

    won = {identifier: pid for pid, identifier in answers.items() if identifier}
    assert won.keys() == offered
    assert held == won
    assert {lease.id for lease in book.stale()} == offered
    for lease in book.leases():
        book.release(lease.id)


def take_again_and_again(state: str) -> None:
    found = WarmStacks(LeaseBook(Settings.load({"STACKYARD_STATE_DIR": state, "STACKYARD_POOL": "11000-11099"})))
    while found.take(ROOT, "test", PRINT):
        pass


def test_takers_killed_at_any_moment_lose_no_stack(tmp_path: Path, environment: Surroundings) -> None:
    given = {"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "11000-11099"}
    book = LeaseBook(Settings.load(given | {"STACKYARD_POOL_SUBNETS": "10.214.0.0/17"}))
    stacks = WarmStacks(book)
    context = multiprocessing.get_context("fork")
    for number in range(8):
        for _ in range(4):
            lease = book.acquire(environment, force=True)
            assert stacks.offer(lease, root=ROOT, fingerprint=PRINT, keeper=Owner.current())
        taker = context.Process(target=take_again_and_again, args=(given["STACKYARD_STATE_DIR"],))
        taker.start()
        time.sleep(0.003 + 0.001 * number)
        taker.kill()
        taker.join()
        taker.close()

        found = stacks.inventory()
        waiting = {item.lease.id for item in found.warm}
        assert book.check() == "ok"
        assert {lease.id for lease in found.leases if not lease.is_stale(time.time())} <= waiting
        for lease in found.leases:
            assert lease.variables()["STACKYARD_LEASE"] == lease.id
            book.release(lease.id)


def test_a_stack_that_starts_is_its_starters_until_it_is_detached(
    book: LeaseBook, environment: Surroundings, clock: Clock
) -> None:
    lease = book.acquire(environment, parallel_id="mine", ttl=60, attached=True)

    assert (lease.owner, lease.deadline) == (Owner.current(), None)
    assert lease.variables()["STACKYARD_OWNER"] == Owner.detached().label()
    detached = book.renew(lease.id, 60, detach=True)
    assert (detached.owner.kind, detached.deadline) == ("detached", clock() + 60)


def test_who_asks_for_a_starting_stack_waits_until_it_is_up(
    book: LeaseBook, environment: Surroundings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "STARTING", 3.0)  # each try is a transaction, and there are twenty a second
    lease = book.acquire(environment, parallel_id="mine", attached=True)
    starter = Owner.current()
    monkeypatch.setattr(Owner, "current", lambda: replace(starter, pid=1))
    monkeypatch.setattr("stackyard.leases.records.Lease.is_stale", lambda *_: False)
    began = clock()

    with pytest.raises(StillStartingError, match=rf"lease mine \({lease.id}\) of test belongs to pid"):
        book.acquire(environment, parallel_id="mine", attached=True)
    waited = clock() - began

    def detach(_seconds: float) -> None:
        monkeypatch.setattr(book._waiting, "_sleep", clock.sleep)
        book.renew(lease.id, 60, detach=True)

    monkeypatch.setattr(book._waiting, "_sleep", detach)
    again = book.acquire(environment, parallel_id="mine", attached=True)

    assert waited >= waiting.STARTING
    assert (again.id, again.owner.kind) == (lease.id, "detached")


@pytest.mark.parametrize("later", [30, 90], ids=["in time", "when its time is over"])
def test_asking_again_for_a_standing_stack_does_not_tie_it_to_the_asker(
    book: LeaseBook, environment: Surroundings, clock: Clock, later: float
) -> None:
    lease = book.acquire(environment, parallel_id="mine", ttl=60)
    clock.sleep(later)

    again = book.acquire(environment, parallel_id="mine", ttl=60, attached=True)

    assert (again.id, again.owner.kind, again.deadline) == (lease.id, "detached", clock() + 60)


def test_two_threads_of_one_process_do_not_start_the_same_stack_at_once(
    book: LeaseBook, environment: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "STARTING", 0.1)
    lease = book.acquire(environment, parallel_id="mine", attached=True)

    with pytest.raises(StillStartingError):
        book.acquire(environment, parallel_id="mine", attached=True)
    assert book.acquire(environment, parallel_id="mine").id == lease.id


def test_what_a_dead_starter_left_belongs_to_who_asks_for_it_next(
    book: LeaseBook, environment: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = book.acquire(environment, parallel_id="mine", attached=True)
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "current", lambda: replace(Owner.detached(), kind="process", pid=1, ticks=1))
        patch.setattr("stackyard.leases.records.Lease.is_stale", lambda *_: True)
        again = book.acquire(environment, parallel_id="mine", attached=True)

    assert (again.id, again.owner.pid) == (lease.id, 1)


class WarmModel(RuleBasedStateMachine):
    """Offer, take, retire, give up and release in any order: the book and a plain model agree on who has what."""

    make: Callable[[], WarmStacks]
    environment: Surroundings

    def __init__(self) -> None:
        super().__init__()
        self.stacks = type(self).make()
        self.warm: list[tuple[str, str]] = []
        self.mine: set[str] = set()
        self.retired: set[str] = set()

    @rule(fingerprint=st.sampled_from(["a", "b"]))
    def offer(self, fingerprint: str) -> None:
        if len(self.warm) + len(self.mine) + len(self.retired) >= 4:
            return
        lease = self.stacks.book.acquire(self.environment, force=True)
        assert self.stacks.offer(lease, root=ROOT, fingerprint=fingerprint, keeper=Owner.current())
        self.warm.append((lease.id, fingerprint))

    @rule(fingerprint=st.sampled_from(["a", "b", "c"]))
    def take(self, fingerprint: str) -> None:
        taken = self.stacks.take(ROOT, "test", fingerprint)

        fitting = {identifier for identifier, made_from in self.warm if made_from == fingerprint}
        assert (taken is None) == (not fitting)
        if taken is not None:
            assert taken.id in fitting
            self.warm.remove((taken.id, fingerprint))
            self.mine.add(taken.id)

    @rule(fingerprint=st.sampled_from(["a", "b"]))
    def retire(self, fingerprint: str) -> None:
        found = {lease.id for lease in self.stacks.retire(lambda item: item.fingerprint == fingerprint)}

        assert found == {identifier for identifier, made_from in self.warm if made_from == fingerprint}
        self.warm = [item for item in self.warm if item[0] not in found]
        self.retired |= found

    @rule()
    def give_up(self) -> None:
        given = self.stacks.give_up()

        assert (given is None) == (not self.warm)
        if given is not None:
            self.warm = [item for item in self.warm if item[0] != given.id]
            assert self.stacks.book.release(given)

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        identifier = data.draw(st.sampled_from(sorted(self.mine)))
        assert self.stacks.book.release(self.stacks.book.find(identifier))
        self.mine.remove(identifier)

    @invariant()
    def agrees(self) -> None:
        found = self.stacks.inventory()
        assert {item.lease.id for item in found.warm} == {identifier for identifier, _ in self.warm}
        assert {lease.id for lease in found.leases} == {x for x, _ in self.warm} | self.mine | self.retired
        assert {lease.id for lease in self.stacks.book.stale()} == self.retired

    def teardown(self) -> None:
        for lease in self.stacks.book.leases():
            with contextlib.suppress(OSError):
                self.stacks.book.release(lease.id)


@pytest.mark.no_cover  # as for Hypothesis's own tests, see tests/conftest.py
def test_book_and_model_agree_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, environment: Surroundings
) -> None:
    def make() -> WarmStacks:
        folder = tmp_path_factory.mktemp("model")
        given = {"STACKYARD_STATE_DIR": str(folder / "state"), "STACKYARD_POOL": "11000-11099"}
        return WarmStacks(LeaseBook(Settings.load(given | {"STACKYARD_POOL_SUBNETS": "10.214.0.0/17"})))

    WarmModel.make = staticmethod(make)
    WarmModel.environment = environment
    run_state_machine_as_test(
        WarmModel,
        settings=settings(max_examples=15, stateful_step_count=15, deadline=None),
    )

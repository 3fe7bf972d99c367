"""Warm stacks and leases for a block, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from lease_records import Clock, Surroundings

from stackyard.errors import BookError, PoolExhaustedError
from stackyard.leases import LeaseBook, alease, context, lease, owners
from stackyard.leases.database.store import Transaction
from stackyard.leases.directory import files
from stackyard.leases.owners import Owner
from stackyard.leases.warm import Pool, Warm, WarmStacks, _unlock
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.leases import Lease

TEST = Surroundings()
ROOT = Path("/srv/checkout")


@pytest.fixture(autouse=True)
def _free(free_host: None) -> None:
    del free_host


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> LeaseBook:
    settings = Settings.load({
        "STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "11000-11059",
        "STACKYARD_POOL_SUBNETS": "10.214.0.0/24",
    })  # fmt: skip
    return LeaseBook(settings, clock=clock, sleep=clock.sleep)


@pytest.fixture
def warm(book: LeaseBook, clock: Clock) -> WarmStacks:
    return WarmStacks(book, clock=clock)


KEEPER = Owner.current()


def offered(warm: WarmStacks, clock: Clock, *, fingerprint: str = "f1", root: Path = ROOT, name: str = "test") -> Lease:
    made = warm.book.acquire(replace(TEST, name=name), variables={"MORE": "1"})
    clock.now += 1
    assert warm.offer(made, root=root, fingerprint=fingerprint, keeper=KEEPER) is True
    return made


def test_a_pool_is_set_changed_and_ended(warm: WarmStacks) -> None:
    pools = [
        Pool(root=ROOT, environment="test", size=2), Pool(root=Path("/a"), environment="test", size=3),
        Pool(root=ROOT, environment="ci", size=4),
    ]  # fmt: skip
    for pool in pools:
        warm.want(pool)
    assert warm.inventory().pools == [pools[1], pools[2], pools[0]]

    warm.want(replace(pools[0], size=5))
    warm.want(replace(pools[2], size=0))
    assert warm.inventory().pools == [pools[1], replace(pools[0], size=5)]
    warm.want_none()
    assert warm.inventory().pools == []


def test_a_warm_stack_fits_the_pool_of_its_root_and_environment(warm: WarmStacks, clock: Clock) -> None:
    offered(warm, clock)
    (found,) = warm.inventory().warm

    assert found.fits(Pool(root=ROOT, environment="test", size=1))
    assert not found.fits(Pool(root=Path("/a"), environment="test", size=1))
    assert not found.fits(Pool(root=ROOT, environment="ci", size=1))


def test_an_offered_stack_is_the_keepers_and_known_with_its_making(warm: WarmStacks, clock: Clock) -> None:
    assert warm.any() is False
    made = warm.book.acquire(TEST, ttl=50, attached=True)
    assert warm.book.renew(made.id, 50).deadline == clock.now + 50
    assert warm.offer(made, root=ROOT, fingerprint="f1", keeper=KEEPER) is True

    found = warm.inventory()
    (held,) = found.leases
    assert found.warm == [Warm(lease=held, root=ROOT, fingerprint="f1", since=clock.now)]
    assert (held.id, held.owner, held.deadline) == (made.id, KEEPER, None)
    assert (made.lock.exists(), (made.directory / "keeper.lock").exists()) == (False, True)
    assert made.lock not in owners._held
    assert warm.any() is True


def test_to_look_for_warm_stacks_makes_no_book(warm: WarmStacks) -> None:
    assert (warm.any(), warm.inventory().leases) == (False, [])
    assert not warm.book.settings.state_dir.exists()


@pytest.mark.parametrize("wrong", ["gone", "created", "owner", "keeper"])
def test_what_is_not_this_processs_lease_is_not_offered(warm: WarmStacks, wrong: str) -> None:
    made = warm.book.acquire(TEST)
    given, keeper = made, KEEPER
    if wrong == "gone":
        given = replace(made, id="ffffffff")
    elif wrong == "created":
        given = replace(made, created=made.created - 1)
    elif wrong == "owner":
        given = replace(made, owner=Owner.detached())
    else:
        keeper = replace(KEEPER, ticks=KEEPER.ticks + 1)

    assert warm.offer(given, root=ROOT, fingerprint="f1", keeper=keeper) is False
    assert (warm.any(), warm.book.leases()) == (False, [made])
    assert owners.is_held(made.lock) is True


def test_an_offer_that_fails_leaves_the_lease_with_its_owner(warm: WarmStacks, monkeypatch: pytest.MonkeyPatch) -> None:
    made = warm.book.acquire(TEST)
    warm.book.transact(lambda db: db.execute("INSERT INTO warm VALUES (?, '/a', 'f', 0)", (made.id,)))
    with pytest.raises(BookError):
        warm.offer(made, root=ROOT, fingerprint="f1", keeper=KEEPER)
    assert owners.is_held(made.lock) is True
    monkeypatch.undo()


def test_an_offer_that_is_not_committed_gives_the_lock_back(warm: WarmStacks, monkeypatch: pytest.MonkeyPatch) -> None:
    made = warm.book.acquire(TEST)

    def execute(db: Transaction, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            raise sqlite3.OperationalError("full")
        return sqlite3.Connection.execute(db, statement, *values)

    monkeypatch.setattr(Transaction, "execute", execute)
    with pytest.raises(BookError, match="full"):
        warm.offer(made, root=ROOT, fingerprint="f1", keeper=KEEPER)
    monkeypatch.undo()
    assert (owners.is_held(made.lock), warm.any()) == (True, False)


def test_a_lock_that_is_gone_is_let_go_all_the_same(book: LeaseBook) -> None:
    made = book.acquire(TEST)
    made.lock.unlink()
    _unlock(made)
    assert (made.lock in owners._held, (made.directory / "keeper.lock").exists()) == (False, False)


def test_the_oldest_stack_that_fits_is_taken(warm: WarmStacks, clock: Clock) -> None:
    made = [
        offered(warm, clock, fingerprint="f2"), offered(warm, clock, root=Path("/a")), offered(warm, clock, name="ci"),
        offered(warm, clock), offered(warm, clock),
    ]  # fmt: skip

    taken = warm.take(ROOT, "test", "f1")

    assert taken is not None
    assert (taken.id, taken.owner, taken.parallel_id, taken.deadline) == (made[3].id, Owner.current(), None, None)
    assert owners.is_held(taken.lock) is True
    assert [item.lease.id for item in warm.inventory().warm] == [made[0].id, made[1].id, made[2].id, made[4].id]
    assert warm.book.find(taken.id) == taken
    variables = taken.variables()
    assert (variables["STACKYARD_OWNER"], variables["MORE"]) == (taken.owner.label(), "1")
    assert variables["STACKYARD_HOST"] == warm.book.host
    assert warm.take(ROOT, "test", "f9") is None


@pytest.mark.parametrize("outlives", [True, False])
def test_a_stack_is_taken_by_name(warm: WarmStacks, clock: Clock, outlives: bool) -> None:
    offered(warm, clock)
    offered(warm, clock)

    taken = warm.take(ROOT, "test", "f1", parallel_id="a", outlives=outlives)

    assert taken is not None
    assert (taken.parallel_id, warm.book.find("a").id) == ("a", taken.id)
    assert taken.variables()["STACKYARD_PARALLEL_ID"] == "a"
    assert taken.variables()["STACKYARD_OWNER"] == (Owner.detached() if outlives else Owner.current()).label()
    assert taken.owner == Owner.current()
    assert warm.take(ROOT, "test", "f1", parallel_id="a") is None
    assert len(warm.inventory().warm) == 1
    assert warm.take(ROOT, "test", "f1", parallel_id="b") is not None


def test_a_name_of_another_environment_does_not_stand_in_the_way(warm: WarmStacks, clock: Clock) -> None:
    warm.book.acquire(replace(TEST, name="ci"), parallel_id="a")
    offered(warm, clock)
    assert warm.take(ROOT, "test", "f1", parallel_id="a") is not None


def test_a_taking_that_fails_leaves_the_stack_warm(
    warm: WarmStacks, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = offered(warm, clock)
    before, real = made.variables(), files.rewrite

    def rewrite(*things: Any) -> None:
        real(*things)
        raise BookError("disk full")

    monkeypatch.setattr(files, "rewrite", rewrite)
    with pytest.raises(BookError, match="disk full"):
        warm.take(ROOT, "test", "f1", parallel_id="a")

    (found,) = warm.inventory().warm
    assert (found.lease.parallel_id, found.lease.variables()) == (None, before)
    assert (before["STACKYARD_PARALLEL_ID"], before["MORE"], before["STACKYARD_HOST"]) == ("", "1", warm.book.host)
    assert (made.lock in owners._held, made.lock.exists()) == (False, False)
    assert (made.directory / "keeper.lock").exists()


def test_unwanted_stacks_become_stale(warm: WarmStacks, clock: Clock) -> None:
    first, second = offered(warm, clock), offered(warm, clock, fingerprint="f2")

    retired = warm.retire(lambda item: item.fingerprint == "f1")

    assert [held.id for held in retired] == [first.id]
    assert [item.lease.id for item in warm.inventory().warm] == [second.id]
    assert warm.book.find(first.id).deadline == clock.now
    assert [held.id for held in warm.book.stale()] == [first.id]


def test_the_oldest_stack_is_given_up_for_removal(warm: WarmStacks, clock: Clock) -> None:
    assert warm.give_up() is None
    first, second = offered(warm, clock), offered(warm, clock)

    taken = warm.give_up()

    assert taken is not None
    assert (taken.id, taken.owner, taken.removing) == (first.id, Owner.current(), True)
    assert warm.book.find(first.id) == taken
    assert owners.is_held(taken.lock) is True
    assert [item.lease.id for item in warm.inventory().warm] == [second.id]


def test_stacks_of_an_earlier_boot_in_removal_or_without_a_lease_are_not_warm(warm: WarmStacks, clock: Clock) -> None:
    made = [offered(warm, clock) for _ in range(4)]

    def change(db: Any) -> None:
        earlier = replace(KEEPER, boot="gone").label()
        db.execute("UPDATE leases SET owner=? WHERE id=?", (earlier, made[0].id))
        db.execute("UPDATE leases SET removing=1 WHERE id=?", (made[1].id,))

    warm.book.transact(change)
    assert [item.lease.id for item in warm.inventory().warm] == [made[2].id, made[3].id]
    assert len(warm.inventory().leases) == 4


@pytest.mark.parametrize("table", ["pools", "warm"])
def test_a_wrong_row_is_set_aside(warm: WarmStacks, clock: Clock, table: str) -> None:
    offered(warm, clock)
    warm.want(Pool(root=ROOT, environment="test", size=1))
    warm.book.transact(lambda db: db.execute(f"UPDATE {table} SET root='x'"))  # noqa: S608 - a name of ours

    found = warm.inventory()
    assert (len(found.pools), len(found.warm)) == ((0, 1) if table == "pools" else (1, 0))


# --- a lease for a block --------------------------------------------------------------------------------------------


def test_a_lease_is_held_while_its_block_runs(book: LeaseBook) -> None:
    with lease(TEST, book=book, parallel_id="a") as held:
        assert book.leases() == [held]
        assert held.parallel_id == "a"
    assert book.leases() == []
    with pytest.raises(KeyboardInterrupt), lease(TEST, book=book):
        raise KeyboardInterrupt
    assert book.leases() == []


def test_a_fork_in_the_block_does_not_end_the_lease(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    with lease(TEST, book=book) as held:
        monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.undo()
    assert [known.id for known in book.leases()] == [held.id]


async def test_an_asynchronous_block_holds_its_lease_too(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    async with alease(TEST, book=book, parallel_id="a") as held:
        assert book.leases() == [held]
    assert book.leases() == []
    async with alease(TEST, book=book):
        monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.undo()
    assert len(book.leases()) == 1


async def test_a_lease_that_comes_after_its_block_was_cancelled_is_released(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, real = asyncio.get_running_loop(), context._acquire
    asked = asyncio.Event()
    go = threading.Event()

    def acquire(*things: Any) -> Any:
        loop.call_soon_threadsafe(asked.set)
        go.wait(60)
        return real(*things)

    async def block() -> None:
        async with alease(TEST, book=book):
            pytest.fail("the block ran")

    monkeypatch.setattr(context, "_acquire", acquire)
    task = asyncio.create_task(block())
    await asked.wait()
    task.cancel()
    loop.call_later(0.01, go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert book.leases() == []


def test_the_book_of_this_host_and_an_environment_by_name_are_the_default(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, made = Mock(return_value=TEST), Mock(return_value=book)
    monkeypatch.setattr("stackyard.project.environments.Environment.load", loaded)
    monkeypatch.setattr(context, "LeaseBook", made)
    monkeypatch.setattr(Settings, "load", lambda: "settings")

    book.settings = replace(book.settings, root=ROOT)

    opened, held = context._acquire("ci", None, {"parallel_id": "a"})
    assert (opened, held.parallel_id) == (book, "a")
    made.assert_called_once_with("settings")
    loaded.assert_called_once_with("ci", ROOT)
    assert context._acquire(TEST, book, {})[1].environment == "test"
    assert made.call_count == 1


def test_a_refused_lease_is_the_blocks_error(book: LeaseBook) -> None:
    taken: Callable[..., Any] = Mock(side_effect=PoolExhaustedError("full"))
    book.acquire = taken  # type: ignore[method-assign]
    with pytest.raises(PoolExhaustedError, match="full"), lease(TEST, book=book):
        pytest.fail("the block ran")

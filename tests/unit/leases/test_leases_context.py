"""Leases held for the length of a block."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest

from stackyard.errors import PoolExhaustedError, UsageError
from stackyard.leases import LeaseBook, alease, lease
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from lease_records import Surroundings

    from stackyard.leases import Lease


def test_a_lease_ends_with_its_block(book: LeaseBook, environment: Surroundings) -> None:
    with lease(environment, book=book, variables={"STACKYARD_IMAGE_REDIS": "x"}) as mine:
        assert book.leases() == [mine]
        assert mine.variables()["STACKYARD_IMAGE_REDIS"] == "x"

    assert book.leases() == []


def fail(held: Lease) -> None:
    raise RuntimeError(held.id)


def test_a_lease_ends_with_a_failing_block(book: LeaseBook, environment: Surroundings) -> None:
    with pytest.raises(RuntimeError), lease(environment, book=book) as mine:
        fail(mine)

    assert book.leases() == []


def test_an_environment_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_POOL", "11200-11219")
    monkeypatch.setenv("STACKYARD_POOL_SUBNETS", "10.214.0.0/17")

    with lease("test") as mine:
        assert mine.variables()["STACKYARD_FLAVOUR"] == "debian"
        assert LeaseBook(Settings.load()).leases() == [mine]


@pytest.mark.parametrize(("given", "meant"), [("name", "parallel_id"), ("timeout", "wait"), ("variable", "variables")])
def test_an_unknown_option_is_named_with_the_right_one(book: LeaseBook, given: str, meant: str) -> None:
    said = rf"^a lease takes no option '{given}'; did you mean '{meant}'\? its options: attached, fixed, force, "

    with pytest.raises(UsageError, match=said):
        lease("test", book=book, **{given: "x"}).__enter__()
    with pytest.raises(UsageError, match=said):
        asyncio.run(alease("test", book=book, **{given: "x"}).__aenter__())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_that_leaves_the_block_does_not_end_its_parents_lease(
    book: LeaseBook, environment: Surroundings
) -> None:
    with lease(environment, book=book) as mine:
        pid = os.getpid()
        scope = lease(environment, book=book)
        inner = scope.__enter__()
        child = os.fork()
        if child == 0:
            scope.__exit__(None, None, None)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.getpid() == pid

        assert {found.id for found in book.leases()} == {mine.id, inner.id}
        assert book.stale() == []
        scope.__exit__(None, None, None)


async def test_the_asynchronous_twin_does_the_same(book: LeaseBook, environment: Surroundings) -> None:
    async with alease(environment, book=book) as mine:
        assert book.leases() == [mine]

    assert book.leases() == []


async def test_many_asynchronous_leases_share_nothing(book: LeaseBook, environment: Surroundings) -> None:
    async with alease(environment, book=book) as one, alease(environment, book=book) as two:
        assert not set(one.ports.values()) & set(two.ports.values())


async def test_a_cancelled_wait_gives_back_what_it_still_gets(
    book: LeaseBook, environment: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = threading.Event(), threading.Event()
    acquire = book.acquire

    def slow(*args: Surroundings) -> Lease:
        started.set()
        go.wait(60)
        return acquire(*args)

    monkeypatch.setattr(book, "acquire", slow)

    async def hold() -> None:
        async with alease(environment, book=book):
            pass

    task = asyncio.create_task(hold())
    await asyncio.to_thread(started.wait, 60)
    task.cancel()
    asyncio.get_running_loop().call_later(0.01, go.set)

    with pytest.raises(asyncio.CancelledError):
        await task
    assert book.leases() == []


async def test_an_asynchronous_refusal_is_the_same_error(book: LeaseBook, environment: Surroundings) -> None:
    for _ in range(4):
        book.acquire(environment)

    with pytest.raises(PoolExhaustedError):
        async with alease(environment, book=book):
            pass

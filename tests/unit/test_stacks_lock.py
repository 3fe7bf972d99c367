from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackyard.errors import StackyardError
from stackyard.leases import Lease, LeaseBook
from stackyard.leases.stack_lock import alone
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def book(tmp_path: Path) -> LeaseBook:
    return LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))


@pytest.fixture
def lease(book: LeaseBook) -> Lease:
    return book.acquire(Environment.load("test"))


def test_being_alone_ends_with_its_block(lease: Lease) -> None:
    for _ in range(2):
        with alone(lease, patience=0) as still_leased:
            assert still_leased


def test_a_second_command_waits_for_the_first(lease: Lease) -> None:
    first = alone(lease)
    first.__enter__()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            first.__exit__(None, None, None)

    with alone(lease, sleep=sleep) as still_leased:
        assert still_leased

    assert len(slept) == 3


def test_a_command_that_never_ends_is_not_waited_for_without_end(lease: Lease) -> None:
    now = iter(range(100))
    with (
        alone(lease),
        pytest.raises(StackyardError, match=f"working on stack {lease.id} for 5 s"),
        alone(lease, patience=5, clock=lambda: next(now), sleep=lambda _seconds: None),
    ):
        pass


def test_a_lease_that_was_released_meanwhile_is_reported(book: LeaseBook, lease: Lease) -> None:
    first = alone(lease)
    first.__enter__()

    def sleep(_seconds: float) -> None:
        book.release(lease)
        first.__exit__(None, None, None)

    with alone(lease, sleep=sleep) as still_leased:
        assert not still_leased
    with alone(lease) as still_leased:
        assert not still_leased

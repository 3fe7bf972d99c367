"""A small pool of real ports, an environment, and a book in a fresh state directory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from lease_records import Clock, MakeBook, Surroundings

from stackyard.leases import LeaseBook
from stackyard.leases.grants import host_ports
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from stackyard.leases import Survivor


@pytest.fixture(autouse=True)
def no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the networks of stacks that run on this host: a lease would avoid them, and get another subnet."""
    monkeypatch.setattr(host_ports, "routes", list)


@pytest.fixture
def environment() -> Surroundings:
    return Surroundings()


@pytest.fixture
def dev(environment: Surroundings) -> Surroundings:
    return replace(environment, name="dev", data="volume", subnet="10.214.255.0/28")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_book(tmp_path: Path, clock: Clock) -> MakeBook:
    def make(survivors: Callable[[], Iterable[Survivor]] | None = None, **variables: str) -> LeaseBook:
        # Not the default pools: leases of real stacks on this host would get in the way.
        given = {
            "STACKYARD_STATE_DIR": str(tmp_path / "state"),
            "STACKYARD_POOL": "11000-11039",
            "STACKYARD_POOL_SUBNETS": "10.214.0.0/17",
        } | variables
        return LeaseBook(Settings.load(given), survivors, clock=clock, sleep=clock.sleep)

    return make


@pytest.fixture
def book(make_book: MakeBook) -> Iterator[LeaseBook]:
    made = make_book()
    yield made
    for lease in made.leases():
        made.release(lease.id)

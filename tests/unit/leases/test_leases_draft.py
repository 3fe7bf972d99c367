"""What is prepared before the book is locked, and what becomes of it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from stackyard.errors import BookError, PoolExhaustedError
from stackyard.leases import owners
from stackyard.leases.directory import draft as draft_directory
from stackyard.leases.directory.draft import Draft
from stackyard.leases.directory.files import orphans

if TYPE_CHECKING:
    from pathlib import Path

    from lease_records import MakeBook, Surroundings

    from stackyard.leases import LeaseBook


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft.of(tmp_path / "leases", {"COMPOSE_PROFILES": "test"}, {}, "host")


def test_a_sweep_spares_the_draft_of_a_living_process(draft: Draft) -> None:
    made = draft.prepare()

    assert orphans(draft.folder, []) == []
    owners.drop(made / "owner.lock")
    (aside,) = orphans(draft.folder, [])
    assert aside is not None
    assert not made.exists()


def test_a_dropped_draft_leaves_nothing(draft: Draft) -> None:
    made = draft.prepare()
    draft.drop()
    draft.drop()

    assert list(draft.folder.iterdir()) == []
    assert made / "owner.lock" not in owners._held


def test_a_draft_that_is_swept_while_it_is_made_is_made_again(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    real = owners.hold
    swept: list[Path] = []

    def sweep_first(lock: Path) -> None:
        if not swept:
            swept.append(lock.parent)
            shutil.rmtree(lock.parent)
        real(lock)

    monkeypatch.setattr(owners, "hold", sweep_first)

    assert draft.prepare() not in swept
    assert len(list(draft.folder.iterdir())) == 1
    draft.drop()


def test_a_disk_that_loses_every_draft_is_one_clear_error(
    book: LeaseBook, environment: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(lock: Path) -> None:
        lock.parent.rmdir()
        os.open(lock, os.O_RDONLY)

    monkeypatch.setattr(owners, "hold", lose)
    with pytest.raises(BookError, match="No such file or directory"):
        book.acquire(environment)
    monkeypatch.undo()
    assert book.leases() == []


def test_a_draft_that_is_gone_when_its_place_is_known_is_made_again(
    book: LeaseBook, environment: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = draft_directory.Draft.prepare

    def prepare_and_lose_once(draft: Draft) -> Path:
        made = real(draft)
        monkeypatch.undo()
        shutil.rmtree(made)
        return made

    monkeypatch.setattr(draft_directory.Draft, "prepare", prepare_and_lose_once)

    lease = book.acquire(environment)

    assert lease.url("postgres")
    assert owners.is_held(lease.lock)
    assert book.stale() == []


def test_a_refused_request_leaves_no_draft(make_book: MakeBook, environment: Surroundings) -> None:
    book = make_book(STACKYARD_POOL="11000-11009")
    held = book.acquire(environment)
    with pytest.raises(PoolExhaustedError):
        book.acquire(environment)

    assert list((book.settings.state_dir / "leases").iterdir()) == [held.directory]
    book.release(held)


def test_a_detached_lease_keeps_nothing_open(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment, ttl=60)

    assert lease.lock not in owners._held
    assert not owners.is_held(lease.lock)
    assert lease.url("redis")


def test_a_fork_neither_uses_nor_closes_the_open_book(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)
    before = book._store._db
    pid = os.fork()
    if pid == 0:
        fine = book._store._db is None and [found.id for found in book.leases()] == [lease.id]
        os._exit(0 if fine else 1)

    assert os.waitpid(pid, 0)[1] == 0
    assert book._store._db is before
    assert book.leases() == [lease]

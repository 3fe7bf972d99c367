"""The lease book of an engine elsewhere: what machines share through claims on the engine."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from stackyard.cleanup import removal
from stackyard.docker import remote_claims, remote_lease_book
from stackyard.docker.remote_lease_book import SharedBook, settings_of
from stackyard.errors import EngineError, PoolExhaustedError
from stackyard.leases.needs import Needs
from stackyard.settings import Settings
from stackyard.stacks.copies.leased_project import CopiedProject

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.docker import Engine
    from stackyard.leases import Lease

NEEDS = Needs(ports=("web_80_tcp", "db_5432_tcp"))


@pytest.fixture
def book(engine: Engine, tmp_path: Path) -> SharedBook:
    return machine(engine, tmp_path / "one")


def machine(engine: Engine, state: Path, pool: str = "9500-9999") -> SharedBook:
    settings = Settings.load({"STACKYARD_STATE_DIR": str(state), "STACKYARD_POOL": pool})
    return SharedBook(settings_of(settings, engine), None, engine)


def lease_of(book: SharedBook, name: str | None = None, ttl: float | None = None) -> Lease:
    return book.acquire(CopiedProject(name="shop-123456", root=book.directory), needs=NEEDS, parallel_id=name, ttl=ttl)


def named(fake: FakeEngine) -> list[str]:
    """Return the names of the claims, without the random part of a lease's."""
    return sorted("lease" if "-lease-" in name else name.removeprefix("stackyard-claim-") for name in fake.containers)


def test_a_lease_claims_its_ports_and_subnets_and_gives_them_back(book: SharedBook, fake_engine: FakeEngine) -> None:
    lease = lease_of(book)

    assert named(fake_engine) == ["lease", "port-9500", "port-9501", "subnet-10.213.0.0-28"]
    labels = fake_engine.containers["stackyard-claim-port-9500"]["labels"]
    assert (labels["stackyard.claim"], labels["stackyard.claim.lease"]) == (book.host, lease.id)
    assert book.release(lease)
    assert named(fake_engine) == []


def test_what_another_machine_has_claimed_is_skipped(book: SharedBook, engine: Engine, tmp_path: Path) -> None:
    first, second = lease_of(machine(engine, tmp_path / "two")), lease_of(book)

    assert not set(first.ports.values()) & set(second.ports.values())
    assert not set(first.subnets) & set(second.subnets)
    assert first.project != second.project


def test_a_place_that_another_machine_takes_first_is_left_to_it(book: SharedBook, fake_engine: FakeEngine) -> None:
    fake_engine.refuse["containers stackyard-claim-port-9501"] = (409, "the name is already in use by container x")

    lease = lease_of(book)

    assert sorted(lease.ports.values()) == [9510, 9511]
    assert [one.id for one in book.leases()] == [lease.id]
    assert named(fake_engine) == ["lease", "port-9510", "port-9511", "subnet-10.213.0.16-28"]


def test_a_pool_whose_places_all_go_to_others_is_exhausted(
    engine: Engine, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    fake_engine.refuse["containers stackyard-claim-port-9500"] = (409, "the name is already in use by container x")
    book = machine(engine, tmp_path / "one", "9500-9509")

    with pytest.raises(PoolExhaustedError, match="other machines took 100 places"):
        lease_of(book)
    assert (book.leases(), named(fake_engine)) == ([], [])


def test_an_engine_that_fails_leases_nothing(book: SharedBook, fake_engine: FakeEngine) -> None:
    fake_engine.refuse["containers stackyard-claim-subnet-10.213.0.0-28"] = (500, "no space left on device")

    with pytest.raises(EngineError, match="no space left"):
        lease_of(book)
    assert (book.leases(), named(fake_engine)) == ([], [])


def test_the_image_of_claims_is_made_when_it_is_missing(book: SharedBook, fake_engine: FakeEngine) -> None:
    real, missing = fake_engine._create, ["once"]

    def create(kind: str, name: str, body: dict[str, object]) -> tuple[int, object]:
        return (404, {"message": "No such image: stackyard/claim:1"}) if missing and missing.pop() else real(
            kind, name, body
        )  # fmt: skip

    fake_engine._create = create  # type: ignore[method-assign] # an engine that has never held a claim
    lease_of(book)

    assert "stackyard/claim" in fake_engine.images
    assert "port-9500" in named(fake_engine)


def test_a_place_that_another_machine_takes_while_the_image_is_made_is_left_to_it(
    book: SharedBook, fake_engine: FakeEngine
) -> None:
    real, missing = fake_engine._create, ["once"]

    def create(kind: str, name: str, body: dict[str, object]) -> tuple[int, object]:
        if not missing:
            return real(kind, name, body)
        missing.clear()
        fake_engine.refuse["containers stackyard-claim-port-9500"] = (409, "the name is already in use by container x")
        return 404, {"message": "No such image: stackyard/claim:1"}

    fake_engine._create = create  # type: ignore[method-assign] # an engine that has never held a claim

    assert sorted(lease_of(book).ports.values()) == [9510, 9511]


def test_a_renewal_replaces_the_claim_that_says_how_long(book: SharedBook, engine: Engine) -> None:
    lease = lease_of(book, "mine", 60.0)
    before = remote_claims.Ledger.read(engine)

    book.renew(lease.id, 7200.0)

    after = remote_claims.Ledger.read(engine)
    assert len(after.claims) == len(before.claims) == 4
    assert max(one.end for one in after.claims) - after.now > 7000 > max(one.end for one in before.claims) - before.now


def test_a_lease_without_an_end_has_claims_without_one(book: SharedBook, engine: Engine) -> None:
    lease_of(book, "mine", float("inf"))

    assert {one.end for one in remote_claims.Ledger.read(engine).claims} == {float("inf")}


def test_a_lease_whose_claims_are_gone_claims_again(book: SharedBook, fake_engine: FakeEngine) -> None:
    lease_of(book, "mine", 60.0)
    fake_engine.containers.clear()

    assert lease_of(book, "mine", 60.0).reused
    assert named(fake_engine) == ["lease", "port-9500", "port-9501", "subnet-10.213.0.0-28"]


def test_a_running_process_renews_its_claims_until_the_lease_ends(
    book: SharedBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed, real = threading.Event(), remote_claims.extend

    def extend(engine: Engine, host: str, lease: Lease, seconds: float) -> None:
        real(engine, host, lease, seconds)
        renewed.set()

    monkeypatch.setattr(remote_claims, "extend", extend)
    monkeypatch.setattr(remote_lease_book, "BEAT", 0.01)

    lease = lease_of(book)

    assert renewed.wait(60)
    (over,) = book._beats.values()
    book.release(lease)
    assert over.is_set()


def test_the_next_clean_up_of_any_machine_removes_what_is_over(
    book: SharedBook, engine: Engine, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    other, living = machine(engine, tmp_path / "two"), lease_of(book)
    over = lease_of(other, "theirs", 60.0)
    fake_engine.host = other.host
    fake_engine.container("web", over.id)
    fake_engine.volume("rows", over.id)
    for row in fake_engine.containers.values():
        if row["labels"].get("stackyard.claim.lease") == over.id:
            row["created"] = 1

    removed = removal.sweep(book, engine).removed

    assert sorted(removed) == [f"container web-{over.id}", "volume rows"]
    assert {one.lease for one in remote_claims.Ledger.read(engine).claims} == {living.id}


def test_each_engine_has_a_book_of_its_own_in_the_state_directory(engine: Engine, tmp_path: Path) -> None:
    settings = Settings.load({"STACKYARD_STATE_DIR": str(tmp_path)})
    own = settings_of(settings, engine)

    assert own.state_dir.parent == tmp_path / "engines"
    assert own.reaper == "off"
    assert settings_of(own, engine) == own

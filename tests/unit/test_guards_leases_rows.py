"""How leases are written, read and found again, each rule by itself: quick tests for guards in front of a loss."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import struct
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from lease_records import SERVICES, Clock

from stackyard.errors import BookError, EngineError, UnlistedError, UsageError
from stackyard.leases import LeaseBook, Survivor, fair_lock, owners
from stackyard.leases.database import rows
from stackyard.leases.database.column_rules import BadRowError
from stackyard.leases.directory import draft as draft_directory
from stackyard.leases.directory.draft import Draft
from stackyard.leases.owners import Owner
from stackyard.leases.records import Lease
from stackyard.leases.recovery import damaged_rows, lost_book
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stackyard.leases.database.store import Transaction

PORTS = {"postgres": 11000, "redis": 11001, "backend": 11002, "auth": 11003, "websocket": 11004}
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _free(free_host: None) -> None:
    del free_host


@pytest.fixture
def book(tmp_path: Path) -> LeaseBook:
    settings = Settings.load({
        "STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "11000-11039",
        "STACKYARD_POOL_SUBNETS": "10.214.0.0/24",
    })  # fmt: skip
    clock = Clock()
    made = LeaseBook(settings, clock=clock, sleep=clock.sleep)
    made.transact(lambda _db: None)
    return made


def lease_of(book: LeaseBook, number: int = 0, **change: Any) -> Lease:
    """Return a lease on the slot *number*, not written anywhere."""
    name = f"{number:08x}"
    given: dict[str, Any] = {
        "id": name, "parallel_id": None, "environment": "test", "slot": number,
        "ports": {key: port + 10 * number for key, port in PORTS.items()},
        "spare": tuple(range(11005 + 10 * number, 11010 + 10 * number)), "subnet": f"10.214.0.{16 * number}/28",
        "project": f"stackyard-test-{name}", "owner": Owner.detached(), "created": NOW + number, "deadline": None,
        "memory_mb": 5, "directory": book.directory / name,
    }  # fmt: skip
    made = given | change
    if "id" in change or "environment" in change:
        made |= {"project": change.get("project", f"stackyard-{made['environment']}-{made['id']}")}
        made |= {"directory": book.directory / made["id"]}
    return Lease(**made)


def dev_of(book: LeaseBook, number: int, **change: Any) -> Lease:
    return lease_of(
        book, number, id=f"dev-00000{number}", environment="dev", project=f"stackyard-dev-00000{number}", **change
    )


def write(book: LeaseBook, *leases: Lease) -> None:
    def work(db: Transaction) -> None:
        for lease in leases:
            rows.insert(db, lease)

    book.transact(work)


def read(book: LeaseBook, query: str, *values: object) -> list[tuple[Any, ...]]:
    return book.transact(lambda db: list(db.execute(query, values)))


# --- rows -----------------------------------------------------------------------------------------------------------


def test_a_lease_claims_its_ports_subnets_project_place_and_name(book: LeaseBook) -> None:
    ports = [("port", str(port)) for port in range(11000, 11010)]
    rest = [("subnet", "10.214.0.0/28"), ("project", "stackyard-test-00000000")]

    assert list(rows.claims(lease_of(book))) == [*ports, *rest, ("slot", "11000")]
    assert list(rows.claims(lease_of(book, slot=None, parallel_id="a"))) == [
        *ports, *rest, ("block", "test"), ("parallel", "test/a"),
    ]  # fmt: skip


def test_a_lease_is_read_as_it_was_written(book: LeaseBook) -> None:
    every = [
        lease_of(book, 2, created=NOW - 5), lease_of(book, 0, parallel_id="a", deadline=NOW + 9.5, removing=True),
        dev_of(book, 1, slot=None, owner=Owner.current()),
    ]  # fmt: skip
    write(book, *every)

    assert book.leases() == every
    assert book.transact(rows.ids) == {lease.id for lease in every}
    assert [book.transact(lambda db, lease=lease: rows.one(db, book.directory, lease.id)) for lease in every] == every  # type: ignore[misc]
    assert book.transact(lambda db: rows.one(db, book.directory, "ffffffff")) is None
    assert sorted(read(book, "SELECT lease, count(*) FROM claims GROUP BY lease")) == [
        ("00000000", 14), ("00000002", 13), ("dev-000001", 13),
    ]  # fmt: skip


def test_a_lease_takes_its_slot_out_of_the_pool_and_gives_it_back_at_the_end(book: LeaseBook) -> None:
    def slots() -> list[tuple[Any, ...]]:
        return read(book, "SELECT port, idle FROM slots ORDER BY port")

    two = lease_of(book, 1, ports={"web_80_tcp": 11010}, spare=tuple(range(11011, 11020)))
    assert rows._span(two) == (11010, 11019)
    write(book, lease_of(book, 1), lease_of(book, 2), lease_of(book, 3, slot=None))
    assert slots() == [(11000, 0), (11010, None), (11020, None), (11030, 0)]
    book.transact(lambda db: rows.delete(db, lease_of(book, 2)))
    assert slots() == [(11000, 0), (11010, None), (11020, 1), (11030, 0)]
    book.transact(lambda db: rows.delete(db, lease_of(book, 1)))
    book.transact(lambda db: rows.delete(db, lease_of(book, 3, slot=None)))
    book.transact(lambda db: rows.delete(db, lease_of(book, 1)))
    assert slots() == [(11000, 0), (11010, 2), (11020, 1), (11030, 0)]
    assert read(book, "SELECT * FROM claims") == []


def test_only_so_many_ended_leases_are_remembered(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ENDED", 2)
    for number in range(3):
        book.transact(lambda db, number=number: rows.delete(db, lease_of(book, number)))  # type: ignore[misc]

    ended = book.transact(lambda db: [rows.has_ended(db, f"{number:08x}") for number in range(4)])
    assert ended == [False, True, True, False]
    write(book, lease_of(book, 2))
    assert book.transact(lambda db: rows.has_ended(db, "00000002")) is False


def test_a_slot_rests_as_long_as_the_longest_wish(book: LeaseBook) -> None:
    for until, slot in ((50.0, 1), (40.0, 1), (99.0, None)):
        book.transact(lambda db, until=until, slot=slot: rows.rest(db, lease_of(book, 1, slot=slot), until))  # type: ignore[misc]

    write(book, lease_of(book, 0))  # enters the pool
    book.transact(lambda db: rows.rest(db, lease_of(book, 1), 50.0))
    book.transact(lambda db: rows.rest(db, lease_of(book, 1), 40.0))
    book.transact(lambda db: rows.rest(db, lease_of(book, 2, slot=None), 99.0))
    assert read(book, "SELECT port, rests_until FROM slots ORDER BY port") == [
        (11000, 0), (11010, 50), (11020, 0), (11030, 0),
    ]  # fmt: skip


def test_a_change_of_owner_deadline_and_removal_is_written(book: LeaseBook) -> None:
    first = lease_of(book, 0, deadline=NOW + 5)
    write(book, first, lease_of(book, 1))
    changed = replace(first, owner=Owner.current(), deadline=NOW + 60, removing=True)
    book.transact(lambda db: rows.update(db, changed))

    assert book.leases() == [changed, lease_of(book, 1)]
    assert read(book, "SELECT lease, wall FROM clocks") == [(first.id, NOW + 60)]
    book.transact(lambda db: rows.update(db, replace(changed, deadline=None)))
    assert read(book, "SELECT * FROM clocks") == []


def test_a_name_is_given_once_in_an_environment(book: LeaseBook) -> None:
    first, second = lease_of(book, 0), lease_of(book, 1)
    write(book, first, second)
    book.transact(lambda db: rows.rename(db, first))
    assert [lease.parallel_id for lease in book.leases()] == [None, None]
    book.transact(lambda db: rows.rename(db, replace(first, parallel_id="a")))

    assert [lease.parallel_id for lease in book.leases()] == ["a", None]
    assert read(book, "SELECT value, lease FROM claims WHERE kind='parallel'") == [("test/a", first.id)]
    with pytest.raises(BookError, match="UNIQUE"):
        book.transact(lambda db: rows.rename(db, replace(second, parallel_id="a")))


def test_a_lease_is_found_by_id_by_name_and_by_environment(book: LeaseBook) -> None:
    first, ci = lease_of(book, 0, parallel_id="a"), lease_of(book, 1, environment="ci", id="00000001", parallel_id="a")
    dev, other = dev_of(book, 2), lease_of(book, 3, parallel_id="b")
    write(book, first, ci, dev, other)

    def find(text: str, environment: str | None = None) -> Lease | None:
        return book.transact(lambda db: rows.find(db, book.directory, text, environment))

    assert [find(first.id), find("b"), find("dev"), find("test"), find("x")] == [first, other, dev, None, None]
    assert [find("a", "test"), find("a", "ci"), find("a", "dev")] == [first, ci, None]
    with pytest.raises(UsageError, match=r"'a' is in use.*: ci \(lease 00000001\), test \(lease 00000000\); give"):
        find("a")
    book.transact(lambda db: rows.delete(db, other))
    write(book, dev_of(book, 3))
    with pytest.raises(
        UsageError, match=r"2 checkouts have a stack of dev; give the id of one: dev-000002, dev-000003"
    ):
        find("dev")


@pytest.mark.parametrize(
    ("moved", "boot", "ends", "deadline"),
    [
        (0.0, None, 0.0, NOW + 60), (500.0, None, 0.0, NOW + 560),
        (0.9, None, 0.0, NOW + 60), (1.0, None, 0.0, NOW + 61),
        (-500.0, None, 0.0, NOW - 440), (500.0, "gone", 0.0, NOW + 60), (500.0, None, 1e11, NOW + 60),
    ],
)  # fmt: skip
def test_a_deadline_follows_a_wall_clock_that_was_set(
    book: LeaseBook, moved: float, boot: str | None, ends: float, deadline: float
) -> None:
    now = SimpleNamespace(wall=NOW + moved, steady=100.0, boot="b1")
    db: Any = SimpleNamespace(moment=now)

    assert rows._deadline(db, NOW + 60, boot or "b1", 160.0 + ends) == deadline
    assert rows._deadline(db, None, "b1", 160.0) is None
    assert rows._deadline(db, NOW + 60, None, None) == NOW + 60
    del book


def test_two_reads_after_the_wall_clock_was_set_give_one_deadline() -> None:
    # the two clocks are read one after the other, never at the same distance
    reads: list[Any] = [
        SimpleNamespace(moment=SimpleNamespace(wall=NOW + 500.2 + late, steady=100.0, boot="b1"))
        for late in (0.0, 2e-6)
    ]

    assert {rows._deadline(db, NOW + 60, "b1", 160.0) for db in reads} == {NOW + 560}


def test_a_deadline_of_a_made_up_clock_is_not_compared_with_a_real_one() -> None:
    real: Any = SimpleNamespace(moment=SimpleNamespace(wall=NOW + 500, steady=100.0, boot="b1"))
    made_up: Any = SimpleNamespace(moment=SimpleNamespace(wall=NOW + 500, steady=NOW + 500, boot="b1"))

    assert rows._deadline(real, NOW + 60, "b1", NOW + 60) == NOW + 60
    assert rows._deadline(made_up, NOW + 60, "b1", 160.0) == NOW + 60
    assert rows._deadline(made_up, NOW + 60, "b1", NOW + 70) == NOW + 70


def test_a_lease_of_two_slots_takes_and_returns_both(book: LeaseBook) -> None:
    copy = lease_of(book, 1, ports={"web_80_tcp": 11010}, spare=tuple(range(11011, 11021)))
    write(book, copy)
    assert read(book, "SELECT port FROM slots WHERE idle IS NULL ORDER BY port") == [(11010,), (11020,)]
    book.transact(lambda db: rows.rest(db, copy, 50.0))
    book.transact(lambda db: rows.delete(db, copy))
    assert read(book, "SELECT port FROM slots WHERE idle IS NULL OR rests_until=50 ORDER BY port") == [
        (11010,), (11020,),
    ]  # fmt: skip


def test_a_lease_is_read_with_the_end_that_no_clock_moves(book: LeaseBook) -> None:
    write(book, lease_of(book, 0, deadline=NOW + 60))

    def work(db: Transaction) -> list[float | None]:
        db.execute("UPDATE clocks SET ends=?", (NOW + 90,))
        return [lease.deadline for lease in rows.every(db, book.directory)]

    assert book.transact(work) == [NOW + 90]


@pytest.mark.parametrize(
    ("steady", "ends", "deadline"), [(1e9, 5.0, NOW + 60), (5.0, 1e9, NOW + 60), (1e9, 1e9, NOW), (5.0, 6.0, NOW + 1)]
)
def test_the_edge_between_the_clocks_is_one_of_the_wall(steady: float, ends: float, deadline: float) -> None:
    db: Any = SimpleNamespace(moment=SimpleNamespace(wall=NOW, steady=steady, boot="b1"))
    assert rows._deadline(db, NOW + 60, "b1", ends) == deadline


def test_the_end_of_a_lease_is_noted_on_the_clock_no_one_sets(book: LeaseBook) -> None:
    def work(db: Transaction) -> list[tuple[Any, ...]]:
        db.moment = db.moment._replace(wall=NOW, steady=100.0)
        rows._note_end(db, lease_of(book, 0, deadline=NOW + 60))
        return list(db.execute("SELECT lease, wall, boot, ends FROM clocks"))

    write(book, lease_of(book))
    assert book.transact(work) == [("00000000", NOW + 60, owners.boot_id(), 160.0)]


def test_what_the_book_may_not_hold_is_refused(book: LeaseBook) -> None:
    assert rows.checked(lease_of(book)) == lease_of(book)
    with pytest.raises(BadRowError, match=r"subnet is '8\.8\.8\.0/28'"):
        rows.checked(lease_of(book, subnet="8.8.8.0/28"))
    assert book.transact(rows.verdict) == "ok"


# --- recovery -------------------------------------------------------------------------------------------------------


def survivor(number: int, **change: Any) -> Survivor:
    name = change.get("id", f"{number:08x}")
    given: dict[str, Any] = {
        "id": name, "environment": "test", "project": f"stackyard-test-{name}", "subnet": f"10.214.0.{16 * number}/28",
        "ports": {key: port + 10 * number for key, port in PORTS.items()},
        "spare": tuple(range(11005 + 10 * number, 11010 + 10 * number)), "owner": Owner.detached(), "created": 1.5,
        "memory_mb": 7,
    }  # fmt: skip
    return Survivor(**given | change)


def recovered(book: LeaseBook, state: str, survivors: Callable[[], list[Survivor]] | None) -> str:
    def work(db: Transaction) -> str:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('recovery', ?)", (state,))
        lost_book.recover(db, book.settings, state, book.directory, survivors, NOW)
        (told,) = db.execute("SELECT value FROM meta WHERE key='recovery'").fetchone()
        assert lost_book.is_done(db) is (told != "due")
        return str(told)

    return book.transact(work)


@pytest.fixture
def said(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []

    def warn(state: Path, text: str) -> None:
        assert state == book.settings.state_dir
        lines.append(text)

    monkeypatch.setattr(lost_book, "warn", warn)
    return lines


def test_a_lost_lease_is_entered_with_all_that_is_known_of_it(book: LeaseBook, said: list[str]) -> None:
    living = Owner.current()
    found = [
        survivor(0, parallel_id="a"), survivor(1, owner=living),
        survivor(2, id="dev-000002", environment="dev", project="stackyard-dev-000002"),
    ]  # fmt: skip
    assert recovered(book, "due", lambda: found) == "done"

    first, second, dev = book.leases()
    assert (first.parallel_id, first.memory_mb, first.created, first.slot) == ("a", 7, 1.5, 0)
    assert (first.deadline, second.deadline, dev.deadline) == (NOW + lost_book.GRACE, None, None)
    assert (second.owner, second.slot, first.owner.kind) == (living, 1, "detached")
    assert (first.ports, first.spare, first.subnet) == (found[0].ports, found[0].spare, found[0].subnet)
    assert first.directory == book.directory / first.id
    assert said == [
        "lease a (00000000) of test was restored", "lease 00000001 of test was restored",
        "lease dev-000002 of dev was restored",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "slot"),
    [
        ({}, 1), ({"spare": ()}, None), ({"ports": {f"s{n}": 11010 + n for n in range(10)}, "spare": ()}, 1),
        ({"ports": dict(list(survivor(1).ports.items())[:4])}, 1),
        ({"ports": dict(list(survivor(1).ports.items())[:4]), "spare": ()}, None),
        ({"ports": {"web_80_tcp": 11010}, "spare": ()}, 1), ({"ports": {}, "spare": (11010,)}, 1),
        ({"ports": {"web_80_tcp": 11015}, "spare": (11010, 11016)}, 1),
    ],
)  # fmt: skip
def test_a_lost_lease_has_its_slot_again_unless_it_was_on_a_fixed_block(
    book: LeaseBook, change: dict[str, Any], slot: int | None
) -> None:
    assert lost_book._slot(book.settings, survivor(1, **change)) == slot


def test_a_lost_lease_whose_place_is_taken_is_left_out_and_the_others_are_entered(
    book: LeaseBook, said: list[str]
) -> None:
    write(book, lease_of(book, 0))
    found = [
        survivor(0, id="ffffffff", project="stackyard-test-ffffffff"), survivor(0), survivor(1, subnet="8.8.8.0/28"),
        survivor(2),
    ]  # fmt: skip

    assert recovered(book, "stacks", lambda: found) == "done"
    assert [lease.id for lease in book.leases()] == ["00000002", "00000000"]
    assert said[0].startswith("lease ffffffff of test cannot be restored: UNIQUE")
    assert said[1].startswith("lease 00000001 of test cannot be restored: a row of leases: subnet is")
    assert said[2:] == ["lease 00000002 of test was restored"]
    assert len(read(book, "SELECT * FROM claims WHERE lease='ffffffff'")) == 0


def fail(error: Exception) -> Callable[[], list[Survivor]]:
    def survivors() -> list[Survivor]:
        raise error

    return survivors


def test_a_book_asks_again_until_the_stacks_could_be_listed(book: LeaseBook, said: list[str]) -> None:
    assert recovered(book, "due", None) == "stacks"
    assert said == []
    assert recovered(book, "due", fail(EngineError("off"))) == "stacks"
    assert said == ["the lease book is new, and the running stacks cannot be listed yet: off"]
    assert recovered(book, "stacks", fail(EngineError("off"))) == "stacks"
    assert len(said) == 1
    with pytest.raises(UnlistedError):
        recovered(book, "stacks", fail(UnlistedError("no")))
    assert recovered(book, "stacks", list) == "done"


def test_the_directories_are_read_once(book: LeaseBook, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    asked = Mock(return_value=iter([survivor(0)]))
    monkeypatch.setattr(lost_book, "_from_files", asked)

    recovered(book, "stacks", None)
    assert asked.call_count == 0
    recovered(book, "due", None)
    asked.assert_called_once_with(book.directory, book.host)
    assert [lease.id for lease in book.leases()] == ["00000000"]
    assert len(said) == 1


def test_a_book_from_a_backup_gets_only_leases_that_it_has_never_known(book: LeaseBook, said: list[str]) -> None:
    write(book, lease_of(book, 0))
    book.transact(lambda db: rows.delete(db, lease_of(book, 0)))

    def work(db: Transaction) -> set[str]:
        taken = survivor(1, id="ffffffff", project="stackyard-test-ffffffff")
        return lost_book.restore(db, book.settings, book.directory, [survivor(0), survivor(1), taken], NOW)

    assert book.transact(work) == {"00000001", "ffffffff"}
    assert [(lease.id, lease.deadline) for lease in book.leases()] == [("00000001", NOW + lost_book.GRACE)]
    assert len(said) == 2


@pytest.mark.parametrize("held", [None, False, True], ids=["without a lock", "free", "held"])
@pytest.mark.parametrize(
    ("change", "hidden"), [({}, True), ({"namespace": owners.pid_namespace()}, False), ({"boot": "earlier"}, False)],
    ids=["another namespace", "this one", "an earlier boot"],
)  # fmt: skip
def test_a_process_that_cannot_be_seen_does_not_count_as_dead(
    book: LeaseBook, said: list[str], change: dict[str, Any], hidden: bool, held: bool | None
) -> None:
    there = replace(Owner.current(), pid=4242, ticks=1, **{"namespace": 1} | change)
    lock = book.directory / "00000000" / "owner.lock"
    if held is not None:
        lock.parent.mkdir(parents=True)
        owners.hold(lock)
    if held is False:
        owners.drop(lock)

    def work(db: Transaction) -> None:
        lost_book.restore(db, book.settings, book.directory, [survivor(0, owner=there)], NOW)

    book.transact(work)
    (lease,) = book.leases()
    owners.drop(lock)

    spared = hidden and held is None
    expected = (Owner.detached(), NOW + lost_book.GRACE) if spared else (there, None)
    assert (lease.owner, lease.deadline, len(said)) == (*expected, 1)


@pytest.mark.parametrize(("checkout", "kept"), [("/shop", "/shop"), ("/it's", ""), ("/a\nb", "")])
def test_a_lost_copy_gets_its_env_file_and_its_exclusive_claims_back(
    book: LeaseBook, said: list[str], checkout: str, kept: str
) -> None:
    ports = {"web_80_tcp": 11000}
    found = survivor(0, environment="shop-ab12cd", project="stackyard-shop-ab12cd-00000000", ports=ports, spare=(),
                     exclusive=("host-network",), checkout=checkout)  # fmt: skip

    assert recovered(book, "stacks", lambda: [found]) == "done"

    (lease,) = book.leases()
    assert (lease.is_copy, lease.exclusive, lease.checkout) == (True, ("host-network",), kept)
    assert lease.variables()["STACKYARD_HOST"] == book.host
    assert len(said) == 1


def test_a_claim_with_a_blank_is_damaged_and_not_two_claims() -> None:
    with pytest.raises(BadRowError):
        rows._exclusive("00000000", "host-network other")


def lost_copy() -> Survivor:
    ports = {"web_80_tcp": 11000}
    return survivor(0, environment="shop-ab12cd", project="stackyard-shop-ab12cd-00000000", ports=ports, spare=())


def test_the_env_file_of_a_lost_copy_goes_if_its_entry_is_undone(book: LeaseBook, said: list[str]) -> None:
    def work(db: Transaction) -> None:
        lost_book.restore(db, book.settings, book.directory, [lost_copy()], NOW)
        assert (book.directory / "00000000" / "env").exists()
        raise EngineError("off")

    with pytest.raises(EngineError):
        book.transact(work)
    assert list(book.directory.iterdir()) == []
    assert book.leases() == []
    assert len(said) == 1


def test_a_lost_copy_is_entered_even_if_its_env_file_cannot_be_written(
    book: LeaseBook, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackyard.leases.directory.files.write", Mock(side_effect=OSError("full")))

    assert recovered(book, "stacks", lambda: [lost_copy()]) == "done"
    assert [lease.id for lease in book.leases()] == ["00000000"]
    assert said == ["lease 00000000 of shop-ab12cd was restored"]


def test_a_lost_lease_of_an_environment_gets_no_env_file(book: LeaseBook, said: list[str]) -> None:
    assert recovered(book, "stacks", lambda: [survivor(0)]) == "done"
    assert not book.leases()[0].env_file.exists()
    assert len(said) == 1


def test_a_book_is_done_when_the_directories_have_been_read(book: LeaseBook) -> None:
    def work(db: Transaction) -> list[bool]:
        states = ("due", "stacks", "done")
        found = []
        for state in states:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('recovery', ?)", (state,))
            found.append(lost_book.is_done(db))
        db.execute("DELETE FROM meta WHERE key='recovery'")
        return [*found, lost_book.is_done(db)]

    assert book.transact(work) == [False, True, True, True]


def test_data_of_an_environment_whose_name_looks_like_an_id_gets_no_deadline(book: LeaseBook, said: list[str]) -> None:
    found = survivor(0, id="deadbeef", environment="deadbeef", project="stackyard-deadbeef-deadbeef")
    assert recovered(book, "stacks", lambda: [found]) == "done"
    assert [(lease.id, lease.deadline) for lease in book.leases()] == [("deadbeef", None)]
    assert len(said) == 1


def env_of(folder: Path, name: str, *, lease: str | None = None, host: str = "h1", text: str = "", **more: str) -> None:
    (folder / name).mkdir(parents=True)
    told = {
        "HOST": host, "LEASE": lease or name, "ENVIRONMENT": "test", "OWNER": "detached:b0", "SUBNET": "10.214.0.0/28",
        "PORTS": "postgres:11000,redis:11001,backend:11002,auth:11003",
        **{key.upper(): value for key, value in more.items()},
    }  # fmt: skip
    lines = "".join(f"STACKYARD_{key}={value}\n" for key, value in told.items())
    (folder / name / "env").write_bytes(text.encode("latin-1") or lines.encode())


def test_only_the_env_file_of_a_directorys_own_lease_is_read(tmp_path: Path) -> None:
    env_of(tmp_path, "00000002")
    env_of(tmp_path, "00000001")
    env_of(tmp_path, "00000003", lease="00000004")
    env_of(tmp_path, "00000005", host="h2")
    env_of(tmp_path, "00000006", text="A=\xff\n")
    env_of(tmp_path, "00000007", text="no line\n")
    env_of(tmp_path, ".gone-0123456789ab", lease="00000008")
    (tmp_path / "00000009").mkdir()

    assert [found.id for found in lost_book._from_files(tmp_path, "h1")] == ["00000001", "00000002"]
    assert lost_book.survivor_in(tmp_path / "00000009", "h1") is None


# --- repair ---------------------------------------------------------------------------------------------------------


def fixed(book: LeaseBook, *statements: str) -> list[str]:
    def work(db: Transaction) -> list[str]:
        for statement in statements:
            db.execute(statement)
        return damaged_rows.fix(db, book.directory, book.settings)

    return book.transact(work)


def test_a_sound_book_needs_no_repair(book: LeaseBook) -> None:
    write(book, lease_of(book, 0, parallel_id="a", deadline=NOW + 5), dev_of(book, 1))
    before = read(book, "SELECT * FROM slots")

    assert fixed(book) == []
    assert read(book, "SELECT * FROM slots") == before
    assert read(book, "SELECT * FROM set_aside") == []
    assert read(book, "SELECT value FROM meta WHERE key='recovery'") == [("stacks",)]


def test_a_book_with_a_wrong_lease_looks_for_that_lease_again(book: LeaseBook) -> None:
    write(book, lease_of(book, 0))

    def work(db: Transaction) -> list[tuple[Any, ...]]:
        db.execute("UPDATE leases SET subnet='x'")
        damaged_rows.fix(db, book.directory, book.settings)
        return list(db.execute("SELECT value FROM meta WHERE key='recovery'"))

    assert book.transact(work) == [("due",)]


def test_of_several_changed_leases_those_that_clash_are_set_aside(book: LeaseBook) -> None:
    write(book, *(lease_of(book, number) for number in range(4)))

    told = fixed(
        book, "UPDATE leases SET subnet='10.214.0.240/28' WHERE id IN ('00000001', '00000003')",
        "UPDATE leases SET subnet='10.214.0.0/28' WHERE id='00000002'",
    )  # fmt: skip

    assert [lease.id for lease in book.leases()] == ["00000000", "00000001"]
    assert sum("another lease has the same" in line for line in told) == 2


def test_a_wrong_lease_is_set_aside_and_its_slot_rests(book: LeaseBook) -> None:
    write(book, lease_of(book, 0), lease_of(book, 1))

    told = fixed(book, "UPDATE leases SET subnet='x' WHERE id='00000000'")

    assert told[0].startswith("a row of leases was set aside, see the table set_aside: subnet is 'x' and must be a")
    assert [lease.id for lease in book.leases()] == ["00000001"]
    ((at, source, reason, content),) = read(book, "SELECT at, source, reason, content FROM set_aside")
    assert (at, source) == ("2027-01-15T08:00:00Z", "leases")
    assert reason.startswith("subnet is 'x'")
    assert content.startswith("id='00000000', parallel_id=NULL, environment='test', slot=0, ports='postgres:11000")
    assert read(book, "SELECT value FROM meta WHERE key='recovery'") != [("done",)]
    slots = read(book, "SELECT port, idle, rests_until FROM slots ORDER BY port")
    assert slots[0] == (11000, 1, NOW + damaged_rows.REST)
    assert slots[1:] == [(11010, None, 0), (11020, 0, 0), (11030, 0, 0)]
    assert fixed(book) == []


@pytest.mark.parametrize(
    ("statement", "table", "left"),
    [
        ("INSERT INTO pools VALUES ('x', 'test', 1)", "pools", "SELECT * FROM pools"),
        ("INSERT INTO queue VALUES (5, 'pool', 'x', 0)", "queue", "SELECT * FROM queue"),
        ("INSERT INTO ended VALUES (5, 'A B')", "ended", "SELECT * FROM ended"),
        ("INSERT INTO claims VALUES ('slot', '', '00000000')", "claims", "SELECT * FROM claims WHERE value=''"),
        ("INSERT INTO pools VALUES (x'2f61', 'test', 1)", "pools", "SELECT * FROM pools"),
    ],
)
def test_a_wrong_row_of_any_table_is_set_aside(book: LeaseBook, statement: str, table: str, left: str) -> None:
    write(book, lease_of(book, 0))

    told = fixed(book, statement)

    assert told[0].startswith(f"a row of {table} was set aside, see the table set_aside: ")
    assert (read(book, left), read(book, "SELECT source FROM set_aside")) == ([], [(table,)])
    assert [lease.id for lease in book.leases()] == ["00000000"]


def write_exclusive(book: LeaseBook, **claims: str) -> None:
    """Write claims as damage does: SQLite checks no reference here."""
    with contextlib.closing(sqlite3.connect(book.settings.state_dir / "book.sqlite3")) as db, db:
        db.executemany("INSERT OR REPLACE INTO exclusive (what, lease) VALUES (?, ?)", claims.items())


def test_exclusive_claims_of_no_lease_are_set_aside_beside_wrong_ones(book: LeaseBook) -> None:
    write(book, lease_of(book, 0, exclusive=("kept",)))
    write_exclusive(book, lost="deadbeef", Wrong="00000000")

    told = fixed(book)

    begin = "a row of exclusive was set aside, see the table set_aside: "
    assert [line.startswith(begin) for line in told] == [True, True]
    assert told[1] == f"{begin}lease deadbeef is not in the book"
    assert read(book, "SELECT what, lease FROM exclusive") == [("kept", "00000000")]
    assert read(book, "SELECT reason, content FROM set_aside WHERE content LIKE '%deadbeef%'") == [
        ("lease deadbeef is not in the book", "what='lost', lease='deadbeef'")
    ]
    assert fixed(book) == []


def test_an_exclusive_claim_of_no_lease_is_damage_and_not_free(book: LeaseBook) -> None:
    write(book, lease_of(book, 0, exclusive=("kept",)))
    write_exclusive(book, lost="deadbeef")

    def work(db: Transaction) -> list[str | None]:
        found = [rows.holder(db, book.directory, [what]) for what in ("kept", "free")]
        with pytest.raises(BadRowError, match="a row of exclusive: lease is 'deadbeef' and must be in the book"):
            rows.holder(db, book.directory, ["free", "lost"])
        return [held[1].id if held else None for held in found]

    assert book.transact(work) == ["00000000", None]


def test_a_lease_gets_the_exclusive_claims_of_its_env_file_again_unless_another_has_them(book: LeaseBook) -> None:
    first, second, third = (lease_of(book, number) for number in range(3))
    write(book, replace(first, exclusive=("net",)), second, third)
    env_of(book.directory, first.id, host=book.host, exclusive="net,lost")
    env_of(book.directory, second.id, host="another", exclusive="other")
    env_of(book.directory, third.id, host=book.host, exclusive="net,third")
    write_exclusive(book, lost="deadbeef")

    assert len(fixed(book)) == 1
    assert read(book, "SELECT what, lease FROM exclusive ORDER BY what") == [
        ("lost", first.id), ("net", first.id), ("third", third.id)
    ]  # fmt: skip


def test_of_two_keys_with_the_same_bytes_only_the_wrong_one_goes(book: LeaseBook) -> None:
    told = fixed(book, "INSERT INTO pools VALUES ('/a', 'test', 1)", "INSERT INTO pools VALUES (x'2f61', 'test', 1)")

    assert len(told) == 1
    assert read(book, "SELECT root FROM pools") == [("/a",)]


def test_a_long_value_is_cut_and_only_the_newest_rows_are_kept(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damaged_rows, "KEPT", 2)
    long = "y" * 600
    for number in range(3):
        fixed(book, f"INSERT INTO pools VALUES ('{number}{long}', 'test', 1)")  # noqa: S608 - of this test

    kept = read(book, "SELECT content FROM set_aside ORDER BY rowid")
    assert [content[:7] for (content,) in kept] == ["root='1", "root='2"]
    assert [len(content) for (content,) in kept] == [len("root='") - 1 + 500 + len(", environment='test', size=1")] * 2


def test_a_missing_slot_is_entered_again_and_a_leased_one_is_not_free(book: LeaseBook) -> None:
    write(book, lease_of(book, 0))

    fixed(book, "UPDATE slots SET idle=-1 WHERE port IN (11000, 11010)")

    assert read(book, "SELECT pool, port, idle FROM slots ORDER BY port") == [
        ("11000-11039/10", 11000, None), ("11000-11039/10", 11010, 0), ("11000-11039/10", 11020, 0),
        ("11000-11039/10", 11030, 0),
    ]  # fmt: skip


def test_claims_follow_from_leases(book: LeaseBook) -> None:
    first, second = lease_of(book, 0), lease_of(book, 1)
    write(book, first, second)
    before = sorted(read(book, "SELECT kind, value, lease FROM claims"))

    told = fixed(book, "DELETE FROM claims WHERE value='11003'", "UPDATE claims SET value='5' WHERE value='11013'")

    assert told == [
        f"lease {lease.id} and its claims differed; its claims were written again" for lease in (first, second)
    ]
    assert sorted(read(book, "SELECT kind, value, lease FROM claims")) == before


def test_a_slot_that_only_looks_leased_is_free_again(book: LeaseBook) -> None:
    write(book, lease_of(book, 0))
    assert fixed(book, "UPDATE slots SET idle=NULL WHERE port=11020", "UPDATE slots SET idle=7 WHERE port=11030") == []
    assert read(book, "SELECT port, idle, rests_until FROM slots ORDER BY port") == [
        (11000, None, 0), (11010, 0, 0), (11020, 8, 0), (11030, 7, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("ports='postgres:11010,redis:11001,backend:11002,auth:11003,websocket:11004,spare:11005-11009'",
         "another lease has the same ports, subnet, project or name"),
        ("subnet='10.214.0.16/28'", "another lease has the same ports, subnet, project or name"),
        ("subnet='10.214.0.240/28'", "its env file has other values"),
    ],
)  # fmt: skip
def test_a_lease_that_was_changed_into_anothers_place_is_set_aside(book: LeaseBook, change: str, why: str) -> None:
    first, second = lease_of(book, 0), lease_of(book, 1)
    write(book, first, second)
    if "env file" in why:
        env_of(book.directory, first.id, host=book.host)

    told = fixed(book, f"UPDATE leases SET {change} WHERE id='{first.id}'")  # noqa: S608 - of this test

    assert told[0] == f"a row of leases was set aside, see the table set_aside: {why}"
    assert [lease.id for lease in book.leases()][-1:] == [second.id]
    assert read(book, "SELECT source, reason FROM set_aside") == [("leases", why)]
    if "env file" not in why:
        assert len(book.leases()) == 1


def test_a_lease_that_was_changed_and_clashes_with_nothing_stays(book: LeaseBook) -> None:
    write(book, lease_of(book, 0), lease_of(book, 1))

    told = fixed(book, "UPDATE leases SET subnet='10.214.0.240/28' WHERE id='00000000'")

    assert told == ["lease 00000000 and its claims differed; its claims were written again"]
    assert [lease.subnet for lease in book.leases()] == ["10.214.0.240/28", "10.214.0.16/28"]


@pytest.mark.parametrize(
    ("seq", "kept"), [("5", True), ("0", True), (str((1 << 53) - 1), True), (str(1 << 53), False), ("-1", False),
                      ("'x'", False), ("1.5", False)],
)  # fmt: skip
def test_tickets_begin_again_if_their_number_cannot_be_counted_on(book: LeaseBook, seq: str, kept: bool) -> None:
    fixed(book, "INSERT INTO queue VALUES (1, 'pool', 'detached:b', 0)", "DELETE FROM queue",
           f"UPDATE sqlite_sequence SET seq={seq} WHERE name='queue'")  # fmt: skip  # noqa: S608 - as above

    assert bool(read(book, "SELECT seq FROM sqlite_sequence WHERE name='queue'")) is kept


def test_tickets_begin_again_if_there_are_two_last_ones(book: LeaseBook) -> None:
    fixed(book, "INSERT INTO sqlite_sequence VALUES ('queue', 5)", "INSERT INTO sqlite_sequence VALUES ('queue', 6)")
    assert read(book, "SELECT * FROM sqlite_sequence") == []


# --- draft directory ----------------------------------------------------------------------------


def test_a_draft_is_a_hidden_folder_with_secrets_a_held_lock_and_the_common_lines(tmp_path: Path) -> None:
    given = {"A": "1", "STACKYARD_LEASE": "x", "STACKYARD_JWT_KEY": "x"}  # the last is of its services
    draft = Draft.of(tmp_path / "leases", given, {"B": "2"}, "h1", SERVICES)
    assert [draft.directory] == [None]

    made = draft.prepare()

    assert (made.parent, made.name[:5], len(made.name)) == (tmp_path / "leases", ".new-", 17)
    assert (draft.directory, made.stat().st_mode & 0o777) == (made, 0o700)
    assert (made / "env").read_text() == "A=1\nB=2\n"
    assert owners.is_held(made / "owner.lock") is True
    assert (made / "secrets" / "postgres_password").read_text() == draft.secrets["postgres_password"]
    again = draft.prepare()
    assert (made.exists(), again.is_dir(), owners.is_held(again / "owner.lock")) == (False, True, True)
    draft.drop()
    draft.drop()
    assert list((tmp_path / "leases").iterdir()) == []
    assert not any(path.is_relative_to(tmp_path) for path in owners._held)


def test_a_draft_for_a_copy_has_no_secrets(tmp_path: Path) -> None:
    draft = Draft.of(tmp_path, {}, {}, "h1")
    made = draft.prepare()

    assert (draft.secrets, (made / "secrets").exists()) == ({}, False)
    draft.drop()


@pytest.mark.parametrize("times", [draft_directory.TRIES - 1, draft_directory.TRIES])
def test_a_draft_that_a_clean_up_takes_is_made_again_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    real, left = owners.hold, [FileNotFoundError("gone")] * times

    def hold(lock: Path) -> None:
        if left:
            raise left.pop()
        real(lock)

    monkeypatch.setattr(owners, "hold", hold)
    draft = Draft.of(tmp_path, {}, {}, "h1")
    if times == draft_directory.TRIES:
        with pytest.raises(FileNotFoundError):
            draft.prepare()
    else:
        draft.prepare()
        draft.drop()
    assert left == []


@pytest.mark.parametrize("kind", ["process", "detached"])
@pytest.mark.parametrize("prepared", [True, False])
def test_a_settled_draft_is_the_leases_directory(book: LeaseBook, kind: str, prepared: bool) -> None:
    lease = lease_of(book, owner=Owner.current() if kind == "process" else Owner.detached())
    draft = Draft.of(book.directory, {"A": "1"}, {}, "h1", SERVICES)
    if prepared:
        draft.prepare()

    secrets = draft.secrets
    draft.settle(lease, Owner.detached())

    assert draft.secrets is secrets or not prepared
    variables = lease.variables()
    assert (variables["A"], variables["STACKYARD_HOST"], variables["STACKYARD_LEASE"]) == ("1", "h1", lease.id)
    assert variables["STACKYARD_OWNER"] == Owner.detached().label()
    assert (draft.directory, [path.name for path in book.directory.iterdir()]) == (None, [lease.id])
    assert owners.is_held(lease.lock) is (kind == "process")
    draft.drop()
    assert lease.directory.is_dir()
    owners.drop(lease.lock)


def test_a_draft_that_is_gone_is_prepared_again_when_it_is_settled(book: LeaseBook) -> None:
    draft = Draft.of(book.directory, {"A": "1"}, {}, "h1", SERVICES)
    draft.prepare().rename(book.directory / "elsewhere")

    draft.settle(lease_of(book), lease_of(book).owner)

    assert lease_of(book).variables()["A"] == "1"


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR])
def test_a_name_that_is_taken_is_one_clear_error(book: LeaseBook, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    draft = Draft.of(book.directory, {}, {}, "h1")
    draft.prepare()
    monkeypatch.setattr(Path, "rename", Mock(side_effect=OSError(number, "no")))

    with pytest.raises(BookError, match=r"00000000: something else has this name; move it away"):
        draft.settle(lease_of(book), Owner.detached())
    monkeypatch.setattr(Path, "rename", Mock(side_effect=OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        draft.settle(lease_of(book), Owner.detached())
    monkeypatch.undo()
    draft.drop()


# --- the lock of the book -------------------------------------------------------------------------------------------


@pytest.fixture
def handles(tmp_path: Path) -> Iterator[list[int]]:
    path = tmp_path / "lock"
    path.touch()
    opened = [os.open(path, os.O_RDWR) for _ in range(3)]
    yield opened
    for handle in opened:
        os.close(handle)


def test_locked_bytes_are_counted_and_let_go(handles: list[int]) -> None:
    first, second, third = handles
    os.lseek(first, 100, os.SEEK_SET)
    assert [fair_lock.lock(first, number) for number in (5, 7, 9, 1 << 40)] == [True] * 4
    assert fair_lock.lock(second, 9) is False
    assert fair_lock.lock(second, 10) is True

    spans = ((0, 100), (5, 6), (5, 8), (6, 7), (9, 9), (9, 11), (0, 1 << 41))
    assert [fair_lock.count(third, *span) for span in spans] == [4, 1, 2, 0, 0, 2, 5]
    assert fair_lock.count(first, 0, 100) == 1
    fair_lock.unlock(first, 9)
    assert [fair_lock.count(third, 0, 100), fair_lock.count(third, 0, 1 << 41)] == [3, 3]
    fair_lock.unlock(first)
    assert fair_lock.count(third, 0, 1 << 41) == 1


def test_every_byte_is_let_go_wherever_the_file_is_read(handles: list[int]) -> None:
    os.lseek(handles[0], 100, os.SEEK_SET)
    fair_lock.lock(handles[0], 0)
    assert fair_lock.count(handles[1], 0, 1) == 1
    fair_lock.unlock(handles[0])
    assert fair_lock.count(handles[1], 0, 1000) == 0


def test_a_lock_on_many_bytes_counts_once(handles: list[int]) -> None:
    first, second, third = handles
    for number in (5, 6, 7):
        fair_lock.lock(first, number)
    fair_lock.lock(second, 9)
    assert [fair_lock.count(third, *span) for span in ((0, 100), (6, 100), (6, 7), (8, 100))] == [2, 2, 1, 1]
    fair_lock.unlock(first)
    fair_lock.unlock(second)
    everything = struct.pack(fair_lock._FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
    fcntl.fcntl(first, fcntl.F_OFD_SETLK, everything)
    assert [fair_lock.count(third, *span) for span in ((0, 100), (6, 100))] == [1, 1]


def test_a_ticket_is_the_moment_it_was_drawn_and_is_locked(handles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic_ns", lambda: 10**10)

    assert [fair_lock.draw(handles[0]), fair_lock.draw(handles[1], later=7)] == [10**10, 10**10 + 7]
    assert fair_lock.count(handles[2], 10**10, 10**10 + 8) == 2


def test_only_older_tickets_of_the_last_seconds_are_ahead(handles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10**10, 10**10 + 10, 10**10 + 20, 10**10 + int(2e9) + 5])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(moments))
    fair_lock.lock(handles[0], 10**10 - 5)
    fair_lock.lock(handles[1], 10**10 + 5)

    assert [fair_lock._ahead(handles[2], None), fair_lock._ahead(handles[2], 10**10 + 1)] == [1, 1]
    assert [fair_lock._ahead(handles[2], None), fair_lock._ahead(handles[2], None)] == [2, 1]


def test_just_after_a_boot_no_ticket_is_too_old(handles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic_ns", lambda: 7)
    fair_lock.lock(handles[0], 0)
    assert fair_lock._ahead(handles[1], None) == 1


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES, errno.EIO])
def test_only_a_lock_that_somebody_has_is_a_reason_to_wait(
    handles: list[int], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(number, "no")))
    monkeypatch.setattr(fcntl, "fcntl", Mock(side_effect=OSError(number, "no")))
    if number == errno.EIO:
        with pytest.raises(OSError, match="no"):
            fair_lock._grab(handles[0])
        with pytest.raises(OSError, match="no"):
            fair_lock.lock(handles[0], 1)
        assert fair_lock.draw(handles[0]) > 0
    else:
        assert [fair_lock._grab(handles[0]), fair_lock.lock(handles[0], 1)] == [False, False]
    assert fair_lock.count(handles[0], 0, 9) == 0
    fair_lock.unlock(handles[0])


def test_the_flock_has_one_holder(handles: list[int]) -> None:
    assert [fair_lock._grab(handles[0]), fair_lock._grab(handles[1])] == [True, False]


@pytest.mark.parametrize(
    ("ahead", "grabs", "slept"),
    [
        ([0], [True], []), ([0, 0], [False, True], [0.0002]), ([3, 0, 0], [False, True], [0.0012, 0.0002]),
        ([0] * 5, [False] * 4 + [True], [0.0002, 0.0002, 0.0002, 0.02]),
    ],
)  # fmt: skip
def test_who_waits_sleeps_for_as_long_as_those_before_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: list[int], grabs: list[bool], slept: list[float]
) -> None:
    waits: list[float] = []
    moments = iter([100.0, 100.5, 101.0, 101.5, 102.0, 130.0])
    clock = SimpleNamespace(monotonic=lambda: next(moments), sleep=waits.append)
    asked = Mock(side_effect=ahead)
    drawn = Mock(return_value=77)
    monkeypatch.setattr(fair_lock, "time", clock)
    monkeypatch.setattr(fair_lock, "_ahead", asked)
    monkeypatch.setattr(fair_lock, "_grab", Mock(side_effect=grabs))
    monkeypatch.setattr(fair_lock, "draw", drawn)

    fair_lock.take_lock(9, tmp_path)

    assert waits == pytest.approx(slept)
    assert [call.args for call in asked.mock_calls] == [(9, None)] + [(9, 77)] * len(slept)
    assert [call.args for call in drawn.mock_calls] == [(9,)] * bool(slept)


def test_a_wait_for_the_lock_ends_with_the_name_of_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 105.0, 105.1])
    monkeypatch.setattr(fair_lock, "time", SimpleNamespace(monotonic=lambda: next(moments), sleep=lambda _: None,
                                                           monotonic_ns=lambda: 5))  # fmt: skip
    monkeypatch.setattr(fair_lock, "_grab", lambda _handle: False)
    monkeypatch.setattr(fair_lock, "_ahead", lambda _handle, _ticket: 0)
    monkeypatch.setattr(fair_lock, "draw", lambda _handle: 1)
    monkeypatch.setattr(fair_lock, "lock_holder", lambda path: f"who has {path.name}")

    with pytest.raises(BookError, match=r"/lock: locked for over 5 s by who has lock; check that process"):
        fair_lock.take_lock(9, tmp_path / "lock", 5.0)
    assert next(moments, None) is None


@pytest.mark.parametrize(
    "steps",
    [
        # seconds waited, who has it then ("" if no process looks), whether that one has had it too long
        [(1.0, "", False), (1.1, "a", False), (2.1, "", False), (2.2, "a", False), (4.0, "a", False), (4.1, "a", True)],
        [(1.1, "a", False), (2.2, "b", False), (3.2, "", False), (6.2, "b", False), (6.3, "b", True)],
        [
            (1.1, "a", False),
            (3.9, "b", False),
            (4.8, "", False),
            (5.0, "a", False),
            (9.0, "a", False),
            (9.1, "a", True),
        ],
        [(9.0, "a", False), (9.1, "b", False), (9.2, "", False), (13.1, "b", False), (13.2, "b", True)],
    ],
    ids=["one", "another", "in turn", "late"],
)
def test_only_who_has_the_lock_for_the_whole_deadline_has_it_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[float, str, bool]]
) -> None:
    looked: list[Path] = []
    now = [""]

    def holder(path: Path) -> str:
        looked.append(path)
        return now[0]

    monkeypatch.setattr(fair_lock, "lock_holder", holder)
    found = fair_lock._Holders(tmp_path, 4.0)
    for waited, who, stuck in steps:
        now[0] = who
        assert found.stuck(waited) == (who if stuck else "")

    assert looked == [tmp_path] * sum(bool(who) for _, who, _ in steps)


def test_the_holder_of_the_flock_is_read_from_the_kernels_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").touch()
    inode = (tmp_path / "x").stat().st_ino
    lines = [
        f"1: -> FLOCK ADVISORY WRITE 1 08:01:{inode} 0 EOF", f"2: POSIX ADVISORY WRITE 2 08:01:{inode} 0 EOF",
        f"3: FLOCK ADVISORY WRITE 3 08:01:1{inode} 0 EOF", f"4: FLOCK ADVISORY WRITE 4 08:01:{inode} 0 EOF",
    ]  # fmt: skip
    table = tmp_path / "table"
    table.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr("builtins.open", lambda name, **words: table.open(**words) if name == "/proc/locks" else None)
    monkeypatch.setattr(owners, "command_line", lambda pid: f"program {pid}")

    assert fair_lock.lock_holder(tmp_path / "x") == "pid 4 (program 4)"
    table.write_text("\n".join(lines[:3]) + "\n")
    assert fair_lock.lock_holder(tmp_path / "x") == "a process that has released it by now"

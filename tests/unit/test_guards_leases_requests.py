"""What a request for a lease is answered with, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from lease_records import SERVICES, Clock, Surroundings

from stackyard.errors import BookError, PoolExhaustedError, StillStartingError, SubnetsExhaustedError, UsageError
from stackyard.leases import LeaseBook, needs, owners
from stackyard.leases.database import rows
from stackyard.leases.directory import files
from stackyard.leases.grants import allocation, messages, queue
from stackyard.leases.grants.admission import Memory
from stackyard.leases.grants.allocation import Place, Search
from stackyard.leases.grants.host_ports import Ground, span
from stackyard.leases.grants.requests import Request
from stackyard.leases.needs import Needs, PortName
from stackyard.leases.owners import Owner
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.leases import Lease
    from stackyard.leases.database.store import Transaction

GROUND = Ground(kernel_ports=(), taken_ports=frozenset(), networks=())
TEST = Surroundings()
NEEDS = Needs(ports=SERVICES.names)
DEV = replace(TEST, name="dev", data="volume")


@pytest.fixture(autouse=True)
def _free(free_host: None) -> None:
    del free_host


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({
        "STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "11000-11024,12000-12019",
        "STACKYARD_POOL_SUBNETS": "10.214.0.0/26",
    })  # fmt: skip


@pytest.fixture
def book(settings: Settings) -> LeaseBook:
    clock = Clock()
    return LeaseBook(settings, clock=clock, sleep=clock.sleep)


def request(book: LeaseBook, **change: Any) -> Request:
    given: dict[str, Any] = {
        "settings": book.settings, "host": book.host, "directory": book.directory, "environment": TEST,
        "parallel_id": None, "ttl": None, "fixed": "never", "variables": {},
    }  # fmt: skip
    return Request(**given | change)


def ask(book: LeaseBook, ground: Ground = GROUND, ahead: int = 0, now: float | None = None, **change: Any) -> Lease:
    """Answer one request as the book does, on a made-up host."""
    asked = request(book, **change)
    draft = asked.draft()
    try:
        return book.transact(lambda db: asked.answer(db, draft, ground, db.moment.wall if now is None else now, ahead))
    finally:
        draft.drop()


def test_a_request_that_makes_no_sense_is_refused(book: LeaseBook) -> None:
    with pytest.raises(UsageError, match=r"^a name must be .*got 'A'$"):
        request(book, parallel_id="A")
    with pytest.raises(UsageError, match=r"^environment 'dev' keeps its data.*leave the name 'a' out"):
        request(book, parallel_id="a", environment=DEV)
    with pytest.raises(UsageError, match=r"^ttl must be .*got '-1s'$"):
        request(book, ttl="-1s")
    assert request(book, parallel_id="a", ttl=math.inf).ttl == math.inf
    assert request(book, environment=DEV).parallel_id is None


def test_a_request_for_a_fixed_block_waits_for_that_block(book: LeaseBook) -> None:
    assert [request(book, fixed=fixed).wanted for fixed in ("never", "prefer", "only")] == [
        "pool",
        "pool",
        "block:test",
    ]


@pytest.mark.parametrize(
    ("ttl", "name", "attached", "kind", "lifetime"),
    [
        (None, None, False, "process", None), (5.0, None, False, "detached", 5.0),
        (None, "a", False, "detached", 3600.0), (None, None, True, "process", None),
        (5.0, "a", False, "detached", 5.0), (math.inf, None, False, "detached", None),
        (5.0, None, True, "process", None), (None, "a", True, "process", None),
    ],
)  # fmt: skip
def test_a_lease_has_an_owner_or_a_deadline(
    book: LeaseBook, ttl: float | None, name: str | None, attached: bool, kind: str, lifetime: float | None
) -> None:
    lease = ask(book, ttl=ttl, parallel_id=name, attached=attached, now=100.0)

    assert (lease.owner.kind, lease.deadline) == (kind, None if lifetime is None else 100.0 + lifetime)
    assert (lease.parallel_id, lease.created, lease.reused) == (name, 100.0, False)
    assert owners.is_held(lease.lock) is (kind == "process")
    told = Owner.detached() if attached else lease.owner
    assert lease.variables()["STACKYARD_OWNER"] == told.label()
    assert book.leases() == [replace(lease, deadline=book.leases()[0].deadline)]


def test_a_new_lease_has_what_it_was_asked_for(book: LeaseBook) -> None:
    hungry = replace(TEST, reserve_mb=7)

    lease = ask(book, environment=hungry, variables={"MORE": "1"})

    assert (lease.environment, lease.memory_mb, lease.slot, lease.subnet) == ("test", 7, 0, "10.214.0.0/28")
    assert (lease.ports["postgres"], lease.spare) == (11000, (11005, 11006, 11007, 11008, 11009))
    assert (lease.project, lease.directory) == (f"stackyard-test-{lease.id}", book.directory / lease.id)
    assert len(lease.id) == 8
    variables = lease.variables()
    assert (variables["MORE"], variables["COMPOSE_PROFILES"]) == ("1", "test")
    assert (variables["STACKYARD_CHECKOUT"], lease.checkout) == ("/srv/checkout", "/srv/checkout")
    assert variables["STACKYARD_HOST"] == book.host


@pytest.mark.parametrize("root", ["/srv/it's", "/srv/a\nb"])
def test_a_checkout_that_no_env_file_can_hold_is_left_out(book: LeaseBook, root: str) -> None:
    assert ask(book, environment=replace(TEST, root=Path(root))).checkout == ""


def test_a_request_by_name_or_for_kept_data_gets_the_lease_that_is_there(book: LeaseBook) -> None:
    first, other = ask(book, parallel_id="a"), ask(book, parallel_id="b")
    again = ask(book, parallel_id="a", ttl=77.0, now=100.0)
    stable = ask(book, environment=DEV)

    assert (again.id, again.deadline, again.reused, again.removing) == (first.id, 177.0, True, False)
    assert ask(book, environment=DEV).id == stable.id
    assert len(book.leases()) == 3
    assert len({first.id, other.id, stable.id}) == 3


def test_a_request_without_a_name_of_another_environment_or_checkout_gets_a_lease_of_its_own(book: LeaseBook) -> None:
    first, stable = ask(book, parallel_id="a"), ask(book, environment=DEV)

    assert ask(book, parallel_id="a", environment=replace(TEST, name="ci")).id != first.id
    assert ask(book, environment=replace(DEV, root=Path("/srv/else"))).id != stable.id
    assert len(book.leases()) == 4


STRANGER = Owner(kind="process", boot=owners.boot_id(), pid=1, ticks=owners.start_ticks(1) or 0, namespace=0)


def hand(book: LeaseBook, lease: Lease, owner: Owner, **change: Any) -> Lease:
    changed = replace(lease, owner=owner, **change)
    book.transact(lambda db: rows.update(db, changed))
    return changed


@pytest.mark.parametrize(
    ("name", "removing", "error", "words"),
    [
        ("a", False, StillStartingError, " belongs to pid 1"),
        ("a", True, PoolExhaustedError, " is being removed by pid 1"),
    ],
)
def test_a_lease_that_a_living_process_has_is_waited_for(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, name: str, removing: bool, error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(Owner, "is_alive", lambda _self, _lock: True)
    hand(book, ask(book, parallel_id=name), STRANGER, removing=removing)

    with pytest.raises(error, match=words) as raised:
        ask(book, parallel_id=name)
    assert type(raised.value) is error


def test_kept_data_that_a_living_process_uses_is_not_handed_out(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Owner, "is_alive", lambda _self, _lock: True)
    hand(book, ask(book, environment=DEV), STRANGER)

    with pytest.raises(PoolExhaustedError, match="belongs to pid 1") as raised:
        ask(book, environment=DEV)
    assert type(raised.value) is PoolExhaustedError


def test_the_same_process_gets_its_own_lease_again_but_not_while_it_starts_it(book: LeaseBook) -> None:
    first = ask(book, parallel_id="a", attached=True)

    with pytest.raises(StillStartingError):
        ask(book, parallel_id="a", attached=True)
    again = ask(book, parallel_id="a")
    assert (again.id, again.owner.kind) == (first.id, "detached")
    assert owners.is_held(again.lock) is False
    held = ask(book, environment=DEV, attached=True)
    assert ask(book, environment=DEV, attached=True).id == held.id


def test_a_dead_owners_lease_goes_to_who_asks_for_it(book: LeaseBook) -> None:
    dead = Owner(kind="process", boot="gone", pid=1, ticks=1, namespace=1)
    first = hand(book, ask(book, parallel_id="a"), dead, removing=True)

    again = ask(book, parallel_id="a", attached=True)

    assert (again.id, again.owner, again.removing) == (first.id, Owner.current(), False)
    assert again.variables()["STACKYARD_OWNER"] == Owner.current().label()
    assert owners.is_held(again.lock) is True


def test_a_detached_stack_stays_detached_unless_its_boot_is_over(book: LeaseBook) -> None:
    first = ask(book, parallel_id="a")
    again = ask(book, parallel_id="a", attached=True, ttl=50.0, now=100.0)
    assert (again.owner.kind, again.deadline) == ("detached", 150.0)
    hand(book, first, Owner(kind="detached", boot="gone"))
    assert ask(book, parallel_id="a", attached=True).owner == Owner.current()


def test_a_lease_that_is_asked_for_again_gets_its_files_again_only_if_needed(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = ask(book, parallel_id="a", variables={"MORE": "1"})
    written = Mock(side_effect=files.write)
    monkeypatch.setattr(files, "write", written)

    ask(book, parallel_id="a")
    assert written.call_count == 0
    assert ask(book, parallel_id="a", variables={"MORE": "2"}).variables()["MORE"] == "2"
    lease.env_file.unlink()
    assert ask(book, parallel_id="a").variables()["COMPOSE_PROFILES"] == "test"
    assert written.call_count == 2


@pytest.mark.parametrize(
    ("available", "force", "ahead", "granted"),
    [
        (900, False, 0, True), (99, False, 0, False), (99, True, 0, True), (None, False, 0, True),
        (200, False, 1, True), (200, False, 2, False),
    ],
)  # fmt: skip
def test_no_lease_is_granted_without_memory_for_its_stack(
    book: LeaseBook, available: int | None, force: bool, ahead: int, granted: bool
) -> None:
    hungry = replace(TEST, reserve_mb=100)
    ground = GROUND._replace(memory=Memory(total_mb=1000, available_mb=available) if available else None)

    if granted:
        assert ask(book, ground, ahead, environment=hungry, force=force).memory_mb == 100
    else:
        with pytest.raises(PoolExhaustedError, match="no memory for another stack of test"):
            ask(book, ground, ahead, environment=hungry, force=force)
        assert book.leases() == []


def test_what_young_leases_book_is_not_available(book: LeaseBook) -> None:
    hungry = replace(TEST, reserve_mb=100)
    ground = GROUND._replace(memory=Memory(total_mb=1000, available_mb=150))
    ask(book, ground, environment=hungry)

    with pytest.raises(PoolExhaustedError, match="no memory"):
        ask(book, ground, environment=hungry)


FIXED = {"postgres": 11934, "redis": 11981, "backend": 11901, "auth": 11982}


@pytest.mark.parametrize(
    ("fixed", "ahead", "taken", "block"),
    [
        ("never", 0, False, False), ("prefer", 0, False, True), ("only", 0, False, True), ("prefer", 0, True, False),
        ("prefer", 1, False, False),
    ],
)  # fmt: skip
def test_a_fixed_block_is_given_if_it_is_wanted_and_free(
    book: LeaseBook, fixed: str, ahead: int, taken: bool, block: bool
) -> None:
    ground = GROUND._replace(taken_ports=frozenset({11901} if taken else ()))

    lease = ask(book, ground, ahead, fixed=fixed)

    assert (lease.slot is None, dict(lease.ports) == FIXED, lease.spare == ()) == (block, block, block)
    assert (lease.subnet == TEST.subnet) is block


def test_a_fixed_block_that_is_a_must_and_taken_is_refused_with_the_reason(book: LeaseBook) -> None:
    with pytest.raises(PoolExhaustedError, match=r"'test' needs its own ports, but port 11901 \(backend\) is"):
        ask(book, GROUND._replace(taken_ports=frozenset({11901})), fixed="only")
    with pytest.raises(PoolExhaustedError, match=r"others wait for them \(requests ahead in the queue: 2\)"):
        ask(book, ahead=2, fixed="only")


def test_a_refused_lease_leaves_nothing_behind(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackyard.leases.directory.draft.Draft.settle", Mock(side_effect=UsageError("no")))
    with pytest.raises(UsageError, match="no"):
        ask(book)
    assert (book.leases(), list(book.directory.glob("*"))) == ([], [])


def test_a_lease_whose_book_is_lost_in_the_same_moment_leaves_no_directory(book: LeaseBook) -> None:
    asked = request(book)
    draft = asked.draft()
    made: list[Lease] = []

    def work(db: Transaction) -> None:
        made.append(asked.answer(db, draft, GROUND, db.moment.wall, 0))
        assert made[0].directory.is_dir()
        raise UsageError("lost")

    with pytest.raises(UsageError, match="lost"):
        book.transact(work)
    assert not made[0].directory.exists()
    assert made[0].lock not in owners._held
    assert [path.name for path in book.directory.iterdir()] == []


def test_a_block_that_another_lease_has_is_refused_with_its_name(book: LeaseBook) -> None:
    first = ask(book, fixed="only")
    with pytest.raises(PoolExhaustedError, match=rf"port 11934 is leased to lease {first.id} of test"):
        ask(book, fixed="only")


def test_what_only_one_copy_can_have_is_had_by_one(book: LeaseBook) -> None:
    alone = Needs(ports=("web_80_tcp",), prefixes=(28,), exclusive=("host-network",))
    with pytest.raises(PoolExhaustedError, match=r"can have the host's network, and others .*ahead in the queue: 2\)"):
        ask(book, needs=alone, ahead=2)

    held = ask(book, needs=alone)

    assert (held.exclusive, book.find(held.id).exclusive) == (("host-network",), ("host-network",))
    with pytest.raises(PoolExhaustedError, match=f"can have the host's network, and .*{held.id}"):
        ask(book, needs=alone)
    ask(book, needs=replace(alone, exclusive=("interface:eth0",)))
    assert ask(book, needs=replace(alone, exclusive=()), ahead=1).exclusive == ()
    assert ask(book).exclusive == ()


@pytest.mark.parametrize(("words", "seen"), [({}, 1), ({"scattered": False}, 1), ({"scattered": True}, 3)])
def test_any_free_place_may_be_taken_only_if_another_book_takes_the_first_one_too(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, words: Any, seen: int
) -> None:
    first = ask(book)
    chosen = Mock(side_effect=lambda found: found[-1])
    monkeypatch.setattr(random, "choice", chosen)

    ask(book, **words)
    moved = book.move(first, **words)

    assert [len(given.args[0]) for given in chosen.mock_calls] == [seen, seen - 1 if seen > 1 else 1]
    assert moved.slot != first.slot


def test_places_in_front_are_left_to_those_who_wait(book: LeaseBook) -> None:
    assert [ask(book, ahead=1).slot, ask(book).slot] == [1, 0]


def test_a_full_pool_names_its_holders(book: LeaseBook) -> None:
    ask(book, ttl=5.0, now=Clock().now - 10)
    for _ in range(3):
        ask(book)
    with pytest.raises(PoolExhaustedError, match=r"4 of 4 slots are leased \(1 of them stale\)"):
        ask(book)
    with pytest.raises(PoolExhaustedError, match=r"requests ahead in the queue: 3; held"):
        ask(book, ahead=3)


# --- the pool -------------------------------------------------------------------------------------------------------


def placed(leave: int = 0) -> Callable[[Search], Place]:
    return lambda found: found.place(NEEDS, leave)


def free(most: int) -> Callable[[Search], int]:
    return lambda found: found.networks(most)


def search(book: LeaseBook, work: Callable[[Search], Any], ground: Ground = GROUND) -> Any:
    return book.transact(lambda db: work(Search(db=db, settings=book.settings, ground=ground, now=db.moment.wall)))


def test_a_pool_is_cut_into_whole_blocks(settings: Settings) -> None:
    assert [block.start for block in allocation.blocks(settings)] == [11000, 11010, 12000, 12010]
    assert all(len(block) == 10 for block in allocation.blocks(settings))
    ports = (11000, 11010, 11020, 12000, 12010, 12020, 11005, 10990, 11990)
    assert [allocation.slot_number(settings, port) for port in ports] == [0, 1, None, 2, 3] + [None] * 4
    assert allocation.pool_key(settings) == "11000-11024,12000-12019/10"


def test_no_block_leaves_its_pool_and_slots_are_counted_through_all_pools() -> None:
    settings = Settings.load({"STACKYARD_POOL": "11000-11018,12000-12009,13000-13009"})

    assert [block.start for block in allocation.blocks(settings)] == [11000, 12000, 13000]
    assert [allocation.slot_number(settings, port) for port in (11000, 11010, 12000, 13000)] == [0, None, 1, 2]


def test_free_slots_come_in_order_but_those_in_front_are_left_to_others(book: LeaseBook) -> None:
    assert [search(book, placed(leave)).slot for leave in range(4)] == [
        0,
        1,
        2,
        3,
    ]
    with pytest.raises(PoolExhaustedError, match=r"no free slot of 10 ports in 11000-11024,12000-12019"):
        search(book, lambda found: found.place(NEEDS, 4))
    assert search(book, lambda found: found.place(NEEDS)) == Place(
        slot=0, ports=dict(zip(SERVICES.names, range(11000, 11005), strict=True)),
        spare=(11005, 11006, 11007, 11008, 11009), subnet="10.214.0.0/28",
    )  # fmt: skip


@pytest.mark.parametrize(
    "ground",
    [GROUND._replace(taken_ports=frozenset({11009})), GROUND._replace(kernel_ports=(range(11003, 11004),))],
)
def test_a_slot_that_something_else_uses_is_skipped_and_counted(book: LeaseBook, ground: Ground) -> None:
    def work(found: Search) -> tuple[int | None, int, int]:
        return found.place(NEEDS).slot, found.busy, found.resting

    assert search(book, work, ground) == (1, 1, 0)


def test_every_slot_skipped_is_counted(book: LeaseBook) -> None:
    def work(found: Search) -> tuple[int | None, int, int]:
        found.db.execute("UPDATE slots SET rests_until=? WHERE port < 12000", (found.db.moment.wall + 1,))
        return found.place(NEEDS).slot, found.busy, found.resting

    used = GROUND._replace(taken_ports=frozenset({11000, 11010}))
    assert search(book, lambda found: (found.place(NEEDS).slot, found.busy, found.resting), used) == (2, 2, 0)
    assert search(book, work) == (2, 0, 2)


def test_networks_of_a_copy_share_no_address_with_others(book: LeaseBook) -> None:
    def subnet(prefixes: tuple[int, ...], *used: str) -> str:
        networks = tuple(span(IPv4Network(text)) for text in used)
        ground = GROUND._replace(networks=networks)
        return str(search(book, lambda found: found.place(Needs(prefixes=prefixes)).subnet, ground))

    assert subnet((28,), "10.214.0.16/32") == "10.214.0.0/28"
    assert subnet((28,), "10.214.0.15/32") == "10.214.0.16/28"
    assert subnet((27,), "10.214.0.32/32") == "10.214.0.0/27"
    assert subnet((27,), "10.214.0.31/32") == "10.214.0.32/27"
    assert subnet((28,) * 4) == "10.214.0.0/28,10.214.0.16/28,10.214.0.32/28,10.214.0.48/28"
    with pytest.raises(SubnetsExhaustedError):
        subnet((31,) * 33)
    ask(book, needs=Needs(prefixes=(27,)))
    assert search(book, placed()).subnet == "10.214.0.32/28"
    pairs: list[tuple[tuple[int, int], tuple[int, int]]] = [
        ((0, 15), (15, 20)),
        ((15, 20), (0, 15)),
        ((0, 9), (10, 15)),
    ]
    assert [allocation._overlap(one, [other]) for one, other in pairs] == [True, True, False]


def test_a_slot_that_rests_is_skipped_until_its_time_has_come(book: LeaseBook) -> None:
    def work(found: Search) -> tuple[int | None, int, int]:
        now = found.db.moment.wall
        found.db.execute("UPDATE slots SET rests_until=? WHERE port=11000", (now + 1,))
        found.db.execute("UPDATE slots SET rests_until=? WHERE port=11010", (now,))
        return found.place(NEEDS).slot, found.busy, found.resting

    search(book, lambda found: found.place(NEEDS))
    assert search(book, work) == (1, 0, 1)


def test_a_slot_whose_port_a_lease_has_is_skipped(book: LeaseBook) -> None:
    ask(book, environment=replace(TEST, ports=FIXED | {"auth": 11013}), fixed="only")

    assert [search(book, placed(leave)).slot for leave in range(2)] == [0, 2]
    assert [block.start for block in search(book, lambda found: list(found.unclaimed()))] == [11000, 12000, 12010]


def test_a_wrong_row_of_a_slot_is_not_used(book: LeaseBook) -> None:
    search(book, lambda found: found.place(NEEDS))
    with pytest.raises(BookError, match="a row of slots: rests_until is"):
        book.transact(lambda db: _broken_slot(db, book))


def _broken_slot(db: Transaction, book: LeaseBook) -> None:
    db.execute("UPDATE slots SET rests_until='x' WHERE port=11000")
    try:
        Search(db=db, settings=book.settings, ground=GROUND, now=0.0).place(NEEDS)
    finally:
        db.execute("UPDATE slots SET rests_until=0 WHERE port=11000")


def test_a_slot_has_its_own_subnet_or_the_next_free_one(book: LeaseBook) -> None:
    def subnets(found: Search) -> list[str]:
        return [found.place(NEEDS, leave).subnet for leave in range(4)]

    every = [f"10.214.0.{start}/28" for start in (0, 16, 32, 48)]
    assert search(book, subnets) == every
    used = GROUND._replace(networks=(span(IPv4Network("10.214.0.16/30")), span(IPv4Network("10.214.0.63/32"))))
    assert search(book, subnets, used) == [every[0], every[2], every[2], every[0]]
    ask(book, environment=replace(TEST, subnet=every[2]), fixed="only")
    assert search(book, subnets) == [every[0], every[1], every[3], every[3]]
    full = GROUND._replace(networks=(span(IPv4Network("10.214.0.0/26")),))
    with pytest.raises(SubnetsExhaustedError, match=r"no free /28 in 10\.214\.0\.0/26: all 4 are leased, or overlap"):
        search(book, subnets, full)


def test_free_networks_are_counted_up_to_what_is_needed(book: LeaseBook) -> None:
    used = GROUND._replace(networks=(span(IPv4Network("10.214.0.16/30")),))
    assert [search(book, free(most)) for most in (0, 2, 9)] == [0, 2, 4]
    ask(book)
    assert search(book, lambda found: found.networks(9), used) == 2


def test_a_pool_is_entered_once(book: LeaseBook) -> None:
    def work(found: Search) -> list[tuple[object, ...]]:
        allocation.enter_pool(found.db, book.settings)
        allocation.enter_pool(found.db, book.settings)
        return list(found.db.execute("SELECT pool, port, idle FROM slots ORDER BY port"))

    ports = (11000, 11010, 12000, 12010)
    assert search(book, work) == [("11000-11024,12000-12019/10", port, 0) for port in ports]


# --- a copy of a project --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web_80_tcp", PortName("web", 80, "tcp")), ("web_80_udp_2", PortName("web", 80, "udp", 2)),
        ("a.b-c_d_1_sctp", PortName("a.b-c_d", 1, "sctp")), ("web_80_tcp_1", None), ("web_080_tcp", None),
        ("web_80_icmp", None), ("web_80", None), ("_80_tcp", None), ("web_123456_tcp", None), ("", None),
        ("web_80_tcp_0", None), ("web_80_tcp_02", None),
    ],
)  # fmt: skip
def test_the_name_of_a_port_is_read_as_it_was_written(text: str, name: PortName | None) -> None:
    assert PortName.parse(text) == name
    assert name is None or str(name) == text


def test_each_port_of_a_copy_has_a_name_of_its_own() -> None:
    wanted = [("web", 80, "tcp"), ("web", 80, "udp"), ("web", 80, "tcp"), ("db", 80, "tcp"), ("web", 80, "tcp")]

    assert needs.port_names(wanted) == ["web_80_tcp", "web_80_udp", "web_80_tcp_2", "db_80_tcp", "web_80_tcp_3"]


@pytest.mark.parametrize(("ports", "blocks"), [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_a_copy_gets_as_many_blocks_as_hold_its_ports(ports: int, blocks: int) -> None:
    assert Needs(ports=tuple(str(number) for number in range(ports))).blocks(10) == blocks


def test_a_copy_gets_slots_in_a_row_and_networks_of_each_size(book: LeaseBook) -> None:
    names = tuple(f"web_{port}_tcp" for port in range(1, 13))
    wanted = Needs(ports=names, prefixes=(28, 27))

    place = search(book, lambda found: found.place(needs=wanted))
    assert place == Place(
        slot=0, ports=dict(zip(names, range(11000, 11012), strict=True)), spare=tuple(range(11012, 11020)),
        subnet="10.214.0.32/28,10.214.0.0/27",
    )  # fmt: skip
    assert search(book, lambda found: found.place(needs=wanted, leave=1)).slot == 2
    taken = GROUND._replace(taken_ports=frozenset({11019}))
    assert search(book, lambda found: found.place(needs=wanted), taken).ports["web_1_tcp"] == 12000
    with pytest.raises(PoolExhaustedError, match="no free slot of 30 ports in"):
        search(book, lambda found: found.place(Needs(ports=names + tuple(f"x_{n}_tcp" for n in range(1, 10)))))
    with pytest.raises(SubnetsExhaustedError, match=r"no free /26 in 10\.214\.0\.0/26: each is leased"):
        search(book, lambda found: found.place(Needs(prefixes=(28, 26, 26))))


def test_a_copys_lease_has_no_secrets_of_the_platform(book: LeaseBook) -> None:
    lease = ask(book, needs=Needs(ports=("web_80_tcp",), prefixes=(28, 28)))

    assert (lease.is_copy, dict(lease.ports), lease.subnets) == (
        True,
        {"web_80_tcp": 11000},
        ("10.214.0.0/28", "10.214.0.16/28"),
    )
    assert (lease.prefixes, lease.every_port, lease.secrets()) == ((28, 28), tuple(range(11000, 11010)), [])
    assert not lease.secrets_dir.exists()
    assert "STACKYARD_POSTGRES_URL" not in lease.variables()
    assert ask(book).subnet == "10.214.0.32/28"


# --- what stands in the way -----------------------------------------------------------------------------------------


def obstacle(book: LeaseBook, ground: Ground = GROUND, **change: Any) -> str | None:
    place = Place(slot=None, ports=FIXED, spare=(), subnet=TEST.subnet)._replace(**change)
    return book.transact(lambda db: messages.obstacle(db, book.directory, place, ground))


def test_a_fixed_block_is_free_or_says_what_has_it(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    assert obstacle(book) is None
    lease = ask(book, fixed="only", parallel_id="a")
    name = f"a ({lease.id}) of test, detached"
    assert obstacle(book) == f"port 11934 is leased to lease {name}"
    assert obstacle(book, ports={"redis": 11981}) == f"port 11981 is leased to lease {name}"
    assert obstacle(book, ports={}) == f"subnet {TEST.subnet} is leased to lease {name}"
    assert obstacle(book, ports={"redis": 5}, subnet="10.9.0.0/28") is None

    here: dict[str, Any] = {"ports": {"redis": 5, "auth": 6}, "subnet": "10.9.0.0/28"}
    published = GROUND._replace(taken_ports=frozenset({6}))
    assert obstacle(book, published, **here) == "port 6 (auth) is published by another container"
    routed = GROUND._replace(networks=(span(IPv4Network("10.9.0.15/32")),))
    assert obstacle(book, routed, **here) == (
        "subnet 10.9.0.0/28 overlaps a route, a name server or another Docker network of this host"
    )
    monkeypatch.setattr(messages, "can_bind", lambda port: port != 5)
    asked = Mock(return_value={5: "pid 9 (x)"})
    monkeypatch.setattr(messages, "port_holders", asked)
    assert obstacle(book, **here) == "port 5 (redis) is in use by pid 9 (x)"
    asked.assert_called_once_with([5])
    asked.return_value = {}
    assert obstacle(book, **here) == "port 5 (redis) is in use by another program"


def held(number: int, *, slot: int | None = 0, stale: bool = False) -> Any:
    owner = SimpleNamespace(describe=lambda: "detached")
    return SimpleNamespace(
        title=f"l{number}", environment="test", slot=slot, is_stale=lambda now: stale and now == 5.0, owner=owner,
        removing=False,
    )  # fmt: skip


def test_an_exhausted_pool_says_who_has_it_and_what_to_do(settings: Settings) -> None:
    def told(leases: list[Any], error: Exception | None = None, ahead: int = 0, busy: int = 0, resting: int = 0) -> str:
        found: Any = SimpleNamespace(settings=settings, now=5.0, busy=busy, resting=resting)
        return messages.exhausted(error or PoolExhaustedError("full"), leases, found, ahead)

    assert told([]).startswith(
        "full: 0 of 4 slots are leased (0 of them stale). Next: widen the pool (STACKYARD_POOL=11000-"
    )
    some = [held(1, stale=True), held(2), held(3, slot=None, stale=True)]
    assert (
        "full: 2 of 4 slots are leased (1 of them stale); held by lease l1 of test, detached; lease l2 of test"
        in told(some)
    )
    counted = told([], ahead=3, busy=2, resting=1)
    assert "), 2 in use by other programs or kept by the kernel, 1 not in use for a while" in counted
    assert ", requests ahead in the queue: 3. Next: widen" in counted
    assert "lease l4 of test, detached. Next" in told([held(number) for number in range(5)])
    assert "lease l4 of test, detached and 2 more. Next" in told([held(number) for number in range(7)])
    assert "Next: set STACKYARD_POOL_SUBNETS to" in told([], SubnetsExhaustedError("none"))
    assert told([]).endswith("or wait (--queue-timeout 5m)")


# --- the queue ------------------------------------------------------------------------------------------------------


def test_who_waits_is_counted_and_the_dead_are_forgotten(book: LeaseBook) -> None:
    me, boot = Owner.current(), owners.boot_id()
    hidden = Owner(kind="process", boot=boot, pid=1, ticks=1, namespace=me.namespace + 1)
    dead = replace(me, ticks=me.ticks + 1)
    earlier = replace(me, boot="gone")

    def work(db: Transaction) -> list[Any]:
        now = db.moment.steady
        waiting = [
            (1, "pool", me, now), (2, "pool", hidden, now), (3, "pool", dead, now), (4, "pool", earlier, now),
            (5, "pool", hidden, now - queue.SILENCE), (6, "pool", hidden, now - queue.SILENCE + 1),
            (7, "block:x", me, now), (8, "pool", me, now), (9, "pool", hidden, now + queue.SILENCE + 1),
            (10, "pool", hidden, now + queue.SILENCE),
            (11, "pool", replace(hidden, boot="gone"), now),
        ]  # fmt: skip
        db.executemany("INSERT INTO queue VALUES (?, ?, ?, ?)", [(*row[:2], row[2].label(), row[3]) for row in waiting])
        counts = [queue.ahead(db, "pool", 8), queue.ahead(db, "pool", 1), queue.ahead(db, "pool", None)]
        return [*counts, [number for (number,) in db.execute("SELECT ticket FROM queue ORDER BY ticket")]]

    assert book.transact(work) == [3, 0, 5, [1, 2, 6, 7, 8, 10]]


def test_a_waiters_own_ticket_stays_whatever_its_row_says(book: LeaseBook) -> None:
    def work(db: Transaction) -> list[Any]:
        db.execute("INSERT INTO queue VALUES (4, 'pool', 'process:1:1:1:gone', 0)")
        return [queue.ahead(db, "pool", 4), *db.execute("SELECT ticket FROM queue")]

    assert book.transact(work) == [0, (4,)]


def test_a_ticket_is_taken_refreshed_and_given_back(book: LeaseBook) -> None:
    def work(db: Transaction) -> list[Any]:
        first, second = queue.join(db, "pool", None), queue.join(db, "block:x", None)
        assert second > first
        db.execute("UPDATE queue SET seen=0")
        assert queue.join(db, "pool", first) == first
        found = list(db.execute("SELECT ticket, wanted, owner, seen=? FROM queue ORDER BY ticket", (db.moment.steady,)))
        queue.leave(db, first)
        me = Owner.current().label()
        assert found == [(first, "pool", me, 1), (second, "block:x", me, 0)]
        return [number == second for (number,) in db.execute("SELECT ticket FROM queue")]

    assert book.transact(work) == [True]


def test_a_wrong_row_of_the_queue_is_not_used(book: LeaseBook) -> None:
    def work(db: Transaction) -> None:
        db.execute("INSERT INTO queue VALUES (4, 'pool', 'x', 0)")
        try:
            queue.ahead(db, "pool", None)
        finally:
            db.execute("DELETE FROM queue")

    with pytest.raises(BookError, match="a row of queue: owner is 'x'"):
        book.transact(work)

"""Leases of copies of Compose projects: any number of ports, each with a name, and networks of any size."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lease_records import Surroundings

from stackyard.errors import PoolExhaustedError, UsageError
from stackyard.leases import LeaseBook, Survivor
from stackyard.leases.database import schema
from stackyard.leases.needs import Needs, PortName, port_names

if TYPE_CHECKING:
    from lease_records import Clock, MakeBook

SHOP = Surroundings(name="shop-0a1b2c", root=Path("/srv/shop"), variables={})
ALONE = Needs(exclusive=("address:10.0.0.9@lan", "host-network"))
WEB = Needs(ports=("web_80_tcp", "web_443_tcp", "dns_53_udp"))


def many(number: int) -> Needs:
    return Needs(ports=tuple(f"web_{port}_tcp" for port in range(1, number + 1)))


def test_a_copy_has_a_port_for_each_name_and_the_rest_of_its_block_to_spare(book: LeaseBook) -> None:
    lease = book.acquire(SHOP, needs=WEB)

    assert dict(lease.ports) == {"web_80_tcp": 11000, "web_443_tcp": 11001, "dns_53_udp": 11002}
    assert lease.spare == tuple(range(11003, 11010))
    assert lease.is_copy
    assert lease.project == f"stackyard-shop-0a1b2c-{lease.id}"


def test_the_book_gives_back_what_it_was_given(book: LeaseBook) -> None:
    lease = book.acquire(SHOP, needs=Needs(ports=WEB.ports, prefixes=(28, 24)), parallel_id="mine")

    assert book.find("mine", environment=SHOP.name) == lease
    assert book.check() == "ok"


@pytest.mark.parametrize(("number", "last"), [(0, 11009), (10, 11009), (11, 11019), (30, 11029)])
def test_more_ports_than_a_block_holds_take_the_blocks_that_follow(book: LeaseBook, number: int, last: int) -> None:
    lease = book.acquire(SHOP, needs=many(number))

    assert len(lease.ports) == number
    assert lease.every_port == tuple(range(11000, last + 1))


def test_blocks_in_a_row_are_looked_for_behind_a_leased_one(book: LeaseBook, environment: Surroundings) -> None:
    book.acquire(environment)

    assert min(book.acquire(SHOP, needs=many(25)).ports.values()) == 11010


def test_no_other_lease_gets_a_block_of_a_large_copy(book: LeaseBook, environment: Surroundings) -> None:
    large = book.acquire(SHOP, needs=many(25))
    small = book.acquire(environment)

    assert not {*large.every_port} & {*small.every_port}
    with pytest.raises(PoolExhaustedError, match="no free slot of 10 ports"):
        book.acquire(environment)


def test_too_many_ports_for_the_pool_are_said_with_their_number(book: LeaseBook) -> None:
    with pytest.raises(PoolExhaustedError, match="no free slot of 50 ports"):
        book.acquire(SHOP, needs=many(41))


def test_every_block_of_an_ended_copy_is_free_again(book: LeaseBook) -> None:
    book.release(book.acquire(SHOP, needs=many(40)))

    assert len(book.acquire(SHOP, needs=many(40)).ports) == 40


def test_a_lease_of_the_platform_is_no_copy(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)

    assert not lease.is_copy
    assert list(lease.ports)[:2] == ["postgres", "redis"]
    assert len(lease.secrets()) == 3


def test_a_copy_has_no_secrets_of_the_platform(book: LeaseBook) -> None:
    lease = book.acquire(SHOP, needs=WEB)

    assert lease.secrets() == []
    assert not lease.secrets_dir.exists()
    assert not [name for name in lease.variables() if "POSTGRES" in name or "JWT" in name]


def test_a_copy_has_no_urls_of_the_platform(book: LeaseBook) -> None:
    with pytest.raises(UsageError, match="so it has no URLs of its services"):
        book.acquire(SHOP, needs=WEB).url("postgres")


def test_each_network_has_a_subnet_of_its_size_and_none_overlap(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(SHOP, needs=Needs(prefixes=(28, 24, 28, 26)))
    others = [book.acquire(environment).subnet, book.acquire(SHOP, needs=Needs(prefixes=(25,))).subnet]

    found = [IPv4Network(subnet) for subnet in (*lease.subnets, *others)]
    assert [network.prefixlen for network in found] == [28, 24, 28, 26, 28, 25]
    assert not [1 for one in found for other in found if one is not other and one.overlaps(other)]


def test_a_subnet_that_does_not_fit_is_said_with_its_size(book: LeaseBook) -> None:
    with pytest.raises(PoolExhaustedError, match=r"no free /16 in 10\.214\.0\.0/17") as refused:
        book.acquire(SHOP, needs=Needs(prefixes=(16,)))

    assert "STACKYARD_POOL_SUBNETS" in str(refused.value)


def test_a_moved_copy_keeps_its_names_and_sizes(book: LeaseBook) -> None:
    lease = book.acquire(SHOP, needs=Needs(ports=WEB.ports, prefixes=(28, 24)))

    moved = book.move(lease)

    assert list(moved.ports) == list(lease.ports)
    assert moved.prefixes == (28, 24)
    assert not {*moved.every_port} & {*lease.every_port}


def test_a_lost_book_is_made_again_from_the_files_of_copies(make_book: MakeBook) -> None:
    lease = make_book().acquire(SHOP, needs=Needs(ports=many(12).ports, prefixes=(28, 24)), ttl=600)
    (make_book().settings.state_dir / "book.sqlite3").unlink()

    found = make_book(list).leases()

    assert [(item.id, item.ports, item.spare, item.subnet, item.slot) for item in found] == [
        (lease.id, lease.ports, lease.spare, lease.subnet, 0)
    ]


def test_a_lost_book_is_made_again_from_the_labels_of_copies(make_book: MakeBook) -> None:
    first = make_book()
    lease = first.acquire(
        SHOP, needs=Needs(ports=WEB.ports, prefixes=(28, 24), exclusive=ALONE.exclusive), ttl=600, parallel_id="mine"
    )
    told = {f"stackyard.{name.removeprefix('STACKYARD_').lower()}": text for name, text in lease.variables().items()}

    found = Survivor.from_labels(told, host=first.host)

    assert found is not None
    assert (found.ports, found.spare, found.subnet) == (lease.ports, lease.spare, lease.subnet)
    assert (found.project, found.parallel_id, found.exclusive) == (lease.project, "mine", ALONE.exclusive)


def test_a_book_of_the_version_before_is_read_on(make_book: MakeBook, environment: Surroundings) -> None:
    lease = make_book().acquire(environment, ttl=600)
    with sqlite3.connect(make_book().settings.state_dir / "book.sqlite3") as db:
        db.execute("PRAGMA user_version=3")
    db.close()

    book = make_book()

    assert [item.id for item in book.leases()] == [lease.id]
    assert schema.VERSION == 4
    assert book.acquire(SHOP, needs=WEB).is_copy


@pytest.mark.parametrize("text", ["web_80_tcp", "a-b.c_d_65535_udp_12", "web_80_tcp_80_tcp", "x_1_sctp_2"])
def test_a_port_s_name_is_taken_apart_and_written_again(text: str) -> None:
    assert str(PortName.parse(text)) == text


@pytest.mark.parametrize("text", ["postgres", "web_80", "web_80_tcp_1", "web_080_tcp", "_80_tcp", "web_80_tcp,x", ""])
def test_what_is_no_name_of_a_port_is_refused(text: str) -> None:
    assert PortName.parse(text) is None


def test_the_same_target_again_gets_a_number() -> None:
    assert port_names([("web", 80, "tcp"), ("web", 80, "udp"), ("web", 80, "tcp")]) == [
        "web_80_tcp", "web_80_udp", "web_80_tcp_2",
    ]  # fmt: skip


def test_what_only_one_copy_can_have_is_refused_to_the_next_with_the_name_of_its_holder(book: LeaseBook) -> None:
    held = book.acquire(SHOP, needs=ALONE, parallel_id="first")

    with pytest.raises(
        PoolExhaustedError, match=r"the host's network, and lease first \(.*end that copy first, or wait"
    ):
        book.acquire(SHOP, needs=Needs(exclusive=("host-network",)))
    with pytest.raises(PoolExhaustedError, match=r"can have the address 10\.0\.0\.9@lan"):
        book.acquire(SHOP, needs=Needs(exclusive=("address:10.0.0.9@lan",)))
    assert held.exclusive == ALONE.exclusive
    assert book.find("first") == held
    assert book.acquire(SHOP, needs=WEB).exclusive == ()


def test_what_only_one_copy_can_have_is_free_again_with_its_lease(book: LeaseBook) -> None:
    book.release(book.acquire(SHOP, needs=ALONE))

    assert book.acquire(SHOP, needs=ALONE).exclusive == ALONE.exclusive


def test_the_same_name_gets_its_exclusive_copy_again(book: LeaseBook) -> None:
    first = book.acquire(SHOP, needs=ALONE, parallel_id="first")

    assert book.acquire(SHOP, needs=ALONE, parallel_id="first").id == first.id


def test_who_waits_for_what_only_one_copy_can_have_is_not_overtaken_and_holds_up_no_other(
    book: LeaseBook, clock: Clock
) -> None:
    held, said = book.acquire(SHOP, needs=ALONE), list[str]()

    def meanwhile(_seconds: float) -> None:
        book.acquire(SHOP, needs=WEB)
        book.release(held)
        with pytest.raises(PoolExhaustedError, match="others wait for it") as refused:
            book.acquire(SHOP, needs=ALONE)
        said.append(str(refused.value))

    waiting = LeaseBook(book.settings, clock=clock, sleep=meanwhile)
    assert waiting.acquire(SHOP, needs=ALONE, wait=5).exclusive == ALONE.exclusive
    assert len(said) == 1


def test_a_move_keeps_what_only_one_copy_can_have(book: LeaseBook) -> None:
    moved = book.move(book.acquire(SHOP, needs=ALONE))

    assert moved.exclusive == ALONE.exclusive
    with pytest.raises(PoolExhaustedError, match="only one copy at a time"):
        book.acquire(SHOP, needs=ALONE)


def test_a_lost_book_knows_from_a_lease_s_files_what_only_it_can_have(book: LeaseBook, make_book: MakeBook) -> None:
    held = book.acquire(SHOP, needs=ALONE, parallel_id="first")
    (book.settings.state_dir / "book.sqlite3").unlink()

    rebuilt = make_book()

    assert rebuilt.find("first").exclusive == held.exclusive
    with pytest.raises(PoolExhaustedError, match="only one copy at a time"):
        rebuilt.acquire(SHOP, needs=ALONE)


def test_an_exclusive_claim_of_no_lease_goes_back_to_the_lease_that_has_it_or_is_free(book: LeaseBook) -> None:
    first = book.acquire(SHOP, needs=ALONE, ttl=600, parallel_id="first")

    for ended in (False, True):
        if ended:
            book.release(first)
        with contextlib.closing(sqlite3.connect(book.settings.state_dir / "book.sqlite3")) as db, db:
            rows = [(what, "deadbeef") for what in ALONE.exclusive]
            db.executemany("INSERT OR REPLACE INTO exclusive (what, lease) VALUES (?, ?)", rows)
        if not ended:
            with pytest.raises(PoolExhaustedError, match="and lease first"):
                book.acquire(SHOP, needs=ALONE)

    assert book.acquire(SHOP, needs=ALONE).exclusive == ALONE.exclusive


def test_a_damaged_exclusive_claim_is_written_again_from_the_lease_s_files(book: LeaseBook) -> None:
    held = book.acquire(SHOP, needs=ALONE, parallel_id="first")
    with contextlib.closing(sqlite3.connect(book.settings.state_dir / "book.sqlite3")) as db, db:
        db.execute("UPDATE exclusive SET what='not, a word' WHERE what='host-network'")

    assert book.find("first").exclusive == held.exclusive


def test_a_book_made_again_from_labels_writes_the_lost_files_of_copies(book: LeaseBook, make_book: MakeBook) -> None:
    held = book.acquire(SHOP, needs=WEB, parallel_id="mine")
    told = {f"stackyard.{name.removeprefix('STACKYARD_').lower()}": text for name, text in held.variables().items()}
    found = Survivor.from_labels(told, host=book.host)
    assert found is not None
    (book.settings.state_dir / "book.sqlite3").unlink()
    shutil.rmtree(held.directory)

    remade = make_book(lambda: [found])
    remade.acquire(SHOP, needs=WEB)
    rebuilt = remade.find("mine")

    assert rebuilt.checkout == "/srv/shop"
    assert rebuilt.variables()["STACKYARD_PORTS"] == told["stackyard.ports"]

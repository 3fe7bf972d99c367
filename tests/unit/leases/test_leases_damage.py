"""A lease whose files were damaged: one line says which and what to do, and what needs no file goes on."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from lease_records import NothingRuns

from stackyard.cleanup import plan, removal
from stackyard.cli.cleanup import _leased_images
from stackyard.errors import BookError
from stackyard.leases.warm import WarmStacks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lease_records import Surroundings

    from stackyard.leases import Lease, LeaseBook


def empty(file: Path) -> None:
    file.write_bytes(b"")


def binary(file: Path) -> None:
    file.write_bytes(bytes(range(256)))


def no_lines(file: Path) -> None:
    file.write_text("something else\n")


def nul(file: Path) -> None:
    file.write_text("A=\0\n")


def huge(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(10**10)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "mine").write_text("kept")


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


def missing(file: Path) -> None:
    file.unlink()


def socket(file: Path) -> None:
    import socket as sockets

    file.unlink()
    before = os.getcwd()  # noqa: PTH109 - a socket's path is short
    os.chdir(file.parent)
    try:
        with sockets.socket(sockets.AF_UNIX) as made:
            made.bind(file.name)
    finally:
        os.chdir(before)


DAMAGES = [empty, binary, no_lines, nul, huge, folder, fifo, link, missing, socket]


def without(name: str) -> Callable[[Path], None]:
    """Return a damage that takes one variable out."""

    def damage(file: Path) -> None:
        lines = [line for line in file.read_text().splitlines() if not line.startswith(f"{name}=")]
        file.write_text("\n".join(lines))

    damage.__name__ = name
    return damage


def everything_else(book: LeaseBook, lease: Lease) -> None:
    """What needs none of the lease's files."""
    engine: Any = NothingRuns()
    assert [found.id for found in book.leases()] == [lease.id]
    assert book.find("mine").id == lease.id
    assert book.check() == "ok"
    assert book.stale() == []
    assert book.tidy() == 0
    assert WarmStacks(book).inventory().leases
    assert plan.plan(book, engine)
    assert _leased_images(book) == set()
    book.renew(lease.id, 60)
    assert removal.sweep(book, engine).leases == []
    assert removal.remove_lease(book, engine, book.find("mine")).leases == [lease.id]
    assert book.leases() == []


@pytest.mark.parametrize("damage", [*DAMAGES, without("STACKYARD_POSTGRES_URL"), without("STACKYARD_LEASE")])
def test_a_damaged_env_file_is_one_line_and_stops_nothing_else(
    book: LeaseBook, environment: Surroundings, damage: Callable[[Path], None]
) -> None:
    lease = book.acquire(environment, parallel_id="mine")
    damage(lease.env_file)

    for use in (lease.variables, lambda: lease.url("postgres"), lambda: lease.url("websocket")):
        with pytest.raises(BookError) as caught:
            use()
        text = str(caught.value)
        assert text.startswith(f"lease mine ({lease.id}): its env file {lease.env_file} ")
        assert text.endswith("; end the lease and start it again")
        assert "\n" not in text
    everything_else(book, lease)


@pytest.mark.parametrize("damage", [*DAMAGES])
@pytest.mark.parametrize("name", ["jwt_key", "postgres_password"])
def test_a_damaged_secret_is_one_line_and_stops_nothing_else(
    book: LeaseBook, environment: Surroundings, damage: Callable[[Path], None], name: str
) -> None:
    lease = book.acquire(environment, parallel_id="mine")
    damage(lease.secrets_dir / name)

    with pytest.raises(BookError) as caught:
        lease.secrets()
    text = str(caught.value)
    assert text.startswith(f"lease mine ({lease.id}): {lease.secrets_dir / name}: ")
    assert text.endswith("; end the lease and start it again")
    assert "\n" not in text
    everything_else(book, lease)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_lock_ends_no_living_lease(
    book: LeaseBook, environment: Surroundings, damage: Callable[[Path], None]
) -> None:
    lease = book.acquire(environment)
    if damage in {empty, binary, no_lines, nul, huge}:
        pytest.skip("a lock file's content says nothing")
    damage(lease.lock)

    assert book.stale() == []
    if damage is folder:
        assert (lease.lock / "mine").read_text() == "kept"
    assert book.tidy() == 0
    assert book.release(lease)


def test_a_folder_in_place_of_a_lock_is_one_line(book: LeaseBook, dev: Surroundings) -> None:
    lease = book.acquire(dev)
    folder(lease.lock)

    with pytest.raises(BookError, match=r"owner\.lock: is a folder where a lock file must be; move it away"):
        book.acquire(dev)
    shutil.rmtree(lease.lock)


@pytest.mark.parametrize("damage", [empty, binary, missing, no_lines])
def test_a_lease_that_is_asked_for_again_gets_a_whole_env_file(
    book: LeaseBook, environment: Surroundings, damage: Callable[[Path], None]
) -> None:
    lease = book.acquire(environment, parallel_id="mine")
    before = lease.variables()
    damage(lease.env_file)

    assert book.acquire(environment, parallel_id="mine").variables() == before

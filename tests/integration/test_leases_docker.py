"""Leases with a real engine: more networks than its own pools have, and a book that is lost while stacks run."""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from stackyard.cleanup.removal import sweep
from stackyard.docker.engine import each, plain_errors
from stackyard.docker.in_use import strangers
from stackyard.docker.lease_book import open_book
from stackyard.errors import EngineError
from stackyard.leases import LeaseBook
from stackyard.leases.port_format import ports_text
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import Lease
    from stackyard.stacks.environments.stack import Stack

NETWORKS = 60
CONTROL = "stackyard.test=networks-without-leases"
PORTS = "11700-12999"


@pytest.fixture
def book(tmp_path: Path) -> LeaseBook:
    given = {"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": PORTS}
    return LeaseBook(Settings.load(given))


def labels(lease: Lease, host: str) -> dict[str, str]:
    return {
        "stackyard.lease": lease.id, "stackyard.environment": lease.environment, "stackyard.host": host,
        "stackyard.owner": lease.owner.label(), "stackyard.created": f"{lease.created:.3f}",
        "stackyard.ports": ports_text(lease.ports, lease.spare), "stackyard.subnet": lease.subnet,
    }  # fmt: skip


def make_network(engine: Engine, lease: Lease, host: str) -> None:
    from docker.types import IPAMConfig, IPAMPool

    ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=lease.subnet)])
    engine.api.create_network(f"{lease.project}_platform", driver="bridge", ipam=ipam, labels=labels(lease, host))


@pytest.fixture
def swept(engine: Engine, book: LeaseBook) -> Iterator[None]:
    yield
    assert sweep(book, engine, everything=True).left == []
    assert each(engine.remove, engine.networks([CONTROL])) == []


@pytest.mark.skipif(os.environ.get("STACKYARD_FULL") != "1", reason="takes half a minute; STACKYARD_FULL=1 runs it")
@pytest.mark.usefixtures("swept")
def test_sixty_stacks_networks_stand_where_the_engines_own_pools_end_at_thirty(engine: Engine, book: LeaseBook) -> None:
    # the negative control: the same engine, asked to choose subnets for itself until it has none left
    with pytest.raises(EngineError, match=r"non-overlapping IPv4 address pool|fully subnetted"):
        exhaust(engine)
    assert 0 < len(engine.networks([CONTROL])) <= NETWORKS // 2 + 1

    environment = Environment.load("test")
    leases = [
        book.acquire(environment, ttl=600, strangers=lambda: strangers(engine), force=True) for _ in range(NETWORKS)
    ]

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda lease: make_network(engine, lease, book.host), leases))

    standing = engine.networks([f"stackyard.host={book.host}"])
    assert len(standing) == NETWORKS
    assert {network.labels["stackyard.subnet"] for network in standing} == {lease.subnet for lease in leases}
    assert set(engine.subnets()) >= {lease.subnet for lease in leases}


def exhaust(engine: Engine) -> None:
    name, _, value = CONTROL.partition("=")
    with plain_errors("making a network"):
        for number in itertools.count():
            engine.api.create_network(f"stackyard-control-{os.getpid()}-{number}", labels={name: value})


@pytest.fixture
def kept_aside(engine: Engine) -> Iterator[Callable[[], list[Path]]]:
    """The books set aside while the test runs; they are deleted in the end."""
    state = open_book(None, engine).settings.state_dir
    before = set(state.glob("book.sqlite3.corrupt-*"))

    def found() -> list[Path]:
        return sorted(set(state.glob("book.sqlite3.corrupt-*")) - before)

    yield found
    for path in found():
        path.unlink()


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of the test's own: the host's may have other people's stacks in it."""
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_POOL", "11700-11799")
    monkeypatch.setenv("STACKYARD_POOL_SUBNETS", "10.213.100.0/22")
    return tmp_path / "state"


def delete(book: Path) -> bool:
    book.unlink()
    return False


def empty(book: Path) -> bool:
    os.truncate(book, 0)
    return True


def cut(book: Path) -> bool:
    os.truncate(book, 5000)
    return True


def overwrite(book: Path) -> bool:
    book.write_bytes(b"\xa5" * book.stat().st_size)
    return True


def test_a_lost_book_gives_no_running_stacks_ports_away(
    own_state: Path,
    kept_aside: Callable[[], list[Path]],
    new_stack: Callable[[], Stack],
    engine: Engine,
) -> None:
    stacks = [new_stack(), new_stack()]
    for stack in stacks:
        stack.up()
    leased = {port for stack in stacks for port in (*stack.lease.ports.values(), *stack.lease.spare)}
    environment = stacks[0].environment

    for round_, damage in enumerate((delete, empty, cut, overwrite)):
        with_files = round_ % 2 == 0
        before = len(kept_aside())
        hidden = hide_files(stacks) if not with_files else []
        keeps = damage(own_state / "book.sqlite3")
        started = time.monotonic()
        book = open_book(Settings.load(), engine)
        found = {lease.id: lease for lease in book.leases()}
        seconds = time.monotonic() - started
        started = time.monotonic()
        open_book(Settings.load(), engine).leases()
        intact = time.monotonic() - started
        for stack, text in zip(stacks, hidden, strict=False):
            stack.lease.env_file.write_text(text)

        assert seconds <= 5 + 20 * intact
        assert len(kept_aside()) - before == keeps
        for stack in stacks:
            assert dict(found[stack.lease.id].ports) == dict(stack.lease.ports)
            assert found[stack.lease.id].subnet == stack.lease.subnet
        # every place that is left: none of them may touch a running stack's
        others = [book.acquire(environment, ttl=600, force=True) for _ in range(book.capacity(environment).slots)]
        assert len(others) == book.settings.slots - len(stacks)
        assert not leased & {port for other in others for port in (*other.ports.values(), *other.spare)}
        assert not {stack.lease.subnet for stack in stacks} & {other.subnet for other in others}
        for other in others:
            book.release(other)
    for stack in stacks:
        assert {state.status for state in stack.status()} == {"running"}


def hide_files(stacks: list[Stack]) -> list[str]:
    """Take the env files away, so that only the running containers' labels can tell."""
    texts = [stack.lease.env_file.read_text() for stack in stacks]
    for stack in stacks:
        stack.lease.env_file.unlink()
    return texts

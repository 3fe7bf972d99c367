"""Any value in any column of the book: nothing breaks, nothing outside is touched, and the good rows are served."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st
from lease_records import NothingRuns, Surroundings

from stackyard.cleanup import plan, removal
from stackyard.leases import Lease, LeaseBook
from stackyard.leases.database import column_rules, schema
from stackyard.leases.owners import Owner
from stackyard.leases.warm import Pool, WarmStacks
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEV = Surroundings(name="dev", data="volume", subnet="10.214.255.0/28")
COLUMNS = {table: list(rules) for table, rules in column_rules.RULES.items()}
COLUMNS |= {"meta": ["key", "value"], "set_aside": ["at", "source", "reason", "content"]}
COLUMNS |= {"sqlite_sequence": ["name", "seq"]}
HOSTILE = [
    "../../victim", "/etc", "..", "", ".", "a/b", "a\0b", "dev", "0badf00d", "x" * 5000, "'; DROP TABLE leases; --",
    "postgres:99999", "postgres:1,redis:1,backend:1,auth:1", "spare:1-65535", "10.0.0.0/0", "0.0.0.0/0", "due", "done",
    "-1", "1", "2", "999", "process:1:1:1:x", f"process:{10**30}:1:1:x", "detached:", "nan", "inf", "port", "11300",
    "test/job-1", "\ud7ff",
]  # fmt: skip
EXTREMES = [0, 1, -1, 2**31, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), 1e12]
Damage = tuple[str, str, Any, bool, int]

values = st.one_of(
    st.none(),
    st.sampled_from(HOSTILE),
    st.sampled_from(EXTREMES),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.floats(),
    st.text(max_size=80),
    st.binary(max_size=80),
)
places = st.sampled_from([(table, column) for table, found in COLUMNS.items() for column in found])
# table, column, value, whether a BLOB is written as a text, which row
damages = st.tuples(places, values, st.booleans(), st.integers(0, 30)).map(lambda drawn: (*drawn[0], *drawn[1:]))


class World:
    """A book with every kind of row, a directory that nothing may touch, and an engine with nothing on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings.load(
            {
                "STACKYARD_STATE_DIR": str(root / "state"),
                "STACKYARD_POOL": "11300-11399",
                "STACKYARD_POOL_SUBNETS": "10.214.64.0/20",
            }
        )
        self.file = root / "state" / "book.sqlite3"
        (root / "victim" / "secrets").mkdir(parents=True)
        (root / "victim" / "photo").write_text("wedding")
        (root / "victim" / "owner.lock").touch()

    @property
    def book(self) -> LeaseBook:
        return LeaseBook(self.settings, list)

    def fill(self) -> None:
        book = self.book
        book.acquire(Surroundings(), parallel_id="job-1")
        book.acquire(Surroundings(), ttl=3600)
        book.acquire(Surroundings(), ttl=3600)
        book.acquire(DEV, ttl=7200)
        spare = book.acquire(Surroundings())
        stacks = WarmStacks(book)
        stacks.want(Pool(root=self.root, environment="test", size=1))
        assert stacks.offer(spare, root=self.root, fingerprint="f" * 64, keeper=Owner.current())
        waiter = ("block:test", Owner.current().label(), time.clock_gettime(time.CLOCK_BOOTTIME))
        book.transact(lambda db: db.execute("INSERT INTO queue (wanted, owner, seen) VALUES (?,?,?)", waiter))
        book.transact(lambda db: db.execute("INSERT INTO set_aside VALUES ('then', 'leases', 'because', 'id=1')"))

    def damage(self, table: str, column: str, value: Any, as_text: bool, row: int) -> set[str]:
        """Write *value*, as any program could; return the ids of the leases whose rows were written to."""
        mark = "CAST(? AS TEXT)" if as_text and isinstance(value, bytes) else "?"
        with contextlib.closing(sqlite3.connect(self.file)) as db:
            db.execute("PRAGMA ignore_check_constraints=ON")
            db.text_factory = bytes
            name = {"slots": "port", "claims": "value"}.get(table, COLUMNS[table][0])
            keys = [key for (key,) in db.execute(f"SELECT {name} FROM {table} ORDER BY 1")]  # noqa: S608
            if not keys:
                return set()
            key = keys[row % len(keys)]
            where = f"CAST({name} AS BLOB) IS CAST(? AS BLOB)"
            with contextlib.suppress(sqlite3.IntegrityError), db:
                db.execute(f"UPDATE {table} SET {column}={mark} WHERE {where}", (value, key))  # noqa: S608
            return {key.decode(errors="replace")} if table == "leases" else set()

    def outside(self) -> dict[str, bytes]:
        files = {str(path): path.read_bytes() for path in (self.root / "victim").rglob("*") if path.is_file()}
        return files | {str(path): b"" for folder in (self.root, self.root.parent) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole() -> Iterator[World]:
    logging.getLogger("stackyard").setLevel(logging.CRITICAL)
    # the same place for each example: its path is in the env files
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "world")
        world.fill()
        shutil.copytree(world.root, Path(folder) / "kept", symlinks=True)
        yield world
    logging.getLogger("stackyard").setLevel(logging.NOTSET)


def operations(world: World, good: dict[str, Lease]) -> list[tuple[str, Callable[[], object]]]:
    """Everything that commands do with a book, each from a process of its own."""

    engine: Any = NothingRuns()

    def allocate_and_release() -> None:
        lease = world.book.acquire(Surroundings(), wait=1)
        assert lease.directory.parent == world.book.directory
        assert world.book.move(lease).slot != lease.slot
        assert world.book.release(lease.id)

    return [
        ("check", world.book.check),
        ("look", lambda: LeaseBook(world.settings, read_only=True).leases()),
        ("list", world.book.leases),
        ("find", lambda: [world.book.find(name) for name in good]),
        ("renew", lambda: [world.book.renew(name, 3600) for name in good if good[name].deadline]),
        ("capacity", lambda: world.book.capacity(Surroundings())),
        ("inventory", lambda: WarmStacks(world.book).inventory()),
        ("plan", lambda: plan.plan(world.book, engine)),
        ("sweep", lambda: removal.sweep(world.book, engine)),
        ("allocate", allocate_and_release),
        ("tidy", world.book.tidy),
    ]


@settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)  # fmt: skip
@given(st.lists(damages, min_size=1, max_size=3))
@example([("leases", "ports", "postgres:99999", False, 0)])
@example([("leases", "id", "../../victim", False, 0), ("leases", "deadline", 1, False, 0)])
@example([("meta", "value", "x", False, 0)])
@example([("meta", "value", "x", False, 1)])
@example([("meta", "value", "1", False, 2)])
@example([("sqlite_sequence", "seq", 2**63 - 1, False, 0)])
@example([("queue", "owner", b"\xff", True, 0)])
@example([("slots", "rests_until", 1e308, False, number) for number in range(3)])
@example([("leases", "memory_mb", 2**63 - 1, False, number) for number in range(3)])
@example([("claims", "value", "11350", False, 0)])
@example([("meta", "key", "other", False, 1), ("leases", "slot", -1, False, 0)])
def test_any_value_in_any_column_costs_at_most_its_own_row(whole: World, drawn: list[Damage]) -> None:
    shutil.rmtree(whole.root)
    shutil.copytree(whole.root.with_name("kept"), whole.root, symlinks=True)
    before = {lease.id: lease for lease in whole.book.leases()}
    outside = whole.outside()
    hit = set().union(*(whole.damage(*damage) for damage in drawn))
    good = {name: lease for name, lease in before.items() if name not in hit}

    for name, operation in operations(whole, good):
        note(name)
        operation()
        assert whole.outside() == outside

    after = {lease.id: lease for lease in whole.book.leases()}
    assert after.keys() <= before.keys()
    assert {name: (after[name].ports, after[name].subnet, after[name].project) for name in good} == {
        name: (lease.ports, lease.subnet, lease.project) for name, lease in good.items()
    }
    for lease in good.values():
        assert whole.book.release(lease.id)
        assert not lease.directory.exists()


def test_every_table_of_the_book_has_its_rules(whole: World) -> None:
    with contextlib.closing(sqlite3.connect(whole.file)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        found = {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in tables}

    assert found == COLUMNS
    assert schema.KNOWN | set(schema.ADDITIONS) | {"sqlite_sequence"} == tables

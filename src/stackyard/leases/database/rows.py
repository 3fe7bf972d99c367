"""Leases as rows of the book: reading them, writing them, and their claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard._util.clocks import LOWEST_WALL
from stackyard.errors import UsageError
from stackyard.leases.database import column_rules
from stackyard.leases.owners import Owner
from stackyard.leases.port_format import parse_ports, ports_text
from stackyard.leases.records import Lease

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from stackyard.leases.database.store import Transaction

ENDED: Final = 5000  # released leases that the book remembers
STEP: Final = 1.0  # seconds; a smaller step is the clock's own correction, not a person who sets it
_NAMES: Final = tuple(column_rules.RULES["leases"])
_COLUMNS: Final = ", ".join(_NAMES)
# A deadline is stored on the boot-time clock too, unless a stackyard that does not know this has written it since.
_LEASES: Final = (
    f"SELECT {', '.join(f'leases.{name}' for name in _NAMES)}, clocks.boot, clocks.ends,"  # noqa: S608 - constants
    " (SELECT group_concat(what, char(10)) FROM exclusive WHERE exclusive.lease=leases.id) FROM leases"
    " LEFT JOIN clocks ON clocks.lease=leases.id AND clocks.wall=leases.deadline"
)


def parallel_key(environment: str, parallel_id: str) -> str:
    """Return the claim that makes a parallel id unique within its environment."""
    return f"{environment}/{parallel_id}"


def every(db: Transaction, directory: Path) -> list[Lease]:
    """
    Return all leases, oldest first; *directory* is where their directories are.

    Raises:
        BadRowError: As every function that reads here does, if a row holds a value that stackyard never writes.
    """
    return [_lease(db, row, directory) for row in db.execute(f"{_LEASES} ORDER BY created, id")]


def ids(db: sqlite3.Connection) -> set[str]:
    """Return the ids of all leases, even if their rows are wrong."""
    return {str(identifier) for (identifier,) in db.execute("SELECT id FROM leases")}


def one(db: Transaction, directory: Path, identifier: str) -> Lease | None:
    """Return the lease with this id; None if there is none."""
    row = db.execute(f"{_LEASES} WHERE id=?", (identifier,)).fetchone()
    return _lease(db, row, directory) if row else None


def find(db: Transaction, directory: Path, identifier: str, environment: str | None = None) -> Lease | None:
    """
    Return the lease with this id, else the one with this parallel id, else the one of the environment of this name.

    The last applies only to environments that keep their data. None if there is no such lease.

    Raises:
        UsageError: If several leases match, and *environment* does not say which.
    """
    return (
        one(db, directory, identifier)
        or by_parallel_id(db, directory, identifier, environment)
        or _of_environment(db, directory, identifier)
    )


def _of_environment(db: Transaction, directory: Path, name: str) -> Lease | None:
    found = [lease for lease in every(db, directory) if lease.environment == name and lease.keeps_data]
    if len(found) > 1:
        ids = ", ".join(lease.id for lease in found)
        raise UsageError(f"{len(found)} checkouts have a stack of {name}; give the id of one: {ids}")
    return found[0] if found else None


def by_parallel_id(db: Transaction, directory: Path, parallel_id: str, environment: str | None) -> Lease | None:
    """
    Return the lease with this parallel id; None if there is none.

    Raises:
        UsageError: If several environments have one and *environment* is None.
    """
    query = f"{_LEASES} WHERE parallel_id=? AND ? IN (environment, '') ORDER BY environment"
    found = [_lease(db, row, directory) for row in db.execute(query, (parallel_id, environment or ""))]
    if len(found) > 1:
        listed = ", ".join(f"{lease.environment} (lease {lease.id})" for lease in found)
        raise UsageError(f"the name {parallel_id!r} is in use in several environments: {listed}; give the lease's id")
    return found[0] if found else None


def insert(db: Transaction, lease: Lease) -> None:
    """
    Write a new lease and its claims, and mark its slot as held.

    Raises:
        sqlite3.IntegrityError: If another lease has any of what it claims.
    """
    db.execute(f"INSERT INTO leases ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", _row(lease))  # noqa: S608 - constant columns
    rows = [(kind, value, lease.id) for kind, value in claims(lease)]
    db.executemany("INSERT INTO claims (kind, value, lease) VALUES (?, ?, ?)", rows)
    own = [(what, lease.id) for what in lease.exclusive]
    db.executemany("INSERT INTO exclusive (what, lease) VALUES (?, ?)", own)
    db.execute("DELETE FROM ended WHERE lease=?", (lease.id,))
    if lease.slot is not None:
        db.execute("UPDATE slots SET idle=NULL WHERE port BETWEEN ? AND ?", _span(lease))
    _note_end(db, lease)


def update(db: Transaction, lease: Lease) -> None:
    """Write a lease's owner, deadline and whether it is being removed."""
    db.execute(
        "UPDATE leases SET owner=?, deadline=?, removing=? WHERE id=?",
        (lease.owner.label(), lease.deadline, lease.removing, lease.id),
    )
    _note_end(db, lease)


def _note_end(db: Transaction, lease: Lease) -> None:
    """Write the lease's deadline on the boot-time clock."""
    if lease.deadline is None:
        db.execute("DELETE FROM clocks WHERE lease=?", (lease.id,))
    else:
        now = db.moment
        row = (lease.id, lease.deadline, now.boot, now.steady + lease.deadline - now.wall)
        db.execute("INSERT OR REPLACE INTO clocks (lease, wall, boot, ends) VALUES (?,?,?,?)", row)


def rename(db: sqlite3.Connection, lease: Lease) -> None:
    """
    Write the parallel id of a lease that had none, and claim it.

    Raises:
        sqlite3.IntegrityError: If another lease of its environment has it.
    """
    if lease.parallel_id is not None:
        key = parallel_key(lease.environment, lease.parallel_id)
        db.execute("UPDATE leases SET parallel_id=? WHERE id=?", (lease.parallel_id, lease.id))
        db.execute("INSERT INTO claims (kind, value, lease) VALUES ('parallel', ?, ?)", (key, lease.id))


def delete(db: sqlite3.Connection, lease: Lease) -> None:
    """Delete a lease with its claims, and note that it has ended; its slot goes to the end of the queue."""
    db.execute("DELETE FROM leases WHERE id=?", (lease.id,))
    db.execute("INSERT OR REPLACE INTO ended (lease) VALUES (?)", (lease.id,))
    db.execute("DELETE FROM ended WHERE number <= (SELECT max(number) FROM ended) - ?", (ENDED,))
    if lease.slot is not None:
        db.execute(
            "UPDATE slots SET idle=(SELECT 1 + coalesce(max(idle), 0) FROM slots)"
            " WHERE port BETWEEN ? AND ? AND idle IS NULL",
            _span(lease),
        )


def holder(db: Transaction, directory: Path, exclusive: Iterable[str]) -> tuple[str, Lease] | None:
    """Return the first of *exclusive* that a lease has, and the lease; None if all are free."""
    for what in exclusive:
        row = db.execute("SELECT lease FROM exclusive WHERE what=?", (what,)).fetchone()
        if row and (lease := one(db, directory, row[0])):
            return what, lease
        if row:
            raise column_rules.BadRowError(
                f"a row of exclusive: lease is {column_rules.shown(row[0])} and must be in the book"
            )
    return None


def has_ended(db: sqlite3.Connection, identifier: str) -> bool:
    """Say whether the book knows that the lease with this id was released."""
    return db.execute("SELECT 1 FROM ended WHERE lease=?", (identifier,)).fetchone() is not None


def rest(db: sqlite3.Connection, lease: Lease, until: float) -> None:
    """Keep a lease's slot from being given out before *until*, on the boot-time clock."""
    if lease.slot is not None:
        query = "UPDATE slots SET rests_until=max(rests_until, ?) WHERE port BETWEEN ? AND ?"
        db.execute(query, (until, *_span(lease)))


def verdict(db: Transaction) -> str:
    """Return ``ok``, or the first thing that is wrong with the book's pages or indexes."""
    return str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])


def _span(lease: Lease) -> tuple[int, int]:
    """Return the first and the last port of the lease's slots."""
    return lease.every_port[0], lease.every_port[-1]


def claims(lease: Lease) -> Iterator[tuple[str, str]]:
    """Return kind and value of everything that only *lease* may have."""
    for port in (*lease.ports.values(), *lease.spare):
        yield "port", str(port)
    for subnet in lease.subnets:
        yield "subnet", subnet
    yield "project", lease.project
    if lease.slot is None:
        yield "block", lease.environment
    else:
        yield "slot", str(_span(lease)[0])
    if lease.parallel_id is not None:
        yield "parallel", parallel_key(lease.environment, lease.parallel_id)


def _row(lease: Lease) -> tuple[Any, ...]:
    ports = ports_text(lease.ports, lease.spare)
    owner = lease.owner.label()
    return (
        lease.id, lease.parallel_id, lease.environment, lease.slot, ports, lease.subnet, lease.project, owner,
        lease.created, lease.deadline, int(lease.removing), lease.memory_mb,
    )  # fmt: skip


def checked(lease: Lease) -> Lease:
    """
    Return *lease* itself.

    Raises:
        BadRowError: If the book may not hold it.
    """
    column_rules.check("leases", _row(lease))
    return lease


def _lease(db: Transaction, row: tuple[Any, ...], directory: Path) -> Lease:
    *values, boot, ends, exclusive = row
    column_rules.check("leases", values)
    found = dict(zip(_NAMES, values, strict=True))
    block, who = parse_ports(found["ports"]), Owner.parse(found["owner"])
    assert block is not None  # noqa: S101 - the check has read both
    assert who is not None  # noqa: S101 - as above
    found |= {
        "ports": block[0], "owner": who, "removing": bool(found["removing"]),
        "deadline": _deadline(db, found["deadline"], boot, ends),
        "exclusive": _exclusive(found["id"], exclusive or ""),
    }  # fmt: skip
    return Lease(**found, spare=block[1], directory=directory / found["id"])


def _exclusive(lease: str, text: str) -> tuple[str, ...]:
    found = text.split("\n") if text else []
    for what in found:
        column_rules.check("exclusive", (what, lease))
    return tuple(sorted(found))


def _deadline(db: Transaction, deadline: float | None, boot: object, ends: object) -> float | None:
    """Return when a lease ends on the wall clock as it is now, even if it was set since the deadline was written."""
    now = db.moment
    if deadline is None or boot != now.boot or column_rules.fault("clocks", ("x", deadline, boot, ends)):
        return deadline
    assert isinstance(ends, float)  # noqa: S101 - the check has seen to it
    if (ends < LOWEST_WALL) != (now.steady < LOWEST_WALL):
        return deadline  # written with a test's clock
    moved = now.wall + ends - now.steady
    # whole seconds: the two clocks are read one after the other, and two reads of one lease have to be equal
    return deadline if abs(moved - deadline) < STEP else float(round(moved))

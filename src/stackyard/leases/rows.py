"""Leases as rows of the book: reading, writing, and the claims that go with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard.errors import BookError, UsageError
from stackyard.leases.owners import Owner
from stackyard.leases.records import Lease, parse_ports, ports_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_COLUMNS: Final = (
    "id, parallel_id, environment, slot, ports, subnet, project, owner, created, deadline, removing, memory_mb"
)


def parallel_key(environment: str, parallel_id: str) -> str:
    """Return the claim that makes a parallel id unique within its environment."""
    return f"{environment}/{parallel_id}"


def every(db: sqlite3.Connection, directory: Path) -> list[Lease]:
    """Return all leases, oldest first; *directory* is where their directories are."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM leases ORDER BY created, id")  # noqa: S608 - constant columns
    return [_lease(row, directory) for row in rows]


def ids(db: sqlite3.Connection) -> set[str]:
    """Return the ids of all leases."""
    return {identifier for (identifier,) in db.execute("SELECT id FROM leases")}


def one(db: sqlite3.Connection, directory: Path, identifier: str) -> Lease | None:
    """Return the lease with this id; None if there is none."""
    query = f"SELECT {_COLUMNS} FROM leases WHERE id=?"  # noqa: S608 - constant columns
    row = db.execute(query, (identifier,)).fetchone()
    return _lease(row, directory) if row else None


def find(db: sqlite3.Connection, directory: Path, identifier: str, environment: str | None = None) -> Lease | None:
    """
    Return the lease with this id, else the one with this parallel id, else the one of the environment with this name.

    Only an environment that keeps its data gives its name to its lease. None if there is no such lease.

    Raises:
        UsageError: If several have it, and *environment* does not say which.
    """
    return (
        one(db, directory, identifier)
        or by_parallel_id(db, directory, identifier, environment)
        or _of_environment(db, directory, identifier)
    )


def _of_environment(db: sqlite3.Connection, directory: Path, name: str) -> Lease | None:
    found = [lease for lease in every(db, directory) if lease.environment == name and lease.keeps_data]
    if len(found) > 1:
        ids = ", ".join(lease.id for lease in found)
        raise UsageError(f"{len(found)} checkouts have a stack of {name}; give the id of one: {ids}")
    return found[0] if found else None


def by_parallel_id(db: sqlite3.Connection, directory: Path, parallel_id: str, environment: str | None) -> Lease | None:
    """
    Return the lease with this parallel id; None if there is none.

    Raises:
        UsageError: If several environments have one and *environment* is None.
    """
    query = f"SELECT {_COLUMNS} FROM leases WHERE parallel_id=? AND ? IN (environment, '') ORDER BY environment"  # noqa: S608 - constant columns
    rows = db.execute(query, (parallel_id, environment or "")).fetchall()
    if len(rows) > 1:
        found = ", ".join(f"{row[2]} (lease {row[0]})" for row in rows)
        raise UsageError(f"parallel id {parallel_id!r} is in use in several environments: {found}; give the lease's id")
    return _lease(rows[0], directory) if rows else None


def insert(db: sqlite3.Connection, lease: Lease) -> None:
    """
    Write a new lease and its claims, and mark its slot as held.

    Raises:
        sqlite3.IntegrityError: If another lease has any of what it claims.
    """
    db.execute(f"INSERT INTO leases ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", _row(lease))  # noqa: S608 - constant columns
    rows = [(kind, value, lease.id) for kind, value in _claims(lease)]
    db.executemany("INSERT INTO claims (kind, value, lease) VALUES (?, ?, ?)", rows)
    if lease.slot is not None:
        db.execute("UPDATE slots SET idle=NULL WHERE port=?", (_base(lease),))


def update(db: sqlite3.Connection, lease: Lease) -> None:
    """Write a lease's owner, deadline and whether it is being removed."""
    db.execute(
        "UPDATE leases SET owner=?, deadline=?, removing=? WHERE id=?",
        (lease.owner.label(), lease.deadline, lease.removing, lease.id),
    )


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
    """Delete a lease with its claims; its slot goes to the end of the line."""
    db.execute("DELETE FROM leases WHERE id=?", (lease.id,))
    if lease.slot is not None:
        db.execute(
            "UPDATE slots SET idle=(SELECT 1 + coalesce(max(idle), 0) FROM slots) WHERE port=? AND idle IS NULL",
            (_base(lease),),
        )


def rest(db: sqlite3.Connection, lease: Lease, until: float) -> None:
    """Keep a lease's slot from being given out before *until*, in seconds since 1970."""
    if lease.slot is not None:
        db.execute("UPDATE slots SET rests_until=max(rests_until, ?) WHERE port=?", (until, _base(lease)))


def verdict(db: sqlite3.Connection) -> str:
    """Return ``ok``, or the first thing that is wrong with the book's pages, indexes or claims."""
    found = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if found != "ok":
        return found
    for lease in every(db, Path()):
        claims = set(db.execute("SELECT kind, value FROM claims WHERE lease=?", (lease.id,)))
        if claims != set(_claims(lease)):
            return f"lease {lease.id} and its claims differ"
    return "ok"


def _base(lease: Lease) -> int:
    return min(lease.ports.values())


def _claims(lease: Lease) -> Iterator[tuple[str, str]]:
    for port in (*lease.ports.values(), *lease.spare):
        yield "port", str(port)
    yield "subnet", lease.subnet
    yield "project", lease.project
    if lease.slot is None:
        yield "block", lease.environment
    else:
        yield "slot", str(_base(lease))
    if lease.parallel_id is not None:
        yield "parallel", parallel_key(lease.environment, lease.parallel_id)


def _row(lease: Lease) -> tuple[Any, ...]:
    ports = ports_text(lease.ports, lease.spare)
    owner = lease.owner.label()
    return (
        lease.id, lease.parallel_id, lease.environment, lease.slot, ports, lease.subnet, lease.project, owner,
        lease.created, lease.deadline, lease.removing, lease.memory_mb,
    )  # fmt: skip


def _lease(row: tuple[Any, ...], directory: Path) -> Lease:
    identifier, parallel_id, environment, slot, ports, subnet, project, owner, created, deadline, removing, memory = row
    block, who = parse_ports(ports), Owner.parse(owner)
    if block is None or who is None:
        raise BookError(
            f"lease {identifier}: the book holds ports {ports!r} and owner {owner!r}, which nobody wrote so"
        )
    return Lease(
        id=identifier,
        parallel_id=parallel_id,
        environment=environment,
        slot=slot,
        ports=block[0],
        spare=block[1],
        subnet=subnet,
        project=project,
        owner=who,
        created=created,
        deadline=deadline,
        removing=bool(removing),
        memory_mb=memory,
        directory=directory / identifier,
    )

"""
How the book fixes rows with values that stackyard never writes.

A row that breaks a rule of `column_rules` is moved to the table ``set_aside``, where a person can read what it held;
the log gets one line. The other rows stay in use. The lease of such a row is restored from its env file or from the
labels of its containers, as after the loss of the whole book. Until then no other lease gets its slot, and so its
ports. Claims and slots follow from the leases, so they are written again to fit them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from stackyard.leases.database import column_rules, rows
from stackyard.leases.grants.allocation import blocks, pool_key
from stackyard.leases.recovery import lost_book

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stackyard.leases.database.store import Transaction
    from stackyard.leases.records import Lease
    from stackyard.settings import Settings

REST: Final = 3600.0  # seconds for which no lease gets the slot of a lease that was set aside
KEPT: Final = 1000  # rows set aside that are kept
_LONGEST: Final = 500  # characters of a value that are kept
_LAST_TICKET: Final = 1 << 53
_KEYS: Final[Mapping[str, Sequence[str]]] = {
    "leases": ("id",), "claims": ("kind", "value"), "slots": ("pool", "port"), "queue": ("ticket",),
    "pools": ("root", "environment"), "warm": ("lease",), "ended": ("number",),
    "clocks": ("lease",), "exclusive": ("what",),
}  # fmt: skip


def fix(db: Transaction, directory: Path, settings: Settings) -> list[str]:
    """
    Set aside the rows that break a rule, and make claims and slots fit the leases.

    Args:
        db: The book, in a transaction.
        directory: Where the leases' directories are.
        settings: Pool and host.

    Returns:
        One line for each fault found.
    """
    leased = _leased_slots(db)
    bad = {table: _bad_rows(db, table) for table in column_rules.RULES}
    bad["exclusive"] += _of_no_lease(db)
    bad["leases"] += _conflicting(db, directory, settings)
    leases = rows.every(db, directory)
    bad["claims"] += _write_claims(db, leases)
    if bad["exclusive"]:
        _claim_again(db, leases, settings)
    _free_slots(db, leased - _leased_slots(db))
    if bad["slots"]:
        _enter_slots(db, settings)
    _restart_tickets(db)
    if bad["leases"]:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('recovery', 'due')")
    return [line for lines in bad.values() for line in lines]


def _bad_rows(db: Transaction, table: str) -> list[str]:
    names, keys = list(column_rules.RULES[table]), _KEYS[table]
    kinds = ", ".join(f"typeof({key})" for key in keys)
    found = db.execute(f"SELECT {', '.join(names)}, {kinds} FROM {table}").fetchall()  # noqa: S608 - constant names
    faults = []
    for row in found:
        if why := column_rules.fault(table, row[: len(names)]):
            key = [value for name, kind in zip(keys, row[len(names) :], strict=True)
                   for value in (row[names.index(name)], kind)]  # fmt: skip
            faults.append(_set_aside(db, table, key, why))
    return faults


def _of_no_lease(db: Transaction) -> list[str]:
    """Set aside the exclusive claims of leases that are not in the book."""
    found = db.execute("SELECT what, lease FROM exclusive WHERE lease NOT IN (SELECT id FROM leases)").fetchall()
    return [_set_aside(db, "exclusive", (what, "text"), f"lease {lease} is not in the book") for what, lease in found]


def _set_aside(db: Transaction, table: str, key: Sequence[Any], why: str) -> str:
    """
    Move one row, and return a line for the log.

    Args:
        db: The book.
        table: Where the row is.
        key: Value and SQLite's name of the type of each of its key columns: a text and a BLOB of the same bytes are two
            keys.
        why: What is wrong with it.
    """
    content = " || ', ' || ".join(
        f"'{name}=' || substr(quote({name}), 1, {_LONGEST})" for name in column_rules.RULES[table]
    )
    where = " AND ".join(f"CAST({name} AS BLOB) IS CAST(? AS BLOB) AND typeof({name})=?" for name in _KEYS[table])
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(db.moment.wall))
    db.execute(
        f"INSERT INTO set_aside (at, source, reason, content) SELECT ?, ?, ?, {content} FROM {table} WHERE {where}",  # noqa: S608 - constant names
        (stamp, table, why, *key),
    )
    db.execute(f"DELETE FROM {table} WHERE {where}", key)  # noqa: S608 - constant names
    db.execute("DELETE FROM set_aside WHERE rowid <= (SELECT max(rowid) FROM set_aside) - ?", (KEPT,))
    return f"a row of {table} was set aside, see the table set_aside: {why}"


def _conflicting(db: Transaction, directory: Path, settings: Settings) -> list[str]:
    """Set aside each changed lease that now clashes with another lease or with its own env file."""
    leases = rows.every(db, directory)
    written = _written_claims(db)
    changed = [lease for lease in leases if written.get(lease.id) != set(rows.claims(lease))]
    if not changed:
        return []
    taken = {claim for lease in leases if lease not in changed for claim in rows.claims(lease)}
    faults = []
    for lease in changed:
        if taken & set(rows.claims(lease)):
            faults.append(
                _set_aside(
                    db, "leases", (lease.id, "text"), "another lease has the same ports, subnet, project or name"
                )
            )
        elif _differs(lease, settings):
            faults.append(_set_aside(db, "leases", (lease.id, "text"), "its env file has other values"))
        else:
            taken |= set(rows.claims(lease))
    return faults


def _written_claims(db: Transaction) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for kind, value, lease in db.execute("SELECT kind, value, lease FROM claims"):
        found.setdefault(lease, set()).add((kind, value))
    return found


def _differs(lease: Lease, settings: Settings) -> bool:
    known = lost_book.survivor_in(lease.directory, settings.host)
    own = (lease.ports, lease.spare, lease.subnet, lease.environment)
    return known is not None and (known.ports, known.spare, known.subnet, known.environment) != own


def _write_claims(db: Transaction, leases: Sequence[Lease]) -> list[str]:
    """Let each lease have exactly its own claims; return one line for each lease whose claims differed."""
    wanted = {(kind, value): lease.id for lease in leases for kind, value in rows.claims(lease)}
    written = {(kind, value): lease for kind, value, lease in db.execute("SELECT kind, value, lease FROM claims")}
    if written == wanted:
        return []
    db.execute("DELETE FROM claims")
    new = [(*claim, lease) for claim, lease in wanted.items()]
    db.executemany("INSERT INTO claims (kind, value, lease) VALUES (?, ?, ?)", new)
    changed = {lease for _, lease in set(wanted.items()) ^ set(written.items())}
    return [f"lease {lease} and its claims differed; its claims were written again" for lease in sorted(changed)]


def _claim_again(db: Transaction, leases: Sequence[Lease], settings: Settings) -> None:
    """Write the exclusive claims again that the env files of *leases* name; no other lease's is taken."""
    for lease in leases:
        known = lost_book.survivor_in(lease.directory, settings.host)
        new = [(what, lease.id) for what in (known.exclusive if known else ())]
        db.executemany("INSERT OR IGNORE INTO exclusive (what, lease) VALUES (?, ?)", new)


def _leased_slots(db: Transaction) -> set[str]:
    return {str(value) for (value,) in db.execute("SELECT value FROM claims WHERE kind='slot'")}


def _free_slots(db: Transaction, lost: set[str]) -> None:
    """Free the slots that only look leased; those of *lost* leases stay unused for a while first."""
    until = db.moment.steady + REST
    db.executemany("UPDATE slots SET rests_until=? WHERE CAST(port AS TEXT)=?", [(until, port) for port in lost])
    db.execute(
        "UPDATE slots SET idle=(SELECT 1 + coalesce(max(idle), 0) FROM slots)"
        " WHERE idle IS NULL AND CAST(port AS TEXT) NOT IN (SELECT value FROM claims WHERE kind='slot')"
    )


def _enter_slots(db: Transaction, settings: Settings) -> None:
    """Write the missing slots of the pool; a leased slot does not count as free."""
    leased = _leased_slots(db)
    found = [(pool_key(settings), block.start, None if str(block.start) in leased else 0) for block in blocks(settings)]
    db.executemany("INSERT OR IGNORE INTO slots (pool, port, idle) VALUES (?, ?, ?)", found)


def _restart_tickets(db: Transaction) -> None:
    """Delete the last ticket's number if SQLite cannot count on from it."""
    last = db.execute("SELECT seq FROM sqlite_sequence WHERE name='queue'").fetchall()
    if last and not (len(last) == 1 and type(last[0][0]) is int and 0 <= last[0][0] < _LAST_TICKET):
        db.execute("DELETE FROM sqlite_sequence")

"""
The requests that wait for a place, first come first served.

Each waiter has a row and refreshes it at each attempt. The row is deleted if the waiter's process has ended. It is also
deleted if it was not refreshed for long, because the process may be in a pid namespace that cannot be seen from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard.leases.database import column_rules
from stackyard.leases.owners import Owner, pid_namespace

if TYPE_CHECKING:
    from stackyard._util.clocks import Moment
    from stackyard.leases.database.store import Transaction

SILENCE: Final = 30.0  # seconds without a refresh after which a waiter counts as dead


def ahead(db: Transaction, wanted: str, ticket: int | None) -> int:
    """
    Return how many wait for *wanted* before *ticket*, or in all if it is None; delete dead waiters.

    Args:
        db: The book, in a transaction.
        wanted: What they queue for.
        ticket: The request's own ticket.

    Raises:
        BadRowError: If a waiter's row holds a value that stackyard never writes.
    """
    waiting = db.execute("SELECT ticket, owner, seen FROM queue WHERE wanted=? ORDER BY ticket", (wanted,)).fetchall()
    for number, owner, seen in waiting:
        column_rules.check("queue", (number, wanted, owner, seen))
    dead = [(number,) for number, owner, seen in waiting if number != ticket and not _waits(owner, seen, db.moment)]
    db.executemany("DELETE FROM queue WHERE ticket=?", dead)
    living = {number for number, _, _ in waiting} - {number for (number,) in dead}
    return sum(1 for number in living if ticket is None or number < ticket)


def join(db: Transaction, wanted: str, ticket: int | None) -> int:
    """Take a ticket, or refresh *ticket*; return it."""
    row = (ticket, wanted, Owner.current().label(), db.moment.steady)
    return int(db.execute("INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?) RETURNING ticket", row).fetchone()[0])


def leave(db: Transaction, ticket: int) -> None:
    """Delete a ticket."""
    db.execute("DELETE FROM queue WHERE ticket=?", (ticket,))


def _waits(label: str, seen: float, now: Moment) -> bool:
    owner = Owner.parse(label)
    if owner is None or owner.boot != now.boot or now.is_past(seen + SILENCE) or not now.is_past(seen - SILENCE):
        return False
    return owner.namespace != pid_namespace() or owner.runs()

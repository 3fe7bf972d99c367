"""The tables of the lease book, and the steps that upgrade the book of an older stackyard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID: Final = 0x53594C42  # "SYLB"
VERSION: Final = 4

# warm holds the leases of the stacks that are ready for a run; pools says how many of them each environment keeps.
_WARM: Final = """
CREATE TABLE pools (
    root TEXT NOT NULL,
    environment TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (root, environment)
) WITHOUT ROWID;
CREATE TABLE warm (
    lease TEXT PRIMARY KEY REFERENCES leases (id) ON DELETE CASCADE,
    root TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    since REAL NOT NULL
) WITHOUT ROWID
"""

# claims holds everything that only one lease may have; its key makes the database itself refuse a second holder.
# slots.idle orders the free slots by the time of their release, and is NULL while a lease has the slot.
TABLES: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE leases (
    id TEXT PRIMARY KEY,
    parallel_id TEXT,
    environment TEXT NOT NULL,
    slot INTEGER,
    ports TEXT NOT NULL,
    subnet TEXT NOT NULL,
    project TEXT NOT NULL,
    owner TEXT NOT NULL,
    created REAL NOT NULL,
    deadline REAL,
    removing INTEGER NOT NULL DEFAULT 0,
    memory_mb INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE claims (
    kind TEXT NOT NULL CHECK (kind IN ('port', 'subnet', 'project', 'slot', 'block', 'parallel')),
    value TEXT NOT NULL,
    lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, value)
) WITHOUT ROWID;
CREATE INDEX claims_of ON claims (lease);
CREATE TABLE slots (
    pool TEXT NOT NULL,
    port INTEGER NOT NULL,
    idle INTEGER,
    rests_until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (pool, port)
) WITHOUT ROWID;
CREATE INDEX slots_idle ON slots (pool, idle, port) WHERE idle IS NOT NULL;
CREATE TABLE queue (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    wanted TEXT NOT NULL,
    owner TEXT NOT NULL,
    seen REAL NOT NULL
);
{_WARM};
"""

# Tables that an older stackyard with the same version ignores, so that both can share a book. They are made when a book
# without them is opened. clocks holds the end of a lease on the boot-time clock, valid as long as wall is its deadline;
# exclusive holds what only one copy can have, such as the host's network; set_aside keeps the rows that could not be
# used. ended holds the last leases that were released: a book from a backup does not know the stacks of later leases,
# and must not take them for leftovers.
ADDITIONS: Final[dict[str, str]] = {
    "clocks": """
CREATE TABLE clocks (
    lease TEXT PRIMARY KEY REFERENCES leases (id) ON DELETE CASCADE,
    wall REAL NOT NULL,
    boot TEXT NOT NULL,
    ends REAL NOT NULL
) WITHOUT ROWID""",
    "set_aside": """
CREATE TABLE set_aside (
    at TEXT NOT NULL,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    content TEXT NOT NULL
)""",
    "ended": """
CREATE TABLE ended (
    number INTEGER PRIMARY KEY,
    lease TEXT NOT NULL UNIQUE
)""",
    "exclusive": """
CREATE TABLE exclusive (
    what TEXT PRIMARY KEY,
    lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE
) WITHOUT ROWID""",
}
KNOWN: Final = frozenset({"meta", "leases", "claims", "slots", "queue", "pools", "warm"})

# For each older version, the statements that lead to the next one. A book is migrated under its lock, in one
# transaction; version 1 is the first.
MIGRATIONS: Final[dict[int, str]] = {
    1: "ALTER TABLE leases ADD COLUMN memory_mb INTEGER NOT NULL DEFAULT 0",
    2: _WARM,
    3: "SELECT 1",  # the tables stay; leases may have any ports and several subnets, which version 3 would set aside
}


def fill(connection: sqlite3.Connection) -> None:
    """Make a new book's tables."""
    connection.executescript(
        f"PRAGMA synchronous=OFF; BEGIN; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION};"
        f"{TABLES} COMMIT;"
    )
    for statement in ADDITIONS.values():
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('schema', ?), ('recovery', 'due')", (str(VERSION),))


def version(db: sqlite3.Connection, named: object) -> int:
    """Return the schema's version: what the book says if that is possible, else what its tables show."""
    header = db.execute("PRAGMA user_version").fetchone()[0]
    if named == str(header) and 1 <= header <= VERSION:
        return int(header)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    if "warm" in tables:
        shown = 3
    else:
        shown = 2 if any(row[1] == "memory_mb" for row in db.execute("PRAGMA table_info(leases)")) else 1
    db.execute("UPDATE meta SET value=? WHERE key='schema'", (str(shown),))
    db.execute(f"PRAGMA user_version={shown}")
    return shown


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Lead the tables from *version* to the newest one; the caller has begun a transaction."""
    for step in range(version, VERSION):
        for statement in MIGRATIONS[step].split(";"):
            connection.execute(statement)
        connection.execute("UPDATE meta SET value=? WHERE key='schema'", (str(step + 1),))
        connection.execute(f"PRAGMA user_version={step + 1}")

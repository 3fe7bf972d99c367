"""
How a new book restores the leases of a lost one.

It first reads the leases' own directories: their env files hold everything except the deadline, and their locks show
which owners are alive. If the caller can list the running stacks, it then reads their labels. A lease whose deadline is
lost gets a new one. So does the lease of a process that cannot be seen: two containers with the same host name and the
same path of the state directory have one id for two books.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final

from stackyard._util import files as disk
from stackyard.errors import StackyardError, UnlistedError
from stackyard.leases.database import rows
from stackyard.leases.database.column_rules import BadRowError
from stackyard.leases.database.warn_once import warn
from stackyard.leases.directory import files
from stackyard.leases.grants.allocation import enter_pool, slot_number
from stackyard.leases.needs import PortName
from stackyard.leases.owners import Owner, boot_id, is_held, pid_namespace
from stackyard.leases.records import CHECKOUT, ENV, LOCK, Lease, keeps_data, parse_env
from stackyard.leases.recovery.lost_leases import Survivor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from stackyard.leases.database.store import Transaction
    from stackyard.settings import Settings

GRACE: Final = 3600.0  # seconds until a restored lease without an owning process ends, unless it is renewed


def recover(
    db: Transaction,
    settings: Settings,
    state: str,
    directory: Path,
    survivors: Callable[[], Iterable[Survivor]] | None,
    now: float,
) -> None:
    """
    Write the leases that survived into a new book.

    Args:
        db: The book, in a transaction.
        settings: Pool and host.
        state: ``due``, or ``stacks`` after the directories have been read.
        directory: Where the leases' directories are.
        survivors: Lists the leases of running stacks; if None, a later caller lists them.
        now: Seconds since 1970.
    """
    first = state == "due"
    if first:
        enter_pool(db, settings)
        _enter(db, settings, directory, _from_files(directory, settings.host), now)
        state = "stacks"
    if survivors is not None:
        try:
            _enter(db, settings, directory, survivors(), now)
            state = "done"
        except UnlistedError:
            raise
        except StackyardError as error:
            if first:  # every later transaction tries again
                warn(settings.state_dir, f"the lease book is new, and the running stacks cannot be listed yet: {error}")
    db.execute("UPDATE meta SET value=? WHERE key='recovery'", (state,))


def restore(
    db: Transaction, settings: Settings, directory: Path, survivors: Iterable[Survivor], now: float
) -> set[str]:
    """
    Write into a book those of *survivors* that it has never known: it was put back from a backup.

    Args:
        db: The book, in a transaction.
        settings: Pool and host.
        directory: Where the leases' directories are.
        survivors: The leases of running stacks.
        now: Seconds since 1970.

    Returns:
        Their ids, those included that cannot be written because another lease has what they claim.
    """
    never_known = [found for found in survivors if not rows.has_ended(db, found.id)]
    _enter(db, settings, directory, never_known, now)
    return {found.id for found in never_known}


def is_done(db: Transaction) -> bool:
    """Say whether the book holds the directories' leases, so that no other directory belongs to a lease."""
    row = db.execute("SELECT value FROM meta WHERE key='recovery'").fetchone()
    return row is None or row[0] != "due"


def _from_files(directory: Path, host: str) -> Iterator[Survivor]:
    for file in sorted(directory.glob("[a-z0-9]*/env")):
        survivor = survivor_in(file.parent, host)
        if survivor is not None:
            yield survivor


def survivor_in(directory: Path, host: str) -> Survivor | None:
    """Read the lease of the env file in *directory*; None if the file describes no lease of *host*."""
    try:
        variables = parse_env(disk.read(directory / ENV).decode())
    except (OSError, ValueError):
        return None
    survivor = Survivor.from_variables(variables, host=host)
    return survivor if survivor is not None and survivor.id == directory.name else None


def _slot(settings: Settings, found: Survivor) -> int | None:
    """Return the slot of the pool that a lease had; None for a fixed block, which is seldom a whole slot."""
    every = sorted((*found.ports.values(), *found.spare))
    whole = len(every) >= settings.block and every[-1] - every[0] == len(every) - 1
    in_pool = found.spare or whole or all(map(PortName.parse, found.ports))
    return slot_number(settings, every[0]) if in_pool else None


def _enter(db: Transaction, settings: Settings, directory: Path, survivors: Iterable[Survivor], now: float) -> None:
    for found in survivors:
        if rows.one(db, directory, found.id) is not None:
            continue
        owner = Owner.detached() if _is_out_of_sight(found.owner, directory / found.id / LOCK) else found.owner
        lease = Lease(
            id=found.id,
            parallel_id=found.parallel_id,
            environment=found.environment,
            slot=_slot(settings, found),
            ports=found.ports,
            spare=found.spare,
            subnet=found.subnet,
            project=found.project,
            owner=owner,
            created=found.created,
            deadline=now + GRACE if owner.kind == "detached" and not keeps_data(found.id, found.environment) else None,
            memory_mb=found.memory_mb,
            exclusive=found.exclusive,
            directory=directory / found.id,
        )
        db.execute("SAVEPOINT entry")
        try:
            rows.insert(db, rows.checked(lease))
        except (sqlite3.IntegrityError, BadRowError) as error:
            db.execute("ROLLBACK TO entry")
            warn(settings.state_dir, f"lease {lease.title} of {lease.environment} cannot be restored: {error}")
            continue
        if lease.is_copy and not lease.env_file.exists():
            _write_again(db, lease, found.checkout, settings.host)
        warn(settings.state_dir, f"lease {lease.title} of {lease.environment} was restored")


def _is_out_of_sight(owner: Owner, lock: Path) -> bool:
    """Say whether a process of another pid namespace may live: its lock is not here, as in another container's book."""
    elsewhere = owner.kind == "process" and owner.boot == boot_id() and owner.namespace != pid_namespace()
    return elsewhere and is_held(lock) is None


def _write_again(db: Transaction, lease: Lease, checkout: str, host: str) -> None:
    """Write the env file of a copy again, whose directory was lost too: it says which project the copy is of."""
    if not db.execute("PRAGMA database_list").fetchone()[2]:
        return  # a book in memory, made by a command that only reads
    db.undo.append(lambda: files.discard(files.remove(lease.directory)))
    told = {CHECKOUT: checkout} if checkout.isprintable() and "'" not in checkout else {}
    with contextlib.suppress(OSError):  # the copy can be removed by its id without this file
        disk.make_folder(lease.directory.parent)
        files.write(lease, told, {}, host)

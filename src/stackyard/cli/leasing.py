"""Leasing ports and giving them back, for `invoke ports.*` and for scripts/allocate_test_ports.py."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.advice import Action, typed
from stackyard.errors import EngineError, LeftoversError, PoolExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.leases import Lease, LeaseBook, Strangers, Survivor

ENGINE_DEADLINE: Final = 2.0  # seconds; a lease needs no engine, and does not wait for one


def open_book() -> LeaseBook:
    """
    Return the lease book; one that was lost is made again from the stacks that run.

    Raises:
        UsageError: If a setting is wrong.
    """
    from stackyard.leases import LeaseBook
    from stackyard.settings import Settings

    settings = Settings.load()
    return LeaseBook(settings, lambda: _survivors(settings.host))


def _survivors(host: str) -> list[Survivor]:
    """Ask the engine for the stacks of a book that is new; any other book never gets here."""
    from stackyard.docker import Engine, lease_book

    with Engine() as engine:
        return lease_book.survivors(engine, host)


def strangers() -> Strangers | None:
    """Return what a running engine knows of ports and networks and the kernel does not show; None without an engine."""
    from stackyard.docker import Engine, in_use

    try:
        with Engine(deadline=ENGINE_DEADLINE) as engine:
            return in_use.strangers(engine)
    except EngineError:
        return None


def handle(book: LeaseBook, lease: Lease) -> str:
    """Return what to call the lease in a command: its name, or its id if another environment uses the same name."""
    if lease.parallel_id is None:
        return lease.id
    same = [other for other in book.leases() if other.parallel_id == lease.parallel_id]
    return lease.parallel_id if len(same) <= 1 else lease.id


def start_command(compose_file: Path, env_file: Path) -> str:
    """Return the line that starts a stack on a lease's ports with plain Compose."""
    return shlex.join(["docker", "compose", "-f", str(compose_file), "--env-file", str(env_file), "up", "--wait"])


def ports_text(lease: Lease) -> str:
    """Return the lease's ports in one phrase: ``ports 9500-9509``."""
    every = lease.every_port
    return f"ports {every[0]}-{every[-1]}" if lease.slot is not None else f"ports {', '.join(map(str, every))}"


def release(book: LeaseBook, lease: Lease, *, note: Callable[[str], None]) -> dict[str, Any]:
    """
    End *lease* unless a stack stands under it; return the answer as JSON values.

    Args:
        book: Its book.
        lease: What to end.
        note: Called with a line if this host has no engine, so that there is nothing to look at.

    Raises:
        EngineError: If there is an engine and it does not say what stands; the lease is kept then.
        LeftoversError: If something stands; the text names it and the command that removes both.
    """
    standing = _standing(book, lease, note)
    if standing:
        line = typed(Action.REMOVE, name=handle(book, lease))
        raise LeftoversError(
            f"lease {lease.title} not released, its stack still has: {', '.join(standing)}; "
            f"'{line}' removes the stack and the lease"
        )
    book.release(lease)
    return {"lease": lease.id, "name": lease.parallel_id, "environment": lease.environment, "released": True}


def _standing(book: LeaseBook, lease: Lease, note: Callable[[str], None]) -> list[str]:
    from stackyard.docker import Engine, lease_engine
    from stackyard.docker.ownership import Holdings

    try:
        with Engine(deadline=ENGINE_DEADLINE) as engine:
            found = Holdings.of(book.host, lease).everything(engine, volumes=False)
            if not found and (words := lease_engine.elsewhere(lease, engine)):
                raise LeftoversError(f"lease {lease.title} not released: its stack {words}")
    except EngineError as error:
        if not _no_engine():
            raise EngineError(
                f"lease {lease.title} not released, because containers of it may exist: {error}"
            ) from None
        note(f"note: containers of {lease.title} were not looked for: {error}")
        return []
    return [f"{item.kind} {item.name}" for item in found]


def _no_engine() -> bool:
    """Say whether this host's own engine is meant and has no socket: then no container runs."""
    from pathlib import Path

    from stackyard.docker.endpoint import Endpoint

    endpoint = Endpoint.find()
    return endpoint.source == "default" and not Path(endpoint.socket).exists()


def availability(book: LeaseBook, name: str, environment: str) -> tuple[Lease | None, int]:
    """
    Return the lease that *name* has, or None and the number of free slots.

    Raises:
        PoolExhaustedError: If it has none and no slot is free.
    """
    leases = book.leases()
    for lease in leases:
        if (lease.parallel_id, lease.environment) == (name, environment):
            return lease, 0
    taken = sum(lease.slot is not None for lease in leases)
    free = book.settings.slots - taken
    if free <= 0:
        raise PoolExhaustedError(f"{name} has no ports, and all {taken} slots of {book.settings.pool_text} are leased")
    return None, free

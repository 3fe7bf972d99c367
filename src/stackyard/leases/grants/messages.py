"""Error texts: why a lease cannot be granted, and what to do next."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, how
from stackyard.errors import SubnetsExhaustedError
from stackyard.leases.database import rows
from stackyard.leases.grants.host_ports import can_bind, port_holders, span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stackyard.leases.database.store import Transaction
    from stackyard.leases.grants.allocation import Place, Search
    from stackyard.leases.grants.host_ports import Ground
    from stackyard.leases.records import Lease

QUEUE: Final = "--queue-timeout 5m"  # the option that waits for a place
_SHOWN: Final = 5  # holders named in one message


def obstacle(db: Transaction, directory: Path, place: Place, ground: Ground) -> str | None:
    """Say what blocks a fixed block, and who has it; None if it is free."""
    wanted = [("port", str(port)) for port in place.ports.values()] + [("subnet", place.subnet)]
    for kind, value in wanted:
        row = db.execute("SELECT lease FROM claims WHERE kind=? AND value=?", (kind, value)).fetchone()
        if row and (lease := rows.one(db, directory, row[0])):
            return f"{kind} {value} is leased to {describe(lease)}"
    for service, port in place.ports.items():
        if port in ground.taken_ports:
            return f"port {port} ({service}) is published by another container"
        if not can_bind(port):
            who = port_holders([port]).get(port, "another program")
            return f"port {port} ({service}) is in use by {who}"
    if ground.overlaps(span(IPv4Network(place.subnet))):
        return f"subnet {place.subnet} overlaps a route, a name server or another Docker network of this host"
    return None


def describe(lease: Lease) -> str:
    """Name a lease and its owner."""
    return f"lease {lease.title} of {lease.environment}, {lease.owner.describe()}"


def kept(lease: Lease) -> str:
    """Say that a living process has the only lease of that name."""
    doing = "is being removed by" if lease.removing else "belongs to"
    who = lease.owner.describe()
    return f"lease {lease.title} of {lease.environment} {doing} {who}; wait until that ends ({QUEUE})"


def exclusive(what: str, holder: Lease) -> str:
    """Say who has something that only one copy can have."""
    return (
        f"only one copy at a time can have {_in_words(what)}, and {describe(holder)} has it; end that copy first, or "
        f"wait ({QUEUE})"
    )


def waited_for(what: str, ahead: int) -> str:
    """Say that others wait for something that only one copy can have."""
    return (
        f"only one copy at a time can have {_in_words(what)}, and others wait for it (requests ahead in the queue: "
        f"{ahead}); wait ({QUEUE})"
    )


def _in_words(what: str) -> str:
    kind, _, rest = what.partition(":")
    named = {"host-network": "the host's network", "interface": "the host's interface"}.get(kind, f"the {kind}")
    return f"{named} {rest}".rstrip()


def fixed(environment: str, obstacle: str) -> str:
    """Say why an environment cannot have its own ports."""
    return (
        f"environment {environment!r} needs its own ports, but {obstacle}; free it first; {how(Action.LEASES)}, "
        "or change the ports in envs/docker_environments.yaml and in the env file"
    )


def exhausted(error: Exception, leases: Sequence[Lease], search: Search, ahead: int) -> str:
    """Say why the pool has nothing left, who has its slots, and what to do next."""
    settings = search.settings
    held = [lease for lease in leases if lease.slot is not None]
    dead = sum(lease.is_stale(search.now) for lease in held)
    text = f"{error}: {len(held)} of {settings.slots} slots are leased ({dead} of them stale)"
    if search.busy:
        text += f", {search.busy} in use by other programs or kept by the kernel"
    if search.resting:
        text += f", {search.resting} not in use for a while after a port conflict or a damaged row of the book"
    if ahead:
        text += f", requests ahead in the queue: {ahead}"
    if held:
        more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
        text += f"; held by {'; '.join(map(describe, held[:_SHOWN]))}{more}"
    advice = f"widen the pool (STACKYARD_POOL={settings.pool_text},20000-20999)"
    if isinstance(error, SubnetsExhaustedError):
        advice = "set STACKYARD_POOL_SUBNETS to an unused private network"
    return f"{text}. Next: {advice}, {how(Action.CLEAN_UP)}, or wait ({QUEUE})"

"""
What other checkouts and lease books have of an environment that keeps its data.

Each checkout has a stack and data of its own, in each lease book. Only the first of them can have the environment's
fixed ports, so the next one is told which has them. Data that an earlier version or a moved checkout has left is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard.leases.records import parse_ports, stable_id
from stackyard.ownership import ENVIRONMENT_LABEL, HOST_LABEL, LEASE_LABEL, marked

if TYPE_CHECKING:
    from stackyard.engine import Engine
    from stackyard.environments import Environment
    from stackyard.leases import LeaseBook

PORTS_LABEL: Final = "stackyard.ports"
CHECKOUT_LABEL: Final = "stackyard.checkout"
PLAIN: Final = "plain"  # the label of what plain `docker compose` has made


def holder(environment: Environment, book: LeaseBook, engine: Engine) -> str:
    """
    Name the stack of another checkout or book that has the fixed ports of *environment*; empty if none has.

    Raises:
        BookError: If the lease book cannot be used.
        EngineError: If the engine does not answer.
    """
    own = stable_id(environment.name, book.host, environment.root)
    for lease in book.leases():
        if lease.environment == environment.name and lease.slot is None and lease.id != own:
            return f"{lease.checkout or 'a stack of an earlier version'} ({lease.id})"
    for item in engine.containers([f"{ENVIRONMENT_LABEL}={environment.name}", PORTS_LABEL]):
        ports, _ = parse_ports(item.labels[PORTS_LABEL]) or ({}, ())
        same = ports.get("postgres") == environment.ports["postgres"]
        if same and item.labels.get(HOST_LABEL) not in {book.host, PLAIN, None}:
            checkout = item.labels.get(CHECKOUT_LABEL, "a checkout")
            return f"{checkout} ({item.labels.get(LEASE_LABEL, item.name)} of another user or state directory)"
    return ""


def other_data(environment: Environment, book: LeaseBook, engine: Engine) -> list[str]:
    """
    Name the volumes with data of *environment* in this book that no lease has, if this checkout has no data of its own.

    Raises:
        BookError: If the lease book cannot be used.
        EngineError: If the engine does not answer.
    """
    found = [
        item for item in marked(engine.volumes, book.host) if item.labels.get(ENVIRONMENT_LABEL) == environment.name
    ]
    if any(item.labels[LEASE_LABEL] == stable_id(environment.name, book.host, environment.root) for item in found):
        return []
    leased = {lease.id for lease in book.leases()}
    return [
        f"volume {item.name} holds data of {environment.name} {_whose(item.labels[LEASE_LABEL], environment)}; this "
        "stack has data of its own, and docs/ownership.md says how to copy or remove the other"
        for item in found
        if item.labels[LEASE_LABEL] not in leased
    ]


def _whose(lease: str, environment: Environment) -> str:
    return "from an earlier version" if lease == environment.name else "from another or a moved checkout"

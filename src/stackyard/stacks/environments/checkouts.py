"""
Stacks and data that other checkouts and lease books have of an environment that keeps its data.

Each checkout has a stack and data of its own, in each lease book. Only the first of them can have the environment's
fixed ports, so the next one prints which has them. Data that an earlier version or a moved checkout has left is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard.docker.ownership import ENVIRONMENT_LABEL, HOST_LABEL, lease_of
from stackyard.docker.records import LEASE_LABEL
from stackyard.errors import LeaseNotFoundError
from stackyard.leases.port_format import parse_ports
from stackyard.leases.records import stable_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.docker import Engine, Resource
    from stackyard.leases import Lease, LeaseBook
    from stackyard.project.environments import Environment

PORTS_LABEL: Final = "stackyard.ports"
CHECKOUT_LABEL: Final = "stackyard.checkout"
OTHER_BOOK: Final = (
    "that this checkout had under another lease book: the host or the state directory had another name, or it was "
    "another user's"
)
PLAIN: Final = "plain"  # the label of what plain `docker compose` has made


def leases_of(book: LeaseBook, environment: str) -> tuple[Lease | None, list[Lease]]:
    """
    Return the lease that this checkout has of an environment which keeps its data, and those of other checkouts.

    Args:
        book: Their book.
        environment: The environment's name; none of another name is returned.

    Raises:
        BookError: If the lease book cannot be used.
        UsageError: If there is such a lease, and no project.
    """
    found = [lease for lease in book.leases() if lease.environment == environment and lease.keeps_data]
    if not found:
        return None, []
    from stackyard.project.environments import project_root

    root = book.settings.root or project_root()
    # the second is the id that earlier versions gave it
    ids = (stable_id(environment, book.host, root), environment)
    own = min((lease for lease in found if lease.id in ids), key=lambda lease: ids.index(lease.id), default=None)
    return own, [lease for lease in found if lease is not own]


def own_lease(book: LeaseBook, environment: str) -> Lease | None:
    """
    Return the lease that this checkout has of an environment which keeps its data; None if no checkout has one.

    Raises:
        LeaseNotFoundError: If only other checkouts have one; the text names them.
        BookError: If the lease book cannot be used.
        UsageError: If there is such a lease, and no project.
    """
    own, others = leases_of(book, environment)
    if own is None and others:
        raise LeaseNotFoundError(
            f"this checkout has no stack of {environment}; other checkouts have: {listed(others)}; give the id of one"
        )
    return own


def listed(leases: Sequence[Lease]) -> str:
    """Name *leases* by their checkouts."""
    return ", ".join(f"{lease.checkout or 'unknown'} ({lease.id})" for lease in leases)


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
        same = bool(ports.items() & environment.ports.items())
        if same and item.labels.get(HOST_LABEL) not in {book.host, PLAIN, None}:
            checkout = item.labels.get(CHECKOUT_LABEL, "a checkout")
            return f"{checkout} ({item.labels.get(LEASE_LABEL, item.name)} of another user or state directory)"
    return ""


def other_data(environment: Environment, book: LeaseBook, engine: Engine) -> list[str]:
    """
    Name the volumes with data of *environment* that no lease has, if this checkout has no data of its own.

    They are those of this book, and those that this checkout has under another one: the book's id changes with the name
    of the host and the place of the state directory.

    Raises:
        BookError: If the lease book cannot be used.
        EngineError: If the engine does not answer.
    """
    found = engine.volumes([f"{ENVIRONMENT_LABEL}={environment.name}", HOST_LABEL, LEASE_LABEL])
    own = [item for item in found if lease_of(item.labels, book.host)]
    if any(_is_of_this_checkout(item, environment) for item in own):
        return []
    leased = {lease.id for lease in book.leases()}
    told = [
        (item, _whose(item.labels[LEASE_LABEL], environment)) for item in own if item.labels[LEASE_LABEL] not in leased
    ]
    told += [(item, OTHER_BOOK) for item in found if item not in own and _is_of_this_checkout(item, environment)]
    return [
        f"volume {item.name} holds data of {environment.name} {whose}; this stack has data of its own, and "
        "docs/ownership.md says how to copy or remove the other"
        for item, whose in told
    ]


def _is_of_this_checkout(item: Resource, environment: Environment) -> bool:
    """Say whether a volume has the data of this checkout in the book that its labels name."""
    return item.labels[LEASE_LABEL] == stable_id(environment.name, item.labels[HOST_LABEL], environment.root)


def _whose(lease: str, environment: Environment) -> str:
    return "from an earlier version" if lease == environment.name else "from another or a moved checkout"

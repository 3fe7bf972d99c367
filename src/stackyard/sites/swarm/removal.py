"""The removal of copies from a Swarm: by label, in the only order that works, proved by empty lists."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, how
from stackyard.cleanup.outcome import Removal
from stackyard.docker.engine import each
from stackyard.docker.swarm import SERVICE_LABEL
from stackyard.errors import LeftoversError, RefusedError
from stackyard.leases.owners import Owner
from stackyard.sites.swarm.leases import LEASE_LABEL, PREFIX, Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.docker.swarm import Item, Swarm
    from stackyard.sites.swarm.leases import Lease

REMOVAL_TIMEOUT_S: Final = 40.0  # seconds for the nodes to end the containers of a copy
TICK: Final = 0.1
GRACE_LABEL: Final = "stackyard.swarm.grace"  # seconds that a service gets to end by itself, if it does
NEEDS_LABEL: Final = "stackyard.swarm.needs"  # the services that such a one depends on


def remove(swarm: Swarm, lease: Lease) -> Removal:
    """
    Remove everything of a copy, then its lease.

    Raises:
        LeftoversError: If something is still there after `REMOVAL_TIMEOUT_S` seconds; the lease stays.
        EngineError: If the manager does not answer; the lease stays.
    """
    began = time.monotonic()
    removed = emptied(swarm, lease.label, f"copy {lease.name} keeps its lease", f"; then {how(Action.CLEAN_UP)}")
    Leases(swarm).end(lease)
    return Removal(removed=removed, leases=[lease.id], seconds=time.monotonic() - began)


def emptied(swarm: Swarm, label: str, what: str, then: str = "") -> list[str]:
    """
    Remove everything with *label* but leases; return its names when nothing is left, and no ready node runs any of it.

    Services that get time to end, as `grace` says, end in order: first those that no other one needs.

    Args:
        swarm: Where it is.
        label: Its label, as ``key`` or ``key=value``.
        what: What it is, for the text of an error.
        then: The end of that text: what can be done next.

    Raises:
        LeftoversError: If something is left after `REMOVAL_TIMEOUT_S` seconds and the time that services get to end.
        EngineError: If the manager does not answer or refuses.
    """
    patience, seen, needs = REMOVAL_TIMEOUT_S + sum(grace(swarm, label).values()), set[str](), dict[str, set[str]]()
    until = time.monotonic() + patience
    # a node ends containers after their service is gone
    while (left := _left(swarm, label)) or _running(swarm, label):
        seen |= {str(item) for item in left}
        if time.monotonic() > until:
            listed = ", ".join(map(str, [*left, *_running(swarm, label)]))
            raise LeftoversError(f"{what}: {listed} left after {patience:g} s{then}")
        free = _unneeded(left, {task.service for task in swarm.tasks(label)}, needs)
        failures = [error for error in each(swarm.remove, free) if not isinstance(error, RefusedError)]
        if failures:
            raise failures[0]
        time.sleep(TICK)
    return sorted(seen)


def grace(swarm: Swarm, label: str) -> dict[str, int]:
    """Return the seconds that each service with *label* gets to end by itself; without those that get none."""
    found = {item.name: item.labels for item in swarm.labelled("service", label)}
    return {
        labels.get(SERVICE_LABEL, name): int(labels[GRACE_LABEL])
        for name, labels in found.items()
        if labels.get(GRACE_LABEL, "").isdecimal()
    }


def _unneeded(left: Sequence[Item], running: set[str], needs: dict[str, set[str]]) -> list[Item]:
    """Return what no other service needs that is there or still ends; note in *needs* what each of them does."""
    names = {item.id: item.labels.get(SERVICE_LABEL, item.name) for item in left if item.kind == "service"}
    needs |= {names[item.id]: set(item.labels.get(NEEDS_LABEL, "").split(",")) for item in left if item.id in names}
    needed = {other for name in running | {*names.values()} for other in needs.get(name, ())}
    return [item for item in left if names.get(item.id) not in needed]


def _left(swarm: Swarm, label: str) -> list[Item]:
    """Return what is left and can be removed now: services first, the rest when their containers have gone."""
    services = swarm.labelled("service", label)
    if services:
        return services
    return [item for item in swarm.everything(label) if not item.name.startswith(PREFIX)]


def _running(swarm: Swarm, label: str) -> list[str]:
    """Return the containers of *label* that ready nodes have not ended yet; a lost node's cannot be waited for."""
    ready = {node.id for node in swarm.nodes() if node.state == "ready"}
    return [f"container {task.container[:12]}" for task in swarm.tasks(label) if task.node in ready]


def stale(swarm: Swarm) -> tuple[list[Lease], list[str]]:
    """
    Return the leases that have ended, and the ids of copies of which something is left without a lease.

    Raises:
        EngineError: If the manager does not answer.
    """
    leases = Leases(swarm)
    now = leases.now()
    things = [item for item in swarm.everything(LEASE_LABEL) if not item.name.startswith(PREFIX)]
    ownerless = {item.labels.get(LEASE_LABEL, "") for item in things}
    known = leases.leases()  # after the things: each was made under a lease
    ended = [lease for lease in known if lease.is_stale(now)]
    return ended, sorted(ownerless - {lease.id for lease in known} - {""})


def sweep(swarm: Swarm) -> list[str]:
    """
    Remove every copy whose lease has passed its deadline or lost its process; return their names.

    What has no lease any more goes too. Several processes may do this at once: each removes only the leases that it
    has read, never a newer one of the same name.

    Raises:
        LeftoversError: If something of a copy is still there after `REMOVAL_TIMEOUT_S` seconds; the other copies are
            removed.
        EngineError: If the manager does not answer.
    """
    leases, (ended, ownerless) = Leases(swarm), stale(swarm)
    work: list[tuple[str, Callable[[], object]]] = [
        (lease.name, partial(remove, swarm, lease)) for lease in ended if leases.take(lease)
    ]
    work += [(word, partial(emptied, swarm, f"{LEASE_LABEL}={word}", f"copy {word}")) for word in ownerless]
    if failures := each(lambda one: one[1](), work):
        raise failures[0]
    return [name for name, _ in work]


def release_own(swarm: Swarm) -> None:
    """Remove every copy whose lease this process owns."""
    leases = Leases(swarm)
    for lease in leases.leases():
        if lease.owner == Owner.current() and leases.take(lease):
            remove(swarm, lease)

"""Whether a lease is stale, so that a clean-up may remove its stack: its deadline has passed or its owner has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackyard.leases.records import Lease


def is_stale(lease: Lease, now: float) -> bool:
    """
    Say whether the deadline of *lease*, as it was read, has passed or its owner has ended.

    Only the lease of an environment that keeps its data outlives a boot: its containers start again with the engine.

    Args:
        lease: The lease.
        now: Seconds since 1970.
    """
    if lease.deadline is not None and lease.deadline <= now:
        return True
    if lease.owner.kind == "detached" and (lease.deadline is None or lease.keeps_data):
        return False
    return not lease.owner.is_alive(lease.lock)

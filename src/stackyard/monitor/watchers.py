"""
A watcher: looks at every container of a stack, or of all stacks of this host, again and again.

A container may go away between the list and the look at it; it is then left out, or shown as missing when the rest of
its stack still stands. CPU use is what a container consumed between two looks of the same watcher.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stackyard.docker.ownership import Owned, owned_containers
from stackyard.docker.records import SERVICE_LABEL
from stackyard.docker.usage import sight
from stackyard.errors import RefusedError
from stackyard.monitor.records import Service, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stackyard.docker import Engine
    from stackyard.leases import Lease, LeaseBook

LOOKERS: Final = 8  # containers looked at at once


class Watcher:
    """Looks at the stacks of one book, or at that of one lease alone."""

    def __init__(
        self,
        book: LeaseBook,
        engine: Engine,
        lease: Lease | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.book = book
        self.engine = engine
        self._lease = lease
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}

    def look(self) -> Snapshot:
        """
        Look once.

        Raises:
            EngineError: If the engine does not answer.
            BookError: If the lease book cannot be used.
        """
        began = self._clock()
        leases = [self._lease] if self._lease else self.book.leases()
        found = owned_containers(self.engine, self.book.host, leases, lost=self._lease is None)
        before, self._spent = self._spent, {}
        services = [each for each in self._at_once(found, before) if each is not None]
        services += self._missing(services)
        names = {lease.id: lease.parallel_id for lease in leases}
        services = [replace(each, name=names.get(each.lease)) for each in services]
        services.sort(key=lambda each: (each.environment, each.lease, each.service))
        return Snapshot(at=began, seconds=self._clock() - began, services=services)

    def _at_once(self, found: Sequence[Owned], before: Mapping[str, tuple[float, float]]) -> list[Service | None]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=LOOKERS) as pool:
            return list(pool.map(lambda item: self._service(item, before.get(item.thing.id)), found))

    def _service(self, owned: Owned, before: tuple[float, float] | None) -> Service | None:
        """Look at one container; *before* is when the look before was, and the CPU seconds it found."""
        item = owned.thing
        try:
            seen, now = sight(self.engine, item.id), self._clock()
        except RefusedError:
            return None  # it is just being removed
        if seen is None:
            return None
        if seen.usage:
            self._spent[item.id] = (now, seen.usage.cpu_s)
        return Service(
            environment=owned.environment, lease=owned.lease,
            service=item.labels.get(SERVICE_LABEL, item.name), seen=seen,
            cpu_percent=_percent(before, self._spent[item.id]) if seen.usage and before else None,
        )  # fmt: skip

    def _missing(self, services: Sequence[Service]) -> list[Service]:
        """Name the services whose container was removed while others of their stack stand."""
        there: dict[str, set[str]] = {}
        for each in services:
            there.setdefault(each.lease, set()).add(each.service)
        leases: Mapping[str, Lease] = {lease.id: lease for lease in self.book.leases() if lease.id in there}
        return [
            Service(environment=lease.environment, lease=lease.id, service=service, seen=None)
            for lease in leases.values()
            for service in sorted(set(lease.published) - there[lease.id])
        ]


def _percent(before: tuple[float, float], now: tuple[float, float]) -> float | None:
    passed = now[0] - before[0]
    # after a restart the count begins at 0 again
    return 100 * max(now[1] - before[1], 0.0) / passed if passed > 0 else None

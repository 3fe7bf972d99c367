"""
Metrics for Prometheus: every container of this host's stacks, and the lease book, in the text format.

Each scrape looks again. If the engine or the book does not answer, a gauge is 0 and the scrape does not fail, so that
an alert can name it. No label holds anything of a credential: they are environment, lease, service, and closed sets.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stackyard.docker.in_use import strangers
from stackyard.errors import BookError, EngineError
from stackyard.project.environments import load_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from stackyard.docker.usage import Sighting, Usage
    from stackyard.leases import Lease
    from stackyard.leases.grants.admission import Capacity
    from stackyard.monitor.records import Service
    from stackyard.monitor.watchers import Watcher

T = TypeVar("T")
HEALTH: Final = ("starting", "healthy", "unhealthy", "none")
STATES: Final = ("active", "stale", "removing")
SERVICE: Final = ("environment", "lease", "service")
LEASE: Final = ("environment", "lease")

# name, help, what of a running container's use it is
USES: Final[tuple[tuple[str, str, Callable[[Usage], float | None]], ...]] = (
    ("memory_bytes", "Memory in use, without page cache that can be dropped.", lambda use: use.memory),
    ("memory_limit_bytes", "Memory the container may use.", lambda use: use.memory_limit),
    ("memory_peak_bytes", "Most memory ever in use since the start, page cache included.", lambda use: use.memory_peak),
    ("cpu_limit_cores", "CPUs the container may use.", lambda use: use.cpus),
    ("processes", "Processes and threads.", lambda use: use.pids),
    ("processes_limit", "Processes and threads the container may have.", lambda use: use.pids_limit),
)
COUNTS: Final[tuple[tuple[str, str, Callable[[Sighting], float | None]], ...]] = (
    ("cpu_seconds", "CPU time since the start.", lambda seen: seen.usage.cpu_s if seen.usage else None),
    ("restarts", "Starts by the restart policy.", lambda seen: seen.state.restarts),
    (
        "oom_kills",
        "Processes that the kernel ended because the container ran out of memory.",
        lambda seen: seen.usage.oom_kills if seen.usage else int(seen.state.oom_killed),
    ),
)


class StackCollector(Collector):
    """Gives a Prometheus registry what a watcher sees, at each scrape."""

    def __init__(self, watcher: Watcher, *, clock: Callable[[], float] = time.time) -> None:
        self._watcher = watcher
        self._clock = clock
        self._turn = threading.Lock()  # two scrapers at once would halve each other's patience

    def collect(self) -> Iterator[Metric]:
        """Look once and yield every metric."""
        with self._turn:
            began = time.monotonic()
            services = _or_none(lambda: self._watcher.look().services, EngineError, BookError)
            leases = _or_none(self._watcher.book.leases, BookError)
            rooms = _or_none(self._rooms, EngineError, BookError)
            yield _gauge("engine_up", "1 while the Docker engine answers.", services is not None)
            yield _gauge("book_up", "1 while the lease book can be read.", leases is not None)
            yield from service_metrics(services or ())
            yield from lease_metrics(leases or (), self._clock())
            yield from self._room_metrics(rooms or ())
            yield _gauge("scrape_duration_seconds", "Seconds this look took.", time.monotonic() - began)

    def _rooms(self) -> list[Capacity]:
        book, taken = self._watcher.book, strangers(self._watcher.engine)
        return [book.capacity(each, strangers=taken) for each in load_all(book.settings.root).values()]

    def _room_metrics(self, rooms: Sequence[Capacity]) -> Iterator[Metric]:
        yield _gauge("slots", "Slots of the port pool.", self._watcher.book.settings.slots)
        if rooms:
            free = min(room.slots for room in rooms)
            yield _gauge("slots_free", "Slots of the port pool that a lease could have now.", free)
        more = GaugeMetricFamily(
            "stackyard_stacks_free", "Stacks that would still fit on this host.", labels=["environment"]
        )
        for room in rooms:
            more.add_metric([room.environment], room.stacks)
        yield more


def service_metrics(services: Iterable[Service]) -> Iterator[Metric]:
    """Yield the metrics of containers; an unknown figure has no sample."""
    services = list(services)
    up = GaugeMetricFamily("stackyard_service_up", "1 while it runs and is not unhealthy.", labels=SERVICE)
    running = GaugeMetricFamily("stackyard_service_running", "1 while its container runs, well or not.", labels=SERVICE)
    health = GaugeMetricFamily("stackyard_container_health", "1 for the word it is in.", labels=[*SERVICE, "health"])
    for each in services:
        up.add_metric(_labels(each), each.up)
        running.add_metric(_labels(each), each.seen is not None and each.seen.state.status == "running")
        for word in HEALTH if each.seen else ():
            health.add_metric([*_labels(each), word], each.seen is not None and each.seen.state.health == word)
    yield from (up, running, health)
    for name, text, read in USES:
        gauge = GaugeMetricFamily(f"stackyard_container_{name}", text, labels=SERVICE)
        for each in services:
            if each.seen and each.seen.usage and (value := read(each.seen.usage)) is not None:
                gauge.add_metric(_labels(each), value)
        yield gauge
    for name, text, count in COUNTS:
        counter = CounterMetricFamily(f"stackyard_container_{name}", text, labels=SERVICE)
        for each in services:
            if each.seen and (value := count(each.seen)) is not None:
                counter.add_metric(_labels(each), value)
        yield counter


def lease_metrics(leases: Sequence[Lease], now: float) -> Iterator[Metric]:
    """Yield the metrics of leases; *now* in seconds since 1970."""
    total = GaugeMetricFamily("stackyard_leases", "Leases by state.", labels=["environment", "state"])
    states = [(lease.environment, _state(lease, now)) for lease in leases]
    for environment in sorted({lease.environment for lease in leases}):
        for state in STATES:
            total.add_metric([environment, state], states.count((environment, state)))
    stale = GaugeMetricFamily("stackyard_lease_stale", "1 once its owner has ended or it has expired.", labels=LEASE)
    created = GaugeMetricFamily("stackyard_lease_created_timestamp_seconds", "When it was granted.", labels=LEASE)
    ends = GaugeMetricFamily("stackyard_lease_deadline_timestamp_seconds", "When it ends unless renewed.", labels=LEASE)
    booked = GaugeMetricFamily("stackyard_lease_memory_bytes", "Memory of the host that it books.", labels=LEASE)
    for lease in leases:
        words = [lease.environment, lease.id]
        stale.add_metric(words, lease.is_stale(now))
        created.add_metric(words, lease.created)
        booked.add_metric(words, lease.memory_mb * 1_000_000)
        if lease.deadline is not None:
            ends.add_metric(words, lease.deadline)
    yield from (total, stale, created, ends, booked)


def _state(lease: Lease, now: float) -> str:
    if lease.removing:
        return "removing"
    return "stale" if lease.is_stale(now) else "active"


def _labels(each: Service) -> list[str]:
    return [each.environment, each.lease, each.service]


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"stackyard_{name}", text, value=float(value))


def _or_none(ask: Callable[[], T], *errors: type[Exception]) -> T | None:
    try:
        return ask()
    except errors:
        return None

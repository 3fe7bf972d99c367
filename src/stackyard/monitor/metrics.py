"""
Metrics for Prometheus: every container of this host's stacks, and the lease book, in the text format.

Each scrape looks again. If the engine or the book does not answer, a gauge is 0 and the scrape does not fail, so that
an alert can name it. No label holds anything of a credential: they are environment, lease, service, and closed sets.
"""

from __future__ import annotations

import itertools
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
LEASES: Final[tuple[tuple[str, str, Callable[[Lease, float], float | None]], ...]] = (
    ("stale", "1 once its owner has ended or it has expired.", lambda lease, now: lease.is_stale(now)),
    ("created_timestamp_seconds", "When it was granted.", lambda lease, _: lease.created),
    ("deadline_timestamp_seconds", "When it ends unless renewed.", lambda lease, _: lease.deadline),
    ("memory_bytes", "Memory of the host that it books.", lambda lease, _: lease.memory_mb * 1_000_000),
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
    found = [(_labels(each), each) for each in services]
    sights = [(words, each.seen) for words, each in found if each.seen]
    uses = [(words, seen.usage) for words, seen in sights if seen.usage]
    running = ((words, each.seen is not None and each.seen.state.status == "running") for words, each in found)
    health = (([*words, word], seen.state.health == word) for words, seen in sights for word in HEALTH)
    up = ((words, each.up) for words, each in found)
    yield _family("service_up", "1 while it runs and is not unhealthy.", SERVICE, up)
    yield _family("service_running", "1 while its container runs, well or not.", SERVICE, running)
    yield _family("container_health", "1 for the word it is in.", (*SERVICE, "health"), health)
    for name, text, read in USES:
        yield _family(f"container_{name}", text, SERVICE, [(words, read(use)) for words, use in uses])
    for name, text, count in COUNTS:
        samples = [(words, count(seen)) for words, seen in sights]
        yield _family(f"container_{name}", text, SERVICE, samples, kind=CounterMetricFamily)


def _family(
    name: str,
    text: str,
    labels: Sequence[str],
    samples: Iterable[tuple[Sequence[str], float | None]],
    kind: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily,
) -> Metric:
    """Return a metric; a sample without a value is left out."""
    made = kind(f"stackyard_{name}", text, labels=labels)
    for words, value in samples:
        if value is not None:
            made.add_metric(words, value)
    return made


def lease_metrics(leases: Sequence[Lease], now: float) -> Iterator[Metric]:
    """Yield the metrics of leases; *now* in seconds since 1970."""
    states = [(lease.environment, _state(lease, now)) for lease in leases]
    kinds = itertools.product(sorted({lease.environment for lease in leases}), STATES)
    yield _family(
        "leases", "Leases by state.", ("environment", "state"), ((kind, states.count(kind)) for kind in kinds)
    )
    for name, text, read in LEASES:
        samples = [((lease.environment, lease.id), read(lease, now)) for lease in leases]
        yield _family(f"lease_{name}", text, LEASE, samples)


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

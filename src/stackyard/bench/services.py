"""
What each service costs and gives: its time to ready, its memory and CPU, its image, and how much it answers.

The stack is one of its own, so nothing else uses it. Rates are of one client on the same host, sharing its processors:
they compare one commit with another, not this host with yours.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stackyard.bench import containers, loads, peers
from stackyard.bench.harness import Arena
from stackyard.bench.records import Findings, Result
from stackyard.docker.records import SERVICE_LABEL
from stackyard.docker.usage import sight
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.bench.options import Plan
    from stackyard.docker import Engine
    from stackyard.stacks.stack import Stack

LISTENING: Final = peers.PORTS
GLANCE: Final = 0.02  # seconds between two looks of the watch
KNOCK: Final = 0.05  # seconds a connection inside the host may take
SAMPLES: Final = {"quick": 200, "default": 500, "full": 1000}  # round trips
SECONDS: Final = {"quick": 1.0, "default": 3.0, "full": 5.0}  # of each load
STARTS: Final = {"quick": 1, "default": 5, "full": 10}


@dataclass(slots=True)
class Watch:
    """
    A thread that looks at a stack while it starts, from the engine and from the services' own network.

    Attributes:
        accepted: Seconds from the start of the watch until each service accepted a connection.
        started: Seconds since 1970 when the engine had started each.
    """

    engine: Engine
    labels: Sequence[str]
    accepted: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _found: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs."""
        thread = threading.Thread(target=self._watch, args=(time.monotonic(),))
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self, began: float) -> None:
        while len(self.accepted) < len(LISTENING) and not self._ended.wait(GLANCE):
            with contextlib.suppress(StackyardError):
                self._look()
            for service, address in self._found.items():
                if service not in self.accepted and _accepts(address, LISTENING[service]):
                    self.accepted[service] = time.monotonic() - began

    def _look(self) -> None:
        if len(self._found) == len(LISTENING):
            return
        for container in self.engine.containers(self.labels):
            service = container.labels.get(SERVICE_LABEL, "")
            if service in LISTENING and service not in self._found:
                self._inspect(service, container.id)

    def _inspect(self, service: str, container: str) -> None:
        # the published port accepts connections before the service listens; the container's own address does not
        facts = self.engine.api.inspect_container(container)
        addresses = [end["IPAddress"] for end in facts["NetworkSettings"]["Networks"].values() if end["IPAddress"]]
        if facts["State"]["Running"] and addresses:
            self._found[service] = addresses[0]
            self.started[service] = _moment(facts["State"]["StartedAt"])


def _accepts(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=KNOCK):
            return True
    except OSError:
        return False


def _moment(text: str) -> float:
    """Read the engine's RFC 3339 time, nanoseconds and all, as seconds since 1970."""
    return dt.datetime.fromisoformat(text).timestamp()


Samples = dict[tuple[str, str], list[float]]


def measure(plan: Plan) -> Findings:
    """
    Start a few stacks and look at every service of them; load the last.

    Raises:
        StackyardError: If there is no engine or no image, or a stack does not start.
    """
    taken: Samples = defaultdict(list)
    notes: list[str] = []
    tool = ""
    with Arena.open(plan.environment, plan.say) as arena:
        for number in range(STARTS[plan.depth]):
            plan.say(f"services: start {number + 1} of {STARTS[plan.depth]}")
            with arena.stack() as stack:
                _start(stack, taken)
                _usage(stack, taken)
                if number == STARTS[plan.depth] - 1:
                    tool = _load(stack, plan, taken, notes)
            _alone(arena, taken, notes)
        _images(arena, taken)
    return Findings(results=tuple(_results(taken, plan, tool)), notes=tuple(notes))


def _alone(arena: Arena, taken: Samples, notes: list[str]) -> None:
    """Measure each service in a testcontainers container of its own; if that cannot be done, note it once."""
    if not peers.available():
        trouble = peers.MISSING
    else:
        trouble = ""
        with arena.stack() as stack:
            try:
                containers.alone(stack, taken)
            except StackyardError as error:
                trouble = f"services by testcontainers: {' '.join(str(error).split())[:240]}"
    if trouble and trouble not in notes:
        notes.append(trouble)


def _start(stack: Stack, taken: Samples) -> None:
    watch = Watch(stack.engine, stack.labels)
    epoch = time.time()
    with watch.watching():
        startup = stack.up()
    for service, moment in watch.started.items():
        taken[service, "started"].append(moment - epoch)
    for service, seconds in watch.accepted.items():
        # the watch looks some fifty times a second; what answered its probe had accepted a connection by then
        taken[service, "accepts"].append(min(seconds, startup.probes.get(service, seconds)))
    for service, seconds in startup.probes.items():
        taken[service, "ready"].append(seconds)


def _usage(stack: Stack, taken: Samples) -> None:
    """Look at each container right after all were ready."""
    total: dict[str, float] = defaultdict(float)
    for container in stack.engine.containers(stack.labels):
        seen, service = sight(stack.engine, container.id), container.labels[SERVICE_LABEL]
        if seen is None or seen.usage is None:
            continue
        memory = stack.engine.memory(container.id)
        figures = {
            "memory": seen.usage.memory,
            "peak": seen.usage.memory_peak,
            "anonymous": None if memory is None else memory.anonymous,
            "limit": seen.usage.memory_limit,
            "cpu": seen.usage.cpu_s,
        }
        for row, value in figures.items():
            if value is not None:
                taken[service, row].append(value)
                total[row] += value
    for row, value in total.items():
        taken["stack", row].append(value)


def _load(stack: Stack, plan: Plan, taken: Samples, notes: list[str]) -> str:
    """Send requests of every kind; return what asked the database."""
    count, seconds, lease = SAMPLES[plan.depth], SECONDS[plan.depth], stack.lease
    tool = ""

    def database() -> None:
        nonlocal tool
        tool, writes, reads = loads.database(lease, seconds)
        taken["postgres", "writes"].append(writes)
        taken["postgres", "reads"].append(reads)

    # a tenth of each goes ahead unmeasured: the first requests pay for connections and caches
    parts: dict[str, Callable[[], Any]] = {
        "database": database,
        "Redis": lambda: taken["redis", "commands"].append(loads.store(lease, seconds)),
        "auth over HTTP": lambda: taken["auth", "http"].extend(_warm(loads.requests(lease.url("auth"), count))),
        "backend over HTTP": lambda: taken["backend", "http"].extend(
            _warm(loads.requests(lease.url("backend"), count))
        ),
        "WebSocket": lambda: taken["backend", "websocket"].extend(_warm(loads.messages(lease, count))),
        "logins": lambda: taken["auth", "logins"].append(loads.logins(lease.url("auth"), seconds)),
    }
    for name, part in parts.items():
        plan.say(f"services: {name}")
        try:
            part()
        except Exception as error:  # noqa: BLE001 - each client library raises what it likes
            kind = "" if isinstance(error, StackyardError) else f"{type(error).__name__}: "
            notes.append(f"the load on {name} failed: {kind}{' '.join(str(error).split())[:240]}")
    return tool


def _warm(samples: Sequence[float]) -> Sequence[float]:
    return samples[len(samples) // 10 :]


def _images(arena: Arena, taken: Samples) -> None:
    from stackyard import images

    named = {reference: service for service, reference in images.references(arena.environment.flavour).items()}
    for image in images.listing():
        if image.reference in named:
            taken[named[image.reference], "image"].append(image.size)


def _results(taken: Samples, plan: Plan, tool: str) -> Iterator[Result]:
    order = {service: number for number, service in enumerate([*LISTENING, "websocket"])} | {"stack": len(taken)}
    for (service, row), samples in sorted(taken.items(), key=lambda item: order.get(item[0][0], len(order))):
        if row == "limit":  # a constant of the Compose file: the rows below are held to it
            continue
        what, unit, better = QUANTITIES[row]
        what = f"{what}, all services' sum" if service == "stack" else what
        made = Result.of(
            samples, suite="services", row=f"{service}-{row}", subject=service,
            what=f"{what}, {tool}" if tool and row in {"writes", "reads"} else what, unit=unit, better=better,
            command=plan.command("services"),
        )  # fmt: skip
        limit = taken.get((service, "limit"))
        yield made.held_to(limit[-1], judged="worst") if limit and row in {"memory", "peak"} else made
    for row in ("peak", "anonymous"):
        for service in LISTENING:
            if (service, row) not in taken:
                yield Result(
                    suite="services", row=f"{service}-{row}", subject=service, what=QUANTITIES[row][0], unit="bytes",
                    reason="this host's control groups do not tell", command=plan.command("services"),
                )  # fmt: skip


QUANTITIES: Final[dict[str, tuple[str, str, Any]]] = {
    "started": ("until the engine had started it", "s", "less"),
    "accepts": ("until it accepted a connection", "s", "less"),
    "ready": ("until its probe passed", "s", "less"),
    "memory": ("memory in use when ready", "bytes", "less"),
    "peak": ("most memory ever in use, page cache included", "bytes", "less"),
    "anonymous": ("memory that cannot be dropped (anonymous and shared)", "bytes", "less"),
    "cpu": ("CPU time until all are ready", "s", "less"),
    "image": ("image, uncompressed", "bytes", "less"),
    "alone-start": ("start-up, a testcontainers container", "s", "less"),
    "alone-removal": ("clean-up, a testcontainers container", "s", "less"),
    "alone-memory": ("memory in use when ready, a testcontainers container", "bytes", "less"),
    "alone-peak": ("most memory ever in use, a testcontainers container", "bytes", "less"),
    "alone-cpu": ("CPU time until ready, a testcontainers container", "s", "less"),
    "writes": ("single-row updates", "1/s", "more"),
    "reads": ("single-row reads", "1/s", "more"),
    "commands": ("SET and GET, an asyncio loop", "1/s", "more"),
    "http": ("GET /healthz, one connection", "s", "less"),
    "websocket": ("WebSocket ping and pong", "s", "less"),
    "logins": ("logins, four at a time", "1/s", "more"),
}

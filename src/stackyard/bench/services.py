"""
What each service costs and does: its time to ready, its memory and CPU, its image, and how many requests it answers.

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
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stackyard.bench import configuration, containers, loads, peers
from stackyard.bench.harness import Arena
from stackyard.bench.methods import description
from stackyard.bench.outcomes import reason_of
from stackyard.bench.records import Findings, Result
from stackyard.docker.records import SERVICE_LABEL
from stackyard.docker.usage import sight
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stackyard.bench.options import Depth, Plan
    from stackyard.docker import Engine
    from stackyard.project.environments import Services
    from stackyard.stacks.environments.stack import Stack

GLANCE: Final = 0.02  # seconds between two looks of the watch
CONNECT_TIMEOUT_S: Final = 0.05  # seconds a connection inside the host may take
SAMPLES: Final = {"quick": 200, "default": 500, "full": 1000}  # round trips
SECONDS: Final = {"quick": 1.0, "default": 3.0, "full": 5.0}  # of each load
STARTS: Final = {"quick": 1, "default": 5, "full": 10}


@dataclass(slots=True)
class Watch:
    """
    A thread that looks at a stack while it starts, from the engine and from the services' own network.

    Attributes:
        listening: The port in the container of each service.
        accepted: Seconds from the start of the watch until each service accepted a connection.
        started: Seconds since 1970 when the engine had started each.
    """

    engine: Engine
    labels: Sequence[str]
    listening: Mapping[str, int]
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
        while len(self.accepted) < len(self.listening) and not self._ended.wait(GLANCE):
            with contextlib.suppress(StackyardError):
                self._look()
            for service, address in self._found.items():
                if service not in self.accepted and _accepts(address, self.listening[service]):
                    self.accepted[service] = time.monotonic() - began

    def _look(self) -> None:
        if len(self._found) == len(self.listening):
            return
        for container in self.engine.containers(self.labels):
            service = container.labels.get(SERVICE_LABEL, "")
            if service in self.listening and service not in self._found:
                self._inspect(service, container.id)

    def _inspect(self, service: str, container: str) -> None:
        # the published port accepts connections before the service listens; the container's own address does not
        facts = self.engine.api.inspect_container(container)
        addresses = [end["IPAddress"] for end in facts["NetworkSettings"]["Networks"].values() if end["IPAddress"]]
        if facts["State"]["Running"] and addresses:
            self._found[service] = addresses[0]
            self.started[service] = dt.datetime.fromisoformat(facts["State"]["StartedAt"]).timestamp()


def _accepts(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


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
        services = arena.environment.services
        with arena.stack() as stack:
            listening = ports_inside(stack)
        for number in range(STARTS[plan.depth]):
            plan.say(f"services: start {number + 1} of {STARTS[plan.depth]}")
            with arena.stack() as stack:
                _start(stack, listening, taken)
                _usage(stack, taken)
                if number == STARTS[plan.depth] - 1:
                    tool = _load(stack, plan, taken, notes)
            _alone(arena, taken, notes)
        _images(arena, taken)
    return Findings(results=tuple(_results(taken, plan, tool, services)), notes=tuple(notes))


def ports_inside(stack: Stack) -> dict[str, int]:
    """Return the port in its container on which each service of *stack* listens; nothing is started."""
    return {name: service["target"] for name, service in description(stack)["services"].items()}


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
                trouble = f"services by testcontainers: {reason_of(error)}"
    if trouble and trouble not in notes:
        notes.append(trouble)


def _start(stack: Stack, listening: Mapping[str, int], taken: Samples) -> None:
    watch = Watch(stack.engine, stack.labels, listening)
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
    clients = _Clients(stack, configuration.read(stack.environment.root), plan.depth, taken)
    for name, part in clients.parts():
        plan.say(f"services: {name}")
        try:
            part()
        except Exception as error:  # noqa: BLE001 - each client library raises what it likes
            kind = "" if isinstance(error, StackyardError) else f"{type(error).__name__}: "
            notes.append(f"the load on {name} failed: {kind}{reason_of(error)}")
    return clients.tool


@dataclass(slots=True)
class _Clients:
    """The loads that the services of one stack can take, by what each speaks; *tool* asked the database."""

    stack: Stack
    told: configuration.Description
    depth: Depth
    taken: Samples
    tool: str = ""

    def parts(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield each load and its name."""
        lease, kinds = self.stack.lease, {"postgresql": self._database, "redis": self._store, "http": self._requests}
        urls, servers = lease.urls(), lease.servers()
        for name, url in urls.items():
            scheme = url.partition(":")[0]
            if scheme in kinds:
                yield f"{name} over HTTP" if scheme == "http" else name, partial(kinds[scheme], name, url)
            elif scheme == "ws":
                yield "WebSocket", partial(self._messages, servers[name], url)
        if self.told.accounts:
            yield "logins", partial(self._logins, self.told.accounts)

    def _database(self, name: str, url: str) -> None:
        self.tool, writes, reads = loads.database(url, self.stack.lease.directory, SECONDS[self.depth])
        self.taken[name, "writes"].append(writes)
        self.taken[name, "reads"].append(reads)

    def _store(self, name: str, url: str) -> None:
        self.taken[name, "commands"].append(loads.store(url, SECONDS[self.depth]))

    def _requests(self, name: str, url: str) -> None:
        self.taken[name, "http"].extend(_warm(loads.requests(url, self.told.health, SAMPLES[self.depth])))

    def _messages(self, name: str, url: str) -> None:
        token, accounts = "", self.told.accounts
        if accounts:
            token = loads.token(self.stack.lease.url(accounts.service), accounts, "bench-websocket")
        sent = loads.messages(url, SAMPLES[self.depth], token=token, greeting=self.told.greeting)
        self.taken[name, "websocket"].extend(_warm(sent))

    def _logins(self, accounts: configuration.Accounts) -> None:
        url = self.stack.lease.url(accounts.service)
        self.taken[accounts.service, "logins"].append(loads.logins(url, accounts, SECONDS[self.depth]))


def _warm(samples: Sequence[float]) -> Sequence[float]:
    """Leave a tenth out: the first requests pay for connections and caches."""
    return samples[len(samples) // 10 :]


def _images(arena: Arena, taken: Samples) -> None:
    from stackyard import images

    named = {reference: service for service, reference in images.references(arena.environment.flavour).items()}
    for image in images.listing():
        if image.reference in named:
            taken[named[image.reference], "image"].append(image.size)


def _results(taken: Samples, plan: Plan, tool: str, services: Services) -> Iterator[Result]:
    order = {service: number for number, service in enumerate(services.names)} | {"stack": len(taken)}
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
        for service in services.published:
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

"""
Many stacks at once from one process, by stackyard and by others: every one up before the first is removed.

Threads start them, as one build server would, twice as many as may start at a time; the turns do the rest. What is
counted is the wall time until the last is ready, what each took, what all of them use, and what is left of them:
containers, networks, volumes, listening ports, leases.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stackyard._util.tables import format_count, format_seconds
from stackyard.bench import methods
from stackyard.bench.harness import Arena
from stackyard.bench.host_memory import free_memory
from stackyard.bench.outcomes import one_line
from stackyard.bench.records import Findings, Result
from stackyard.docker.records import LEASE_LABEL
from stackyard.errors import StackyardError
from stackyard.settings import Settings
from stackyard.stacks.environments.launch import launch
from stackyard.stacks.starts import queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stackyard.bench.methods import Starter
    from stackyard.bench.options import Plan
    from stackyard.leases import Lease
    from stackyard.stacks.environments.stack import Stack

WORKERS: Final = 4  # removals at a time; more gain nothing, the engine removes one after another
CURVE: Final = (1, 3, 10, 30, 50)
OTHERS: Final = 10  # stacks at once that the other ways are asked for at most; they take long
# The promises, of fifty stacks on two processors; fewer stacks have to keep them all the more.
ALL_READY_S: Final = 55.0
ALL_GONE_S: Final = 20.0
GROWTH: Final = 1.3
MARKED: Final = 50  # stacks for which the wall times are promised
OWN_ONLY: Final = frozenset({"wait", "cost", "clashes", "left"})  # what another way has nothing to do with
TOO_FEW: Final = "too few stacks ran, or some of them failed"
FEWEST: Final = 5  # stacks whose memory stands out from what else comes and goes on a host


@dataclass(slots=True, kw_only=True)
class Place:
    """
    One stack of a crowd.

    Attributes:
        number: Which, from 1.
        stack: Itself; None if it did not start.
        up: Seconds from its turn to start until all its probes had passed.
        waited: Seconds until its turn came.
        ready: Seconds from the crowd's beginning until then.
        memory: Bytes its containers use, as `docker stats` counts them.
        down: Seconds its removal took.
        failure: Why it failed; empty if it did not.
    """

    number: int
    stack: Stack | None = None
    up: float | None = None
    waited: float | None = None
    ready: float | None = None
    memory: int | None = None
    down: float | None = None
    failure: str = ""


@dataclass(slots=True, kw_only=True)
class Crowd:
    """
    How one crowd did.

    Attributes:
        wall_up: Seconds until the last was ready.
        wall_down: Seconds until the last was gone.
        host_bytes: Bytes the host had less while all of them ran.
        left: What is left of them, by kind.
        clashes: Ports that two of them had.
    """

    places: list[Place]
    wall_up: float = 0.0
    wall_down: float = 0.0
    host_bytes: int = 0
    left: dict[str, int] = field(default_factory=dict)
    clashes: int = 0

    @property
    def size(self) -> int:
        """How many stacks were asked for."""
        return len(self.places)

    @property
    def failures(self) -> list[str]:
        """Why those that failed did."""
        return [place.failure for place in self.places if place.failure]


def measure(plan: Plan, others: Sequence[Starter] | None = None) -> Findings:
    """
    Measure one crowd of `plan.stacks`, or, with depth full, crowds of 1, 3, 10, 30 and 50; then one by each other way.

    Raises:
        StackyardError: If there is no engine or no image; a stack that fails is counted as failed.
    """
    sizes = [size for size in CURVE if size < plan.stacks] if plan.depth == "full" else []
    found = Findings()
    costs: dict[int, float] = {}
    with Arena.open(plan.environment, plan.say) as arena:
        with arena.stack() as stack:
            stack.up()  # what only the first start on a host pays is no part of a crowd's cost
        for size in (*sizes, plan.stacks):
            crowd = stand(arena, size, plan.say)
            found += Findings(results=tuple(results(crowd, plan)), notes=tuple(_told(crowd)))
            costs[size] = crowd.wall_up / size
        for way in methods.whole() if others is None else others:
            crowd = stand(arena, min(plan.stacks, OTHERS), plan.say, way)
            found += Findings(results=tuple(results(crowd, plan, way)), notes=tuple(_told(crowd, way)))
    return found + Findings(results=tuple(_growth(costs, plan)))


def stand(arena: Arena, size: int, say: Callable[[str], None], way: Starter | None = None) -> Crowd:
    """
    Start *size* stacks, look at them, remove them, and look for what is left.

    stackyard's own `launch` starts them, or else *way*, which gets its leases beforehand.
    """
    crowd = Crowd(places=[Place(number=number + 1) for number in range(size)])
    leases = len(arena.book.leases())
    with _prepared(arena, crowd, way):
        free = free_memory()
        try:
            crowd.wall_up = _timed(
                lambda began: _each(lambda place: _up(arena, place, began, way), crowd.places, _starters())
            )
            say(f"{_named(crowd, way)}: ready after {format_seconds(crowd.wall_up)}, {len(crowd.failures)} failed")
            crowd.host_bytes = free - free_memory()
            crowd.clashes = _clashes(place.stack.lease for place in crowd.places if place.stack)
            _each(lambda place: _look(place, way), crowd.places)
        finally:
            crowd.wall_down = _timed(lambda _: _each(lambda place: _down(place, way), crowd.places))
    crowd.left = leftovers(arena, crowd, leases)
    say(f"{_named(crowd, way)}: gone after {format_seconds(crowd.wall_down)}, left: {sum(crowd.left.values())}")
    return crowd


def _named(crowd: Crowd, way: Starter | None) -> str:
    return format_count(crowd.size, "stack") + (f" by {way.subject}" if way else "")


@contextlib.contextmanager
def _prepared(arena: Arena, crowd: Crowd, way: Starter | None) -> Iterator[None]:
    """Lease places for another way and let it get ready; what it leaves behind is removed with the block."""
    if way is None:
        yield
        return
    with contextlib.ExitStack() as undo:
        stacks = [undo.enter_context(arena.stack()) for _ in crowd.places]
        undo.enter_context(way.surroundings(methods.as_written(stacks[0])))
        for place, stack in zip(crowd.places, stacks, strict=True):
            way.prepare(stack)
            place.stack = stack
        yield


def _timed(work: Callable[[float], None]) -> float:
    began = time.monotonic()
    work(began)
    return time.monotonic() - began


def _starters() -> int:
    """Return how many to ask for at a time: the next have their leases by then, and an interrupt need not wait long."""
    return 2 * (queue.places(Settings.load()) or WORKERS)


def _each(work: Callable[[Place], None], places: Sequence[Place], workers: int = WORKERS) -> None:
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for _ in pool.map(work, places):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)  # interrupted: begin nothing new
            raise


def _up(arena: Arena, place: Place, began: float, way: Starter | None) -> None:
    asked = time.monotonic()
    try:
        if way and place.stack:
            way.up(place.stack)
            place.up = time.monotonic() - asked
        else:
            place.stack, startup = launch(arena.environment, arena.book, arena.engine)
            place.up, place.waited = startup.seconds, startup.waited
    except StackyardError as error:
        place.failure = one_line(error)
        return
    place.ready = time.monotonic() - began


def _look(place: Place, way: Starter | None) -> None:
    with contextlib.suppress(StackyardError):
        place.memory = (way or methods.Own()).memory(place.stack) if place.stack else None


def _down(place: Place, way: Starter | None) -> None:
    if place.stack is None or (way and place.failure):
        return  # what another way left half done is removed with its lease
    began = time.monotonic()
    try:
        if way is None:
            place.stack.down().check()
        else:
            way.down(place.stack)
            methods.prove_gone(place.stack)
    except StackyardError as error:
        place.failure = one_line(error)
        return
    place.down = time.monotonic() - began


def _clashes(leases: Iterable[Lease]) -> int:
    """Count the ports that more than one of *leases* has."""
    ports = [port for lease in leases for port in {*lease.ports.values(), *lease.spare}]
    return len(ports) - len(set(ports))


def leftovers(arena: Arena, crowd: Crowd, leases_before: int) -> dict[str, int]:
    """Count what is left of the crowd's stacks, by kind; leases are counted against those there were before."""
    ours = {place.stack.lease.id for place in crowd.places if place.stack}
    ports = {port for place in crowd.places if place.stack for port in place.stack.lease.ports.values()}
    found = [item for item in arena.engine.everything([LEASE_LABEL]) if item.labels.get(LEASE_LABEL) in ours]
    kinds = {f"{kind}s": sum(item.kind == kind for item in found) for kind in ("container", "network", "volume")}
    return kinds | {
        "listening ports": len(ports & _listening()),
        "leases": max(0, len(arena.book.leases()) - leases_before),
    }


def _listening() -> set[int]:
    import psutil

    links = psutil.net_connections("tcp")
    return {link.laddr.port for link in links if link.status == psutil.CONN_LISTEN and link.laddr}


def results(crowd: Crowd, plan: Plan, way: Starter | None = None) -> list[Result]:
    """Return the crowd's figures as results, each with the crowd's size; only stackyard's own have targets."""
    size, failed = crowd.size, len(crowd.failures)
    seen = [crowd.host_bytes / size] if size >= FEWEST and not failed else []
    ups = [place.up for place in crowd.places if place.up is not None]
    waits = [place.waited for place in crowd.places if place.waited is not None]
    downs = [place.down for place in crowd.places if place.down is not None]
    used = [place.memory for place in crowd.places if place.memory is not None]
    promised = size <= MARKED and way is None
    rows: list[tuple[str, str, str, Sequence[float], float | None]] = [
        ("start", "start-up of each", "s", ups, None),
        ("wait", "wait of each for its turn to start", "s", waits, None),
        ("wall-up", "until all are ready", "s", [crowd.wall_up], ALL_READY_S if promised else None),
        ("cost", "one stack's share of the time until all are ready", "s", [crowd.wall_up / size], None),
        ("removal", "clean-up of each", "s", downs, None),
        ("wall-down", "until all are gone", "s", [crowd.wall_down], ALL_GONE_S if promised else None),
        ("memory", "memory of each, its containers alone", "bytes", used, None),
        ("host-memory", "memory of the host for each, in all", "bytes", seen, None),
        ("failed", "stacks that failed", "", [failed], 0 if way is None else None),
        ("clashes", "ports given to two stacks at once", "", [crowd.clashes], 0),
        ("left", "things left behind", "", [sum(crowd.left.values())], 0),
    ]
    if way is not None:
        rows = [row for row in rows if row[0] not in OWN_ONLY]
    return [
        Result.of(
            samples, suite="parallel", row=f"{f'{way.name}-' if way else ''}{row}-{size}",
            subject=way.subject if way else "stackyard", what=what, unit=unit, at=size, target=target,
            command=plan.command("parallel"), failed=failed if row == "start" else 0,
            **({} if samples else {"reason": TOO_FEW}),
        )
        for row, what, unit, samples, target in rows
    ]  # fmt: skip


def _growth(costs: dict[int, float], plan: Plan) -> list[Result]:
    """Compare a stack's share of the time in the largest crowd with what one stack alone takes."""
    first, last = min(costs), max(costs)
    if first != 1 or last == 1:
        return []
    return [
        Result.of(
            [costs[last] / costs[first]], suite="parallel", row="growth", subject="stackyard",
            what=f"a stack's share of the time among {last}, compared with one alone", unit="x", target=GROWTH,
            command=plan.command("parallel"),
        )
    ]  # fmt: skip


def _told(crowd: Crowd, way: Starter | None = None) -> list[str]:
    left = ", ".join(format_count(count, kind[:-1]) for kind, count in crowd.left.items() if count)
    notes = [f"{_named(crowd, way)} at once: one failed: {reason[:240]}" for reason in crowd.failures[:3]]
    return [*notes, *([f"{_named(crowd, way)} at once left {left}"] if left else [])]

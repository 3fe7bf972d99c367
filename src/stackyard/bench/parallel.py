"""
Many stacks at once from one process: every one up before the first is removed.

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

from stackyard import turns
from stackyard.bench.arena import Arena
from stackyard.bench.records import Findings, Result
from stackyard.errors import StackyardError
from stackyard.launch import launch
from stackyard.ownership import LEASE_LABEL
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stackyard.bench.plans import Plan
    from stackyard.leases import Lease
    from stackyard.stacks import Stack

WORKERS: Final = 4  # removals at a time; more gain nothing, the engine removes one after another
CURVE: Final = (1, 3, 10, 30, 50)
# The promises, of fifty stacks on two processors; fewer stacks have to keep them all the more.
ALL_READY_S: Final = 45.0
ALL_GONE_S: Final = 15.0
GROWTH: Final = 1.3
STACK_BYTES: Final = 70_000_000
MARKED: Final = 50  # stacks for which the wall times are promised
TOO_FEW: Final = "too few stacks, or not all of them, stood"
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
        places: Its stacks.
        wall_up: Seconds until the last was ready.
        wall_down: Seconds until the last was gone.
        host_bytes: Bytes the host had less while all of them stood.
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


def measure(plan: Plan) -> Findings:
    """
    Measure one crowd of `plan.stacks`, or, with depth full, crowds of 1, 3, 10, 30 and 50.

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
    return found + Findings(results=tuple(_growth(costs, plan)))


def stand(arena: Arena, size: int, say: Callable[[str], None]) -> Crowd:
    """Start *size* stacks, look at them, remove them, and look for what is left."""
    crowd = Crowd(places=[Place(number=number + 1) for number in range(size)])
    leases = len(arena.book.leases())
    free = _available()
    try:
        crowd.wall_up = _timed(lambda began: _each(lambda place: _up(arena, place, began), crowd.places, _starters()))
        say(f"{size} stacks: ready after {crowd.wall_up:.1f} s, {len(crowd.failures)} failed")
        crowd.host_bytes = free - _available()
        crowd.clashes = _clashes(place.stack.lease for place in crowd.places if place.stack)
        _each(_look, crowd.places)
    finally:
        crowd.wall_down = _timed(lambda _: _each(_down, crowd.places))
    crowd.left = leftovers(arena, crowd, leases)
    say(f"{size} stacks: gone after {crowd.wall_down:.1f} s, left: {sum(crowd.left.values())}")
    return crowd


def _timed(work: Callable[[float], None]) -> float:
    began = time.monotonic()
    work(began)
    return time.monotonic() - began


def _starters() -> int:
    """Return how many to ask for at a time: the next have their leases by then, and an interrupt need not wait long."""
    return 2 * (turns.places(Settings.load()) or WORKERS)


def _each(work: Callable[[Place], None], places: Sequence[Place], workers: int = WORKERS) -> None:
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for _ in pool.map(work, places):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)  # interrupted: begin no more of it
            raise


def _up(arena: Arena, place: Place, began: float) -> None:
    try:
        place.stack, startup = launch(
            arena.environment, arena.book, arena.engine, fixed="never", progress=lambda _: None
        )
    except StackyardError as error:
        place.failure = " ".join(str(error).split())
        return
    place.ready = time.monotonic() - began
    place.up, place.waited = startup.seconds, startup.waited


def _look(place: Place) -> None:
    with contextlib.suppress(StackyardError):
        uses = list(place.stack.memory().values()) if place.stack else []
        place.memory = sum(use.used for use in uses if use) if uses and all(uses) else None


def _down(place: Place) -> None:
    if place.stack is None:
        return
    began = time.monotonic()
    try:
        place.stack.down().check()
    except StackyardError as error:
        place.failure = " ".join(str(error).split())
        return
    place.down = time.monotonic() - began


def _available() -> int:
    import psutil  # noqa: PLC0415 - 15 ms that only a benchmark pays

    return int(psutil.virtual_memory().available)


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
    import psutil  # noqa: PLC0415 - as above

    links = psutil.net_connections("tcp")
    return {link.laddr.port for link in links if link.status == psutil.CONN_LISTEN and link.laddr}


def results(crowd: Crowd, plan: Plan) -> list[Result]:
    """Return the crowd's figures as results, each with the crowd's size."""
    size, failed = crowd.size, len(crowd.failures)
    seen = [crowd.host_bytes / size] if size >= FEWEST and not failed else []
    ups = [place.up for place in crowd.places if place.up is not None]
    waits = [place.waited for place in crowd.places if place.waited is not None]
    downs = [place.down for place in crowd.places if place.down is not None]
    used = [place.memory for place in crowd.places if place.memory is not None]
    promised = size <= MARKED
    rows: list[tuple[str, str, str, Sequence[float], float | None]] = [
        ("start", "start-up of each", "s", ups, None),
        ("wait", "wait of each for its turn to start", "s", waits, None),
        ("wall-up", "until all are ready", "s", [crowd.wall_up], ALL_READY_S if promised else None),
        ("cost", "one stack's share of the time until all are ready", "s", [crowd.wall_up / size], None),
        ("removal", "clean-up of each", "s", downs, None),
        ("wall-down", "until all are gone", "s", [crowd.wall_down], ALL_GONE_S if promised else None),
        ("memory", "memory of each, its containers alone", "bytes", used, None),
        ("host-memory", "memory the host gave for each, all told", "bytes", seen, STACK_BYTES),
        ("failed", "stacks that failed", "", [failed], 0),
        ("clashes", "ports given to two stacks at once", "", [crowd.clashes], 0),
        ("left", "things left behind", "", [sum(crowd.left.values())], 0),
    ]
    return [
        Result.of(
            samples, suite="parallel", row=f"{row}-{size}", subject="stacks at once", what=what, unit=unit,
            at=size, target=target, command=plan.command("parallel"),
            failed=failed if row == "start" else 0, **({} if samples else {"reason": TOO_FEW}),
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
            what=f"a stack's share of the time among {last}, beside one alone", unit="x", target=GROWTH,
            command=plan.command("parallel"),
        )
    ]  # fmt: skip


def _told(crowd: Crowd) -> list[str]:
    left = ", ".join(f"{count} {kind}" for kind, count in crowd.left.items() if count)
    notes = [f"{crowd.size} stacks at once: a stack failed: {reason[:240]}" for reason in crowd.failures[:3]]
    return [*notes, *([f"{crowd.size} stacks at once left {left}"] if left else [])]

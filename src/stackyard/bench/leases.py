"""
Suite leases: leases compared with the other ways to get ports, and what a lease costs.

Peers: for each way, *size* processes are started and wait; then all take ten ports at once and hold them until the last
has answered. Counted is how many of them share a port with another one. Rounds of all the ways are interleaved, and the
time is that of the quickest round, because other work on the machine only adds to it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from stackyard.bench import port_pickers
from stackyard.bench.barrier import processes_at_once
from stackyard.bench.records import Findings, Result
from stackyard.bench.stats import percentile
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackyard.bench.options import Depth, Plan

SIZE: Final = 50  # processes, as many as the default pool has slots
PORTS: Final = 10
CONTENDING: Final = 16
LEASES_PER_PROCESS: Final = 40  # leases that each contending process takes and gives back
CONTENDED_S: Final = 0.05  # 99th percentile of sixteen processes at once
ALONE_S: Final = 0.003
BURST: Final = 4.0  # as long as idle interpreters take
ROUNDS: Final[dict[Depth, int]] = {"quick": 1, "default": 3, "full": 5}

LATENCY: Final = """
import fcntl, json, sys, time
from stackyard.project.environments import Environment
from stackyard.leases import LeaseBook
from stackyard.settings import Settings
book, environment = LeaseBook(Settings.load()), Environment.load("test")
book.release(book.acquire(environment, force=True))
print("ready", flush=True)
with open(sys.argv[1]) as gate:
    fcntl.flock(gate, fcntl.LOCK_SH)
taken = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    book.release(book.acquire(environment, force=True))
    taken.append(time.perf_counter() - start)
print(json.dumps(taken), flush=True)
"""


def measure(plan: Plan) -> Findings:
    """Compare leases with other ways to get ports, and time them; peers that are not installed are left out."""
    plan.say("leases: fifty processes at once, by every way")
    rounds, size = plan.rounds or ROUNDS[plan.depth], min(plan.parallel or SIZE, SIZE)
    alone, contending = (
        latencies(1, LEASES_PER_PROCESS * 5, rounds=rounds),
        latencies(CONTENDING, LEASES_PER_PROCESS, rounds=rounds),
    )
    results = [
        *_port_conflicts(size, rounds),
        *_costs(alone, contending),
        _burst_result(burst_ratio(size, rounds=rounds), size),
    ]
    return Findings(results=tuple(replace(one, command=plan.command("leases")) for one in results))


def _port_conflicts(size: int, rounds: int) -> Iterator[Result]:
    found = [name for name in port_pickers.CONTENDERS if find_spec(port_pickers.MODULES.get(name, "json"))]
    for way in compare(found, size=size, rounds=rounds):
        target = 0 if way.name == "stackyard" else None
        fields = {"suite": "leases", "subject": way.name, "failed": way.failed}
        yield Result.of(
            [way.sharing], row=f"sharing-{way.name}", what="processes that share a port", unit="", target=target,
            **fields,
        )  # fmt: skip
        yield Result.of(
            [way.seconds], row=f"seconds-{way.name}", what="wall time of the quickest round", unit="s", **fields
        )  # fmt: skip


def _costs(alone: Sequence[float], contending: Sequence[float]) -> Iterator[Result]:
    yield _cost("alone", "acquire and release, one process", alone).held_to(ALONE_S)
    together = _cost("contending", "acquire and release, sixteen processes at once", contending)
    yield together
    yield Result.of(
        [] if together.p99 is None else [together.p99], suite="leases", row="contending-p99", subject="stackyard",
        what=f"{together.what}, 99th percentile", unit="s", target=CONTENDED_S,
    )  # fmt: skip


def _cost(row: str, what: str, samples: Sequence[float]) -> Result:
    """Return the result of hundreds of samples, which would make the history too large."""
    ordered = sorted(samples)
    return Result(
        suite="leases", row=row, subject="stackyard", what=what, unit="s", median=statistics.median(ordered),
        p95=percentile(ordered, 95), p99=percentile(ordered, 99), reason=f"{len(ordered)} samples, not kept",
    )  # fmt: skip


def _burst_result(ratio: float, size: int) -> Result:
    return Result.of(
        [ratio], suite="leases", row="burst", subject=f"{size} allocating commands at once",
        what="wall time / that of as many idle interpreters", unit="x", target=BURST,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    How one way of getting ports did.

    Attributes:
        name: The way.
        sharing: Processes that had a port another one had too, in the worst round.
        failed: Processes that got no ports at all, in the worst round.
        seconds: Wall time of the quickest round, from the common start signal to the last answer.
    """

    name: str
    sharing: int
    failed: int
    seconds: float


def compare(names: Sequence[str], *, size: int = SIZE, rounds: int = 3, python: str = sys.executable) -> list[Outcome]:
    """Let each of *names* (keys of `port_pickers.CONTENDERS`) serve *size* processes at once, *rounds* times."""
    results: dict[str, list[Outcome]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            results[name].append(_round(name, size, python))
    return [_merged(results[name]) for name in names]


def _round(name: str, size: int, python: str) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        argv = [python, port_pickers.__file__, name, f"{folder}/gate", str(PORTS), folder]
        with processes_at_once(argv, size, Path(folder) / "gate", _environment(folder)) as (children, opened):
            lines = [child.stdout.readline() if child.stdout else "" for child in children]
            seconds = time.monotonic() - opened
    answers: list[list[int]] = [json.loads(line) for line in lines if line.strip()]
    holders = Counter(port for ports in answers for port in set(ports))
    sharing = sum(len(set(ports)) < len(ports) or any(holders[port] > 1 for port in ports) for ports in answers)
    return Outcome(name=name, sharing=sharing, failed=size - len(answers), seconds=seconds)


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        name=outcomes[0].name, sharing=max(o.sharing for o in outcomes),
        failed=max(o.failed for o in outcomes), seconds=min(o.seconds for o in outcomes),
    )  # fmt: skip


def latencies(processes: int, pairs: int, *, rounds: int = 3) -> list[float]:
    """
    Time acquire and release together, in seconds, in *processes* at once, *pairs* in each; the best round counts.

    The best round is the one with the lowest median: other work on the machine only ever adds to it.
    """
    return min((_latencies(processes, pairs) for _ in range(rounds)), key=statistics.median)


def _latencies(processes: int, pairs: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-c", LATENCY, f"{folder}/gate", str(pairs)]
        with processes_at_once(argv, processes, Path(folder) / "gate", _environment(folder)) as (children, _):
            lines = [child.stdout.readline() if child.stdout else "[]" for child in children]
    return [sample for line in lines for sample in json.loads(line)]


def burst_ratio(size: int = SIZE, *, rounds: int = 3) -> float:
    """
    Return how much longer *size* allocating commands at once take than *size* idle interpreters, as a ratio.

    It is the median of *rounds*, in which both are timed in turn. One command goes first, so that the others find a
    book and what is kept of the environment, as on a host in use.
    """
    script = str(project_root() / "scripts" / "allocate_test_ports.py")
    argv, ratios = [sys.executable, script, "--force", "--parallel-id"], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            _burst([[*argv, "first"]], folder)
            _burst([[*argv, "first", "--release"]], folder)
            idle = _burst([[sys.executable, "-c", "pass"]] * size, folder)
            ratios.append(_burst([[*argv, f"job-{n}"] for n in range(size)], folder) / idle)
    return statistics.median(ratios)


def _burst(many: Sequence[Sequence[str]], folder: str) -> float:
    started = time.monotonic()
    env = _environment(folder)
    children = [
        subprocess.Popen(argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 - our own programs
        for argv in many
    ]
    codes = [child.wait() for child in children]
    seconds = time.monotonic() - started
    if any(codes):
        raise subprocess.CalledProcessError(max(codes), many[0])
    return seconds


def _environment(folder: str) -> Mapping[str, str]:
    """Return variables of a book of its own, so that the host's real leases are neither used nor in the way."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STACKYARD_")}
    own = {"STATE_DIR": f"{folder}/state", "POOL": "20000-20499", "ROOT": str(project_root())}
    return kept | {f"STACKYARD_{key}": value for key, value in own.items()}

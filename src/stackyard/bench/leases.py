"""
Leases beside the other ways to get ports, and what a lease costs.

Peers: for each way, *size* processes are started and wait; then all take ten ports at once and hold them until the last
has answered. Counted is how many of them share a port with another one. Rounds of all the ways are interleaved, and the
time is that of the quickest round, because other work on the machine only adds to it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard.bench import port_pickers
from stackyard.bench.barrier import crowd
from stackyard.bench.stats import Summary
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIZE: Final = 50  # processes, as many as the default pool has slots
PORTS: Final = 10
CONTENDING: Final = 16
PAIRS: Final = 40  # leases that each contending process takes and gives back

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    How one way of getting ports did.

    Attributes:
        name: The way.
        runs: Processes in a round.
        sharing: Processes that had a port another one had too, in the worst round.
        failed: Processes that got no ports at all, in the worst round.
        seconds: Wall time of the quickest round, from the moment all were let go to the last answer.
    """

    name: str
    runs: int
    sharing: int
    failed: int
    seconds: float


def compare(names: Sequence[str], *, size: int = SIZE, rounds: int = 3, python: str = sys.executable) -> list[Outcome]:
    """
    Let each of *names* (keys of `contenders.CONTENDERS`) serve *size* processes at once, *rounds* times.

    Args:
        names: The ways to compare.
        size: Processes.
        rounds: How often; the rounds of all the ways are interleaved.
        python: The interpreter that they run in.
    """
    results: dict[str, list[Outcome]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            results[name].append(_round(name, size, python))
    return [_merged(results[name]) for name in names]


def _round(name: str, size: int, python: str) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        words = [python, port_pickers.__file__, name, f"{folder}/gate", str(PORTS), folder]
        with crowd(words, size, Path(folder) / "gate", _environment(folder)) as (children, opened):
            lines = [child.stdout.readline() if child.stdout else "" for child in children]
            seconds = time.monotonic() - opened
    answers: list[list[int]] = [json.loads(line) for line in lines if line.strip()]
    holders = Counter(port for ports in answers for port in set(ports))
    sharing = sum(len(set(ports)) < len(ports) or any(holders[port] > 1 for port in ports) for ports in answers)
    return Outcome(name=name, runs=size, sharing=sharing, failed=size - len(answers), seconds=seconds)


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    first = outcomes[0]
    return Outcome(
        name=first.name, runs=first.runs, sharing=max(o.sharing for o in outcomes),
        failed=max(o.failed for o in outcomes), seconds=min(o.seconds for o in outcomes),
    )  # fmt: skip


def latency(processes: int, pairs: int, *, rounds: int = 3) -> Summary:
    """
    Time acquire and release together, in seconds, in *processes* at once, *pairs* in each; the best round counts.

    The best round is the one with the least median: other work on the machine only ever adds to it.
    """
    return min((_latencies(processes, pairs) for _ in range(rounds)), key=lambda summary: summary.median)


def _latencies(processes: int, pairs: int) -> Summary:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", LATENCY, f"{folder}/gate", str(pairs)]
        with crowd(words, processes, Path(folder) / "gate", _environment(folder)) as (children, _):
            lines = [child.stdout.readline() if child.stdout else "[]" for child in children]
    return Summary.of([sample for line in lines for sample in json.loads(line)], "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """
    Commands started at the same moment, beside interpreters that do nothing.

    Attributes:
        size: How many of each.
        seconds: Wall time until the last command has ended, median of the rounds.
        idle_seconds: The same for ``python -c pass``.
        ratio: The one by the other.
    """

    size: int
    seconds: float
    idle_seconds: float
    ratio: float


def commands(size: int = SIZE, *, rounds: int = 3) -> Commands:
    """
    Time *size* allocating commands at once, and *size* idle interpreters, *rounds* times in turn.

    One command goes first, so that the others find a book and what is kept of the environment, as on a host in use.
    """
    script = str(project_root() / "scripts" / "allocate_test_ports.py")
    idle, busy = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, script, "--force", "--parallel-id"]
            _burst([[*words, "first"]], folder)
            _burst([[*words, "first", "--release"]], folder)
            idle.append(_burst([[sys.executable, "-c", "pass"]] * size, folder))
            busy.append(_burst([[*words, f"job-{n}"] for n in range(size)], folder))
    seconds, idle_seconds = statistics.median(busy), statistics.median(idle)
    ratio = statistics.median(b / i for b, i in zip(busy, idle, strict=True))
    return Commands(size=size, seconds=seconds, idle_seconds=idle_seconds, ratio=ratio)


def _burst(many: Sequence[Sequence[str]], folder: str) -> float:
    started = time.monotonic()
    env = _environment(folder)
    children = [
        subprocess.Popen(words, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 - our own programs
        for words in many
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


def measure(*, rounds: int = 3, size: int = SIZE) -> dict[str, Any]:
    """
    Do all of it and return it as plain data; peers that are not installed are left out.

    Args:
        rounds: How often each part is done.
        size: Processes of the comparison.
    """
    names = [
        name for name in port_pickers.CONTENDERS if importlib.util.find_spec(port_pickers.MODULES.get(name, "json"))
    ]
    before = os.getloadavg()[0]
    return {
        "rounds": rounds,
        "cpus": os.cpu_count(),
        "load_before": before,
        "peers": [asdict(outcome) for outcome in compare(names, size=size, rounds=rounds)],
        "alone": latency(1, PAIRS * 5, rounds=rounds).to_json(),
        "contending": latency(CONTENDING, PAIRS, rounds=rounds).to_json() | {"processes": CONTENDING},
        "commands": asdict(commands(size, rounds=rounds)),
    }

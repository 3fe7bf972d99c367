"""Made-up stacks for the benchmarks: they start and end on command."""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lease_records import SERVICES

from stackyard.bench.records import Machine, Result, Run
from stackyard.docker import MemoryUse, Resource
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.errors import StackyardError

PROJECT = Path(__file__).parents[2]
MACHINE = Machine(
    cpus=2, cpu="Cpu 3000", memory_bytes=25_000_000_000, kernel="6.1.0", system="Debian 12", engine="26.1.5",
    compose="2.26.1", python="3.11.2", load=0.5, pressure=12.0, packet_filter="iptables-legacy",
)  # fmt: skip
STEPS = {"render": (0.0, 0.01), "start backend": (0.1, 0.4)}


class FakeStack:
    """A stack that stands between `up` and `down`; *trouble* is raised by `up`."""

    def __init__(self, arena: FakeArena, number: int) -> None:
        self.arena, self.engine, self.labels = arena, arena.engine, [f"stackyard.lease=l{number}"]
        self.lease: Any = SimpleNamespace(
            id=f"l{number}", ports={"postgres": 40000 + 10 * number}, spare=(40001 + 10 * number,),
            subnet="10.0.0.0/28", directory=arena.folder, env_file=arena.folder / ".env",
        )  # fmt: skip
        self.environment = arena.environment

    def up(self) -> Startup:
        self.arena.calls.append(f"up {self.lease.id}")
        if self.arena.trouble:
            raise self.arena.trouble.pop()
        time.sleep(self.arena.delay)
        probes = {"postgres": 0.45, "backend": 0.5, "websocket": 0.55}
        return Startup(seconds=0.55, created=0.4, probes=probes, steps=STEPS)

    def down(self) -> Any:
        self.arena.calls.append(f"down {self.lease.id}")
        return SimpleNamespace(check=lambda: None)


class FakeArena:
    """Gives stacks out, and notes what is done to them."""

    def __init__(self, folder: Path, *, delay: float = 0.0) -> None:
        self.folder, self.delay = folder, delay
        self.calls: list[str] = []
        self.trouble: list[StackyardError] = []
        self.left: list[Resource] = []
        self.engine: Any = SimpleNamespace(
            everything=lambda _labels: self.left, containers=lambda _labels: [left_container("l0")],
            memory=lambda _id: MemoryUse(used=30 << 20, anonymous=10 << 20, limit=96 << 20),
        )  # fmt: skip
        self.book: Any = SimpleNamespace(leases=list)
        self.environment: Any = SimpleNamespace(
            name="test", flavour="debian", variables={}, root=PROJECT, services=SERVICES
        )
        self._numbers = itertools.count()

    def new(self) -> FakeStack:
        return FakeStack(self, next(self._numbers))

    @contextlib.contextmanager
    def stack(self) -> Iterator[FakeStack]:
        stack = self.new()
        yield stack
        stack.down()

    @contextlib.contextmanager
    def open(self, _name: str, _say: Any) -> Iterator[FakeArena]:
        yield self


def left_container(lease: str) -> Resource:
    return Resource(kind="container", id="c1", name="forgotten", labels={"stackyard.lease": lease})


def result(suite: str, row: str, *samples: float, **given: Any) -> Result:
    words = {"subject": "stackyard", "what": row, "unit": "s", "command": f"./noxw -s bench -- {suite}"}
    return Result.of(samples, suite=suite, row=row, **(words | given))


def run(*results: Result, identity: str = "a1b2c3d4e5f6", commit: str | None = "c0ffee" * 6, **given: Any) -> Run:
    words: dict[str, Any] = {
        "when": "2026-11-23T16:00:00+00:00", "changed": False, "release": "0.1.0", "seconds": 9.5, "machine": MACHINE,
        "suites": tuple(dict.fromkeys(item.suite for item in results)), "depth": "quick",
    }  # fmt: skip
    return Run(id=identity, commit=commit, results=results, **(words | given))

"""Ways to start and remove the same services, each timed as its user sees it."""

from __future__ import annotations

import abc
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import process
from stackyard.bench import configuration, peers
from stackyard.bench.outcomes import one_error
from stackyard.bench.records import Step
from stackyard.errors import LeftoversError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from stackyard.docker import Engine
    from stackyard.stacks.environments.stack import Stack
    from stackyard.stacks.starts.times import Startup

COMMAND_TIMEOUT_S: Final = 120.0  # seconds one start, or one removal, may take
SOONER: Final = "100ms"  # between two of the quickened health checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One start and one removal: seconds until the tool said that all is ready, or gone; bytes in use when ready."""

    up: float
    down: float
    memory: int | None = None
    steps: tuple[Step, ...] = ()


class Starter(abc.ABC):
    """One way: *name* is its row in the results, *subject* its name for a reader."""

    __slots__ = ()
    name: str
    subject: str

    def prepare(self, stack: Stack) -> None:  # noqa: B027 - most ways need nothing
        """Do for *stack* what does not count: a user of this way has done it before."""

    @abc.abstractmethod
    def up(self, stack: Stack) -> tuple[Step, ...]:
        """
        Start the services on the ports, subnet and credentials of *stack*; return the steps, if they are known.

        Raises:
            StackyardError: If that fails.
        """

    @abc.abstractmethod
    def down(self, stack: Stack) -> None:
        """
        Remove what `up` started.

        Raises:
            StackyardError: If that fails.
        """

    def memory(self, stack: Stack) -> int | None:
        """Return the bytes that all containers of this way use now; None if one cannot be read."""
        return used(stack.engine, [item.id for item in stack.engine.containers(stack.labels)])

    @contextlib.contextmanager
    def surroundings(self, variables: Mapping[str, str]) -> Iterator[None]:
        """Yield where this way may run; *variables* are the health checks' timing of the environment's env file."""
        del variables
        yield

    def take(self, stack: Stack) -> Round:
        """
        Start and remove the services once.

        Raises:
            StackyardError: If either fails.
        """
        with self.surroundings(as_written(stack)):
            self.prepare(stack)
            began = time.perf_counter()
            steps = self.up(stack)
            ready = time.perf_counter()
            memory = self.memory(stack)
            ending = time.perf_counter()
            self.down(stack)
            return Round(up=ready - began, down=time.perf_counter() - ending, memory=memory, steps=steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own(Starter):
    """stackyard itself, `Stack.up` and `Stack.down`: all probes passed; removed, listed as gone, lease released."""

    name: str = "stackyard"
    subject: str = "stackyard"

    def up(self, stack: Stack) -> tuple[Step, ...]:
        """Start with all probes passed."""
        return steps_of(stack.up())

    def down(self, stack: Stack) -> None:
        """Remove with the proof that nothing is left, and end the lease."""
        stack.down().check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain(Starter):
    """Plain Compose: `up --wait`, then `down -v`; *variables* are set for it besides the env file."""

    name: str = "compose"
    subject: str = "docker compose up --wait, down -v"
    variables: Mapping[str, str] = field(default_factory=dict)

    def up(self, stack: Stack) -> tuple[Step, ...]:
        """Run `docker compose up --wait`."""
        self._run(stack, "up", "--wait")
        return ()

    def down(self, stack: Stack) -> None:
        """Run `docker compose down -v`."""
        self._run(stack, "down", "-v")

    def _run(self, stack: Stack, *words: str) -> None:
        env = as_written(stack) | dict(self.variables)
        process.run(stack.compose.command(*words), deadline=COMMAND_TIMEOUT_S, env=env)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival(Starter):
    """Another library, one of `peers.RIVALS`; its import is not counted."""

    name: str
    subject: str
    _standing: dict[str, AbstractContextManager[Any]] = field(default_factory=dict, repr=False, compare=False)

    @contextlib.contextmanager
    def surroundings(self, variables: Mapping[str, str]) -> Iterator[None]:
        """Set *variables* for the block, because the library gives its commands no others."""
        with peers.surrounded(variables):
            yield

    def prepare(self, stack: Stack) -> None:
        """Import the library, and describe the services to it."""
        peers.load(self.name)
        self._standing[stack.lease.id] = peers.RIVALS[self.name](description(stack))

    def up(self, stack: Stack) -> tuple[Step, ...]:
        """Enter its block."""
        with one_error(self.subject):
            self._standing[stack.lease.id].__enter__()
        return ()

    def down(self, stack: Stack) -> None:
        """Leave its block."""
        with one_error(self.subject):
            self._standing.pop(stack.lease.id).__exit__(None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIn(Rival):
    """stackyard's drop-in for testcontainers' DockerCompose; its copy has a lease of its own."""

    name: str = "drop-in"
    subject: str = "stackyard.testcontainers, DockerCompose"

    def memory(self, stack: Stack) -> int | None:
        """Return the bytes that the copy's containers use now; None if one cannot be read."""
        standing: Any = self._standing[stack.lease.id]
        return used(stack.engine, [item.ID for item in standing.get_containers()])


def used(engine: Engine, containers: Sequence[str]) -> int | None:
    """Return the bytes that *containers* use now; None if one cannot be read, or there are none."""
    found = [engine.memory(identity) for identity in containers]
    return sum(use.used for use in found if use) if found and all(found) else None


SOONEST: Final = Plain(
    name="compose-100ms", subject="docker compose, health checks every 100 ms",
    variables={"STACKYARD_HEALTH_START_INTERVAL": SOONER, "STACKYARD_HEALTH_INTERVAL": "1s"},
)  # fmt: skip


def whole() -> list[Starter]:
    """Return the other ways to start a whole Compose project, with which every suite compares stackyard."""
    compose = Rival(name="testcontainers-compose", subject="testcontainers, DockerCompose")
    return [SOONEST, *([compose] if peers.available() else [])]


def starters(*, few: bool = False) -> list[Starter]:
    """
    Return the ways to compare, stackyard first; a library that is not installed is left out.

    With *few*, only plain Compose and testcontainers' DockerCompose are compared.
    """
    others = {
        "testcontainers": ("testcontainers, single containers", "testcontainers"),
        "pytest-docker": ("pytest-docker", "pytest_docker"),
    }
    more: list[Starter] = [DropIn()] if peers.available() else []
    more += [Rival(name=name, subject=subject) for name, (subject, module) in others.items() if peers.available(module)]
    return [Own(), Plain(), *whole(), *([] if few else more)]


def steps_of(startup: Startup) -> tuple[Step, ...]:
    """Return the steps of a start, from its wait for a turn on, and each service's way to its probe's pass."""
    taken = dict(startup.steps) | {
        f"ready {service}": (_started(startup, service), took) for service, took in startup.probes.items()
    }
    first = min([0.0, *(begin for begin, _ in taken.values())])
    return tuple(
        Step(name=name, begin=round(begin - first, 4), end=round(end - first, 4))
        for name, (begin, end) in taken.items()
    )


def _started(startup: Startup, service: str) -> float:
    """Return when the container behind *service* ran."""
    step = startup.steps.get(f"start {service}")
    return step[1] if step else startup.created


def as_written(stack: Stack) -> dict[str, str]:
    """
    Return the health checks' timing as the environment's own env file has it.

    A lease's says to ask later, because stackyard does not wait for health checks; the other ways do.
    """
    return {key: value for key, value in stack.environment.variables.items() if key.startswith("STACKYARD_HEALTH_")}


def description(stack: Stack) -> dict[str, Any]:
    """
    Describe the services of *stack* to a library that does not read Compose files; no credential is in it.

    Raises:
        CommandError: If Compose cannot render the file.
        ConfigError: If the project's description for the benchmarks is wrong.
    """
    model = stack.compose.model()
    ports, ready = stack.lease.ports, configuration.read(stack.environment.root).ready
    return {
        "file": str(stack.compose.file),
        "env_file": str(stack.compose.env_file),
        "project": stack.compose.project,
        "subnet": stack.lease.subnet,
        "labels": next(iter(model["services"].values()))["labels"],
        "services": {
            name: {**_service(model["services"][name], model, port), "ready": ready.get(name, configuration.Ready())}
            for name, port in ports.items()
            if name in model["services"]
        },
    }


def _service(row: Mapping[str, Any], model: Mapping[str, Any], port: int) -> dict[str, Any]:
    wanted = ("user", "read_only", "cap_drop", "security_opt", "mem_limit", "memswap_limit", "pids_limit")
    options = {key: row[key] for key in wanted if key in row}
    return {
        "image": row["image"],
        "environment": {key: str(value) for key, value in (row.get("environment") or {}).items()},
        "port": port,
        "target": next(published["target"] for published in row["ports"]),
        "tmpfs": _tmpfs(row),
        "secrets": {model["secrets"][s["source"]]["file"]: s["target"] for s in row.get("secrets") or ()},
        "options": options | {"nano_cpus": int(float(row.get("cpus", 0)) * 1e9)},
    }


def _tmpfs(row: Mapping[str, Any]) -> dict[str, str]:
    named: Sequence[str] = row.get("tmpfs") or ()
    mounts = {path: options for path, _, options in (text.partition(":") for text in named)}
    return mounts | {mount["target"]: "" for mount in row.get("volumes") or () if mount["type"] == "tmpfs"}


def prove_gone(stack: Stack) -> None:
    """
    Make sure that a way's own removal left nothing.

    Raises:
        LeftoversError: If it did; the caller's lease then removes it.
    """
    left = stack.engine.everything(stack.labels)
    if left:
        names = ", ".join(f"{item.kind} {item.name}" for item in left)
        raise LeftoversError(f"{len(left)} left by its own removal: {names}")

"""Ways to start and remove the same four services, each timed as its user sees it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from stackyard import process
from stackyard.bench import rivals
from stackyard.bench.records import Step
from stackyard.errors import LeftoversError
from stackyard.starts import SERVED_BY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.stacks import Stack
    from stackyard.starts import Startup

PATIENCE: Final = 120.0  # seconds one start, or one removal, may take
SOONER: Final = "100ms"  # between two of the quickened health checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """
    One start and one removal.

    Attributes:
        up: Seconds until the caller was told that everything is ready.
        down: Seconds until the caller was told that everything is gone.
        steps: The steps of the start, where its maker tells them.
    """

    up: float
    down: float
    steps: tuple[Step, ...] = ()


class Starter(Protocol):
    """
    One way.

    Attributes:
        name: Its row in the results.
        subject: Its name for a reader.
    """

    @property
    def name(self) -> str:  # noqa: D102 - said above
        ...

    @property
    def subject(self) -> str:  # noqa: D102 - said above
        ...

    def take(self, stack: Stack) -> Round:
        """
        Start the services on the ports, subnet and credentials of *stack*, and remove them.

        Raises:
            StackyardError: If either fails.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """stackyard itself, `Stack.up` and `Stack.down`: all probes passed; removed, listed as gone, lease released."""

    name: str = "stackyard"
    subject: str = "stackyard"

    def take(self, stack: Stack) -> Round:
        """Start with all probes passed; remove with the proof that nothing is left, and end the lease."""
        began = time.perf_counter()
        startup = stack.up()
        ready = ending = time.perf_counter()
        stack.down().check()
        return Round(up=ready - began, down=time.perf_counter() - ending, steps=steps_of(startup))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """
    Plain Compose: `up --wait`, then `down -v`.

    Attributes:
        name: Its row.
        subject: Its name for a reader.
        variables: What is set for it beside the env file.
    """

    name: str = "compose"
    subject: str = "docker compose up --wait, down -v"
    variables: Mapping[str, str] = field(default_factory=dict)

    def take(self, stack: Stack) -> Round:
        """Run the two commands."""
        compose, env = stack.compose, as_written(stack) | dict(self.variables)
        up = process.run(compose.command("up", "--wait"), deadline=PATIENCE, env=env)
        down = process.run(compose.command("down", "-v"), deadline=PATIENCE, env=env)
        return Round(up=up.seconds, down=down.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """
    Another library, in an interpreter that has it; its import is not counted.

    Attributes:
        name: Its key in `rivals.RIVALS`.
        subject: Its name for a reader.
        python: The interpreter.
    """

    name: str
    subject: str
    python: str

    def take(self, stack: Stack) -> Round:
        """Let a process of its own time both."""
        words = [self.python, rivals.__file__, self.name]
        given = json.dumps(description(stack))
        done = process.run(words, deadline=2 * PATIENCE, stdin=given, env=as_written(stack))
        told = json.loads(done.stdout.splitlines()[-1])
        return Round(up=told["up"], down=told["down"])


def starters(python: str | None, *, few: bool = False) -> list[Starter]:
    """
    Return the ways to compare, stackyard first.

    Args:
        python: The interpreter that has the other libraries; None leaves them out.
        few: Leave out all but plain Compose with quick health checks.
    """
    sooner = Plain(
        name="compose-100ms", subject="docker compose, health checks every 100 ms",
        variables={"STACKYARD_HEALTH_START_INTERVAL": SOONER, "STACKYARD_HEALTH_INTERVAL": "1s"},
    )  # fmt: skip
    if few:
        return [Own(), Plain(), sooner]
    libraries = {
        "testcontainers-compose": "testcontainers, DockerCompose",
        "testcontainers": "testcontainers, single containers",
        "pytest-docker": "pytest-docker",
    }
    others = [Rival(name=name, subject=subject, python=python) for name, subject in libraries.items() if python]
    return [Own(), Plain(), sooner, *others]


def steps_of(startup: Startup) -> tuple[Step, ...]:
    """Return the steps of a start, from its wait for a turn on, and each service's way to its probe's pass."""
    told = dict(startup.steps) | {
        f"ready {service}": (_started(startup, service), took) for service, took in startup.probes.items()
    }
    first = min([0.0, *(begin for begin, _ in told.values())])
    return tuple(
        Step(name=name, begin=round(begin - first, 4), end=round(end - first, 4)) for name, (begin, end) in told.items()
    )


def _started(startup: Startup, service: str) -> float:
    """Return when the container behind *service* ran."""
    step = startup.steps.get(f"start {SERVED_BY.get(service, service)}")
    return step[1] if step else startup.created


def as_written(stack: Stack) -> dict[str, str]:
    """
    Return the health checks' timing as the environment's own env file has it.

    A lease's says to ask later, because stackyard does not wait for health checks; the other ways do.
    """
    return {key: value for key, value in stack.environment.variables.items() if key.startswith("STACKYARD_HEALTH_")}


def description(stack: Stack) -> dict[str, Any]:
    """
    Describe the services of *stack* to a program that does not read Compose files; no credential is in it.

    Raises:
        CommandError: If Compose cannot render the file.
    """
    model = stack.compose.model()
    ports = stack.lease.ports
    return {
        "file": str(stack.compose.file),
        "env_file": str(stack.compose.env_file),
        "project": stack.compose.project,
        "subnet": stack.lease.subnet,
        "labels": next(iter(model["services"].values()))["labels"],
        "services": {
            name: _service(row, model, ports[name]) for name, row in model["services"].items() if name in ports
        },
    }


def _service(row: Mapping[str, Any], model: Mapping[str, Any], port: int) -> dict[str, Any]:
    wanted = ("user", "read_only", "cap_drop", "security_opt", "mem_limit", "memswap_limit", "pids_limit")
    options = {key: row[key] for key in wanted if key in row}
    return {
        "image": row["image"],
        "environment": {key: str(value) for key, value in (row.get("environment") or {}).items()},
        "port": port,
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

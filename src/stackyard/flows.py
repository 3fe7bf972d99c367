"""
The flows: a whole run from the images to the report, thin enough for `noxfile.py` to call in one line.

A test run takes the environment's fixed ports when they are free and moves to the pool by itself when they are not; the
dev environment stays on its fixed ports, stays up after the command, and keeps its data. Whatever happens in between, a
test run removes what it made before it returns, and says how long everything took.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from stackyard import cleanup, process, report
from stackyard.compose import port_conflict
from stackyard.engine import Engine
from stackyard.environments import Environment
from stackyard.errors import CommandError, StackyardError, UsageError
from stackyard.settings import Settings
from stackyard.stacks import Stack, Startup
from stackyard.survey import open_book, strangers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from stackyard.leases import Lease, LeaseBook

KEPT_TTL: Final = 86400.0  # seconds until a stack kept for a look inside counts as abandoned
ADDRESSED: Final = ("postgres", "redis", "auth", "backend", "websocket")
# nox prints whatever any library logs
CHATTY: Final = ("docker", "urllib3", "asyncio", "websockets", "stackyard")
MOVES: Final = 3  # how often a run whose port was stolen moves to other ports
TERMINATED: Final = 143
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """
    What follows `--` on the command line.

    Attributes:
        keep: Leave the stack standing after the run.
        down: End the environment instead of starting it (dev only).
        pytest: All the rest.
    """

    keep: bool = False
    down: bool = False
    pytest: tuple[str, ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> Arguments:
        """Sort stackyard's own words from pytest's."""
        own = {"--keep", "down", "--down"}
        return cls(
            keep="--keep" in words,
            down=bool({"down", "--down"} & set(words)),
            pytest=tuple(word for word in words if word not in own),
        )


@dataclass(slots=True)
class _Run:
    """What one run has so far; the report is made from it, however far it came."""

    environment: Environment
    keep: bool
    began: float
    notes: list[str] = field(default_factory=list)
    rows: list[report.Row] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    lease: Lease | None = None
    exit_code: int = 1
    outcome: str = "failed"


def test(name: str, words: Sequence[str]) -> int:
    """
    Run `tests/platform` against a stack of environment *name*; return the exit code.

    Args:
        name: The environment.
        words: What followed `--`: --keep, and pytest's arguments.
    """
    arguments = Arguments.parse(words)
    with _orderly_end():
        try:
            if arguments.down:
                raise UsageError(f"'down' belongs to the dev flow; a {name} run removes its own stack")
            return _test(Environment.load(name), arguments)
        except StackyardError as error:
            say(f"error: {error}")
            return error.exit_code


def _test(environment: Environment, arguments: Arguments) -> int:
    run = _Run(environment=environment, keep=arguments.keep, began=time.monotonic())
    with Engine() as engine:
        book = open_book(None, engine)
        _sweep(run)
        images = prepare_images(environment, say)
        try:
            stack = _start(run, book, engine, images)
            run.exit_code = _payload(stack, arguments.pytest)
            run.outcome = "failed" if run.exit_code else "passed"
            run.rows += report.memory_rows(_used(stack), environment.budget.memory_mb)
        except (KeyboardInterrupt, SystemExit):
            run.outcome = "interrupted"
            raise
        finally:
            _finish(run, book, engine)
    return run.exit_code or (8 if run.leftovers else 0)


def _sweep(run: _Run) -> None:
    """Remove what dead owners left, so that the host does not fill up; never a reason not to run."""
    removal = cleanup.remove_stale()
    if removal.leases or removal.removed:
        run.notes.append(f"removed {len(removal.removed)} things that dead runs had left")
        say(run.notes[-1])


def prepare_images(environment: Environment, progress: Callable[[str], None]) -> dict[str, str]:
    """
    Build what is missing and return the env file's image variables.

    Raises:
        ImageError: If an image could not be built.
    """
    from stackyard import images  # noqa: PLC0415 - heavy, and `dev -- down` does not need it

    references = images.ensure(environment.flavour, source=Settings.load().image_source, progress=progress)
    return {f"STACKYARD_IMAGE_{service.upper()}": reference for service, reference in references.items()}


def _start(run: _Run, book: LeaseBook, engine: Engine, images: Mapping[str, str]) -> Stack:
    """Lease ports and start the stack; a port stolen meanwhile costs a move, not the run."""
    environment = run.environment
    run.lease = book.acquire(environment, fixed="prefer", variables=images, strangers=strangers(engine))
    if run.lease.slot is not None:
        run.notes.append(
            f"the fixed ports of {environment.name} are taken; running in slot {run.lease.slot} of the pool"
        )
        say(run.notes[-1])
    for turn in range(MOVES + 1):
        stack = Stack(environment, run.lease, book, engine)
        try:
            startup = stack.up(keep=run.keep, repeat=f"./noxw -s {environment.name.replace('-', '_')} --")
        except CommandError as error:
            if turn == MOVES or not port_conflict(error):
                raise
            run.lease = book.move(run.lease, strangers=strangers(engine))
            run.notes.append(f"a leased port was taken meanwhile; moved to slot {run.lease.slot}")
            say(run.notes[-1])
        else:
            _note_startup(run, startup)
            return stack
    raise AssertionError("unreachable")  # pragma: no cover


def _note_startup(run: _Run, startup: Startup) -> None:
    run.rows.append(
        report.Row(what="start-up", value=startup.seconds, unit="s", budget=run.environment.budget.startup_s)
    )
    run.rows += [report.Row(what=f"ready {name}", value=took, unit="s") for name, took in startup.probes.items()]
    say(f"ready after {startup.seconds:.2f} s")


def _payload(stack: Stack, arguments: Sequence[str]) -> int:
    """Run pytest over the platform's tests with the lease's variables and nothing else about the stack."""
    root = stack.environment.root
    variables = {k: v for k, v in stack.lease.variables().items() if k.startswith("STACKYARD_")}
    restart = [sys.executable, "-m", "invoke", "-r", str(root), "env.restart", "--lease", stack.lease.id, "--service"]
    words = [
        sys.executable,
        "-m",
        "pytest",
        "tests/platform",
        f"--junit-xml=reports/junit-{stack.environment.name}.xml",
    ]
    code = process.passthrough(
        [*words, *arguments], env=variables | {"STACKYARD_RESTART_COMMAND": shlex.join(restart)}, cwd=root
    )
    return code if code >= 0 else 128 - code


def _used(stack: Stack) -> dict[str, int | None]:
    return {service: use.used if use else None for service, use in stack.memory().items()}


def _finish(run: _Run, book: LeaseBook, engine: Engine) -> None:
    """Remove the stack unless it is to be kept, then print and store the report."""
    if run.lease is None:
        return
    if run.keep:
        say(f"kept: lease {run.lease.id}; 'invoke env.down --lease {run.lease.id}' removes it")
        run.lease = book.renew(run.lease.id, KEPT_TTL, detach=True)
    else:
        with _deaf_to_one_interrupt(run.lease):
            removal = Stack(run.environment, run.lease, book, engine).down()
        budget = run.environment.budget.cleanup_s
        run.rows.append(report.Row(what="clean-up", value=removal.seconds, unit="s", budget=budget))
        run.leftovers += [str(item) for item in removal.left]
    _publish(run, run.lease)


def _publish(run: _Run, lease: Lease) -> None:
    made = report.RunReport(
        environment=run.environment.name, lease=lease.id, project=lease.project, outcome=run.outcome,
        exit_code=run.exit_code, seconds=time.monotonic() - run.began, notes=run.notes, rows=run.rows,
        leftovers=run.leftovers,
    )  # fmt: skip
    path = run.environment.root / "reports" / f"{run.environment.name}.json"
    report.write_json(path, made.to_json())
    say(f"\n{made.table()}\n")
    for item in run.leftovers:
        say(f"left: {item}")
    where = path.relative_to(run.environment.root)
    say(f"{made.environment}: {made.outcome} in {made.seconds:.1f} s, report in {where}")


def dev(words: Sequence[str]) -> int:
    """
    Start the dev environment and leave it up, or end it; return the exit code.

    Args:
        words: What followed `--`: nothing, or down.
    """
    arguments = Arguments.parse(words)
    with _orderly_end(), Engine() as engine:
        try:
            if arguments.pytest:
                raise UsageError(f"the dev flow takes 'down' or nothing, got {shlex.join(arguments.pytest)}")
            environment = Environment.load("dev")
            book = open_book(None, engine)
            (dev_down if arguments.down else dev_up)(environment, book, engine)
        except StackyardError as error:
            say(f"error: {error}")
            return error.exit_code
    return 0


def dev_up(environment: Environment, book: LeaseBook, engine: Engine) -> None:
    """Start an environment that stays, on its fixed ports, and print where it is and how to log in."""
    images = prepare_images(environment, say)
    lease = book.acquire(
        environment, ttl=math.inf, fixed="only", variables=images, strangers=strangers(engine)
    )  # fmt: skip
    startup = Stack(environment, lease, book, engine).up(repeat="./noxw -s dev --")
    say(f"\n{access_table(lease)}\n")
    say(f"ready after {startup.seconds:.2f} s; './noxw -s dev -- down' ends it and keeps the data")


def dev_down(environment: Environment, book: LeaseBook, engine: Engine) -> None:
    """End the environment that stays; its data volume is kept."""
    removal = Stack(environment, book.find(environment.name), book, engine).down().check()
    say(f"{environment.name} is down, {len(removal.removed)} removed in {removal.seconds:.2f} s; its data is kept")


def env_up(
    name: str, *, parallel_id: str | None, ttl: float, keep: bool, progress: Callable[[str], None]
) -> tuple[Stack, Startup]:
    """
    Start environment *name* under a lease that outlives this process; return the stack and its start-up times.

    Args:
        name: The environment; one that keeps data has only its fixed ports, any other gets a slot of the pool.
        parallel_id: The lease's name; None makes a new lease.
        ttl: Seconds until the stack may be removed as abandoned.
        keep: Leave a failed start standing.
        progress: Is given a line whenever something takes long.

    Raises:
        StackyardError: If anything on the way fails; a lease made here is released again unless *keep*.
    """
    environment = Environment.load(name)
    engine = Engine()
    book = open_book(None, engine)
    images = prepare_images(environment, progress)
    fixed: Literal["only", "never"] = "only" if environment.data == "volume" else "never"
    lease = book.acquire(
        environment, parallel_id=parallel_id, ttl=ttl, fixed=fixed, variables=images, strangers=strangers(engine)
    )
    stack = Stack(environment, lease, book, engine)
    try:
        return stack, stack.up(keep=keep, repeat=f"invoke env.up --environment {name}")
    except BaseException:
        if not keep:
            stack.down()
        raise


def env_exec(stack: Stack, service: str, command: str) -> int:
    """
    Run *command* inside *service* on this terminal; return its exit code.

    Raises:
        UsageError: If the service is not there or *command* cannot be split into words.
    """
    stack.container(service)
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--command cannot be split into words ({error}), got {command!r}") from None
    terminal = [] if sys.stdin.isatty() else ["-T"]
    return process.passthrough(stack.compose.command("exec", *terminal, service, *words))


def access_table(lease: Lease) -> str:
    """Return a table of every service's URL, credentials included: it is for the owner's own terminal."""
    rows = [[service, lease.url(service)] for service in ADDRESSED]
    return report.table([*rows, ["variables", str(lease.env_file)]], ["service", "URL"])


def say(line: str) -> None:
    """Print one line for the user, at once."""
    print(line, flush=True)  # noqa: T201 - flows talk to a terminal


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C does, so that the stack is removed on the way out."""
    for library in CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _deaf_to_one_interrupt(lease: Lease) -> Iterator[None]:
    """Finish the clean-up at the first Ctrl-C; the second one ends it and says who will."""

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        say(f"cleaning up {lease.project}; once more to leave it to 'invoke cleanup.stale'")

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

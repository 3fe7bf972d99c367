"""
The flows: a whole run, from the images to the report. `noxfile.py` calls one function for each.

A test run takes the environment's fixed ports if they are free, else ports of the pool. It removes its stack before it
returns, whatever happens, and reports how long each part took. The dev flow leaves its stack running and keeps data.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import textwrap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stackyard._util import files, tables
from stackyard._util.durations import said, seconds
from stackyard._util.failpoints import reach
from stackyard._util.signal_handlers import handling
from stackyard.cleanup import removal
from stackyard.cli import pytest_run
from stackyard.cli.signals import orderly_end
from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.errors import CommandError, LeftoversError, StackyardError, UsageError
from stackyard.project.environments import Environment
from stackyard.stacks.environments.checkouts import leases_of, listed
from stackyard.stacks.environments.launch import KEPT_TTL, launch
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.starts.queue import TELL_AFTER
from stackyard.stacks.starts.request import EnvironmentRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from stackyard.leases import Lease, LeaseBook
    from stackyard.stacks.starts.times import Startup

OUTCOMES: Final = {0: "passed", 124: "timed out"}
BRIEF: Final = 120  # characters of an error that the report has as its reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """
    What follows `--` on the command line.

    Attributes:
        keep: Leave the stack running after the tests.
        force: Start it even if the host seems to lack the memory.
        wait: Seconds to wait while the host has no room; None does not wait.
        down: Stop the environment instead of starting it (dev only).
        pytest: All other words.
    """

    keep: bool = False
    force: bool = False
    wait: float | None = None
    down: bool = False
    pytest: tuple[str, ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> Arguments:
        """
        Separate stackyard's own words from pytest's. `down` is ours only as the first word: `-k down` is pytest's.

        Raises:
            UsageError: If --wait has no length of time, such as 60 or 60s.
        """
        down = list(words[:1]) in (["down"], ["--down"])
        wait, rest = cls._wait(words[1:] if down else words)
        others = tuple(word for word in rest if word not in {"--keep", "--force"})
        return cls(keep="--keep" in rest, force="--force" in rest, wait=wait, down=down, pytest=others)

    @staticmethod
    def _wait(words: Sequence[str]) -> tuple[float | None, list[str]]:
        """Take `--wait TIME` or `--wait=TIME`, or the tasks' `--queue-timeout`, out of *words*; the last one counts."""
        wait, rest = None, []
        remaining = iter(words)
        for word in remaining:
            name, given, value = word.partition("=")
            if name in {"--wait", "--queue-timeout"}:
                wait = seconds(name, value if given else next(remaining, ""))
            else:
                rest.append(word)
        return wait, rest


@dataclass(slots=True)
class _Run:
    """What one run knows so far. The report is made from it, even if the run fails early."""

    environment: Environment
    keep: bool
    began: float
    notes: list[str] = field(default_factory=list)
    rows: list[tables.Row] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    stack: Stack | None = None
    exit_code: int = 1
    outcome: str = "failed"
    reason: str = ""

    def note(self, line: str) -> None:
        """Print a line, and keep it for the report."""
        self.notes.append(line)
        say(line)


def test(name: str, words: Sequence[str]) -> int:
    """
    Run `tests/platform` against a stack of environment *name*; return the exit code.

    Args:
        name: The environment.
        words: What followed `--`: --keep, --wait TIME, --force, and pytest's arguments.
    """
    with orderly_end():
        try:
            arguments = Arguments.parse(words)
            if arguments.down:
                raise UsageError(f"'down' belongs to the dev flow; a {name} run removes its own stack")
            environment = Environment.load(name)
            if pytest_run.tells(arguments.pytest):
                return pytest_run.run(environment.root, arguments.pytest, env={}, deadline=None)[0]
            return _test(environment, arguments)
        except StackyardError as error:
            say(f"error: {error}")
            return error.exit_code


def _test(environment: Environment, arguments: Arguments) -> int:
    run = _Run(environment=environment, keep=arguments.keep, began=time.monotonic())
    limit = pytest_run.limit()
    pytest_run.check(environment.root, arguments.pytest)
    with Engine() as engine:
        book = open_book(None, engine)
        _sweep(run, book, engine)
        try:
            asked = EnvironmentRequest(
                fixed="prefer", keep=run.keep, progress=run.note, wait=arguments.wait, force=arguments.force
            )
            run.stack, startup = launch(environment, book, engine, asked)
            _note_startup(run, startup)
            run.exit_code, run.reason = _payload(run.stack, arguments.pytest, limit)
            reach("test")
            run.outcome = OUTCOMES.get(run.exit_code, "failed")
            run.degraded = _degraded(run.stack)
            run.rows += tables.memory_rows(_used(run.stack), environment.budget.memory_mb)
        except (KeyboardInterrupt, SystemExit) as ending:
            run.outcome = "interrupted"
            run.reason = "Ctrl-C" if isinstance(ending, KeyboardInterrupt) else "SIGTERM or SIGHUP"
            raise
        except StackyardError as error:
            run.exit_code, run.reason = error.exit_code, _in_brief(error)
            raise
        finally:
            _finish(run)
    return run.exit_code or (LeftoversError.exit_code if run.leftovers else 0)


def _in_brief(error: StackyardError) -> str:
    """Return the first line of an error, cut to what a table can show."""
    return textwrap.shorten(str(error).partition("\n")[0], BRIEF, placeholder=" ...")


def _sweep(run: _Run, book: LeaseBook, engine: Engine) -> None:
    """Remove the stacks of runs that have died, so that the host does not fill up. A failure here stops no run."""
    outcome = removal.sweep(book, engine)
    if outcome.leases or outcome.removed:
        run.note(f"removed {tables.format_count(len(outcome.removed), 'thing')} that dead runs had left")


def _note_startup(run: _Run, startup: Startup) -> None:
    run.rows.append(
        tables.Row(what="start-up", value=startup.seconds, unit="s", budget=run.environment.budget.startup_s)
    )
    run.rows += [tables.Row(what=f"ready {name}", value=took, unit="s") for name, took in startup.probes.items()]
    if startup.waited >= TELL_AFTER:
        run.rows.append(tables.Row(what="wait for a turn", value=startup.waited, unit="s"))
    say(startup.told())


def _degraded(stack: Stack) -> list[str]:
    """Name the services that are down or unhealthy after the tests: they may be why a test failed."""
    return [f"service {state.service} is {state.words}" for state in stack.status() if not stack.is_well(state)]


def _payload(stack: Stack, arguments: Sequence[str], limit: float | None) -> tuple[int, str]:
    """Run pytest on the platform's tests. The lease's variables are all that it learns about the stack."""
    root = stack.environment.root
    variables = {k: v for k, v in stack.lease.variables().items() if k.startswith("STACKYARD_")}
    restart = [sys.executable, "-m", "invoke", "-r", str(root), "env.restart", "--name", stack.lease.id, "--service"]
    env = variables | {"STACKYARD_RESTART_COMMAND": shlex.join(restart)}
    try:
        return pytest_run.run(root, arguments, stem=_stem(stack), env=env, deadline=limit)
    except CommandError as error:
        if error.returncode is not None:
            raise
        reason = f"the tests took more than {said(limit or 0)} ({pytest_run.TIMEOUT})"
        say(f"error: {reason} and were ended")
        return pytest_run.TIMED_OUT, reason


def _stem(stack: Stack) -> str:
    """Return the name of the run's report files; each run in the pool has its own, because several run at once."""
    slot = stack.lease.slot
    return stack.environment.name if slot is None else f"{stack.environment.name}-slot{slot}"


def _used(stack: Stack) -> dict[str, int | None]:
    return {service: use.used if use else None for service, use in stack.memory().items()}


def _finish(run: _Run) -> None:
    """Remove the stack unless --keep was given, then print and store the report."""
    if run.stack is not None and run.keep:
        lease = run.stack.book.renew(run.stack.lease.id, KEPT_TTL, detach=True)
        say(f"kept: lease {lease.id}; 'invoke env.down --name {lease.id}' removes it")
    elif run.stack is not None:
        with _deaf_to_one_signal(run.stack.lease):
            outcome = run.stack.down()
        budget = run.environment.budget.cleanup_s
        run.rows.append(tables.Row(what="clean-up", value=outcome.seconds, unit="s", budget=budget))
        run.leftovers += [str(item) for item in outcome.left]
        if run.leftovers and not run.reason:
            run.reason = "something could not be removed"
    reach("report")
    _publish(run)


def _publish(run: _Run) -> None:
    lease = run.stack.lease if run.stack else None
    made = tables.RunReport(
        environment=run.environment.name, lease=lease.id if lease else "", project=lease.project if lease else "",
        outcome=run.outcome, exit_code=run.exit_code, seconds=time.monotonic() - run.began, notes=run.notes,
        rows=run.rows, leftovers=run.leftovers, degraded=run.degraded, reason=run.reason,
    )  # fmt: skip
    stem = _stem(run.stack) if run.stack else run.environment.name
    path = run.environment.root / "reports" / f"{stem}.json"
    files.write_json(path, made.to_json())
    if made.rows:
        say(f"\n{made.table()}\n")
    for item in run.degraded:
        say(f"degraded: {item}")
    for item in run.leftovers:
        say(f"left: {item}")
    where = path.relative_to(run.environment.root)
    say(f"{made.environment}: {made.outcome} in {made.seconds:.1f} s, report in {where}")


def dev(words: Sequence[str]) -> int:
    """
    Start the dev environment and leave it up, or end it; return the exit code.

    Args:
        words: What followed `--`: nothing, down, or down --volumes, with --yes to agree to the removal of the data.
    """
    with orderly_end(), Engine() as engine:
        try:
            arguments = Arguments.parse(words)
            allowed = {"--volumes", "--yes"} if arguments.down else set()
            if wrong := [word for word in arguments.pytest if word not in allowed]:
                raise UsageError(f"the dev flow takes 'down' or 'down --volumes', or nothing; got {shlex.join(wrong)}")
            environment = Environment.load("dev")
            book = open_book(None, engine)
            if "--volumes" in arguments.pytest:
                dev_remove_data(environment, book, engine, agreed="--yes" in arguments.pytest)
            elif arguments.down:
                dev_down(environment, book, engine)
            else:
                dev_up(environment, book, engine, wait=arguments.wait, force=arguments.force)
        except StackyardError as error:
            say(f"error: {error}")
            return error.exit_code
    return 0


def dev_up(
    environment: Environment, book: LeaseBook, engine: Engine, *, wait: float | None = None, force: bool = False
) -> None:
    """Start this checkout's stack of an environment that stays, and print where it is and how to log in."""
    asked = EnvironmentRequest(fixed="only", progress=say, wait=wait, force=force)
    stack, startup = launch(environment, book, engine, asked)
    say(f"\n{access_table(stack.lease)}\n")
    say(f"{startup.told()}; './noxw -s dev -- down' ends it and keeps the data")


def dev_down(environment: Environment, book: LeaseBook, engine: Engine) -> None:
    """End this checkout's stack of an environment that stays; its data volume is kept."""
    lease, others = leases_of(book, environment.name)
    if lease is None:
        more = f"; other checkouts have: {listed(others)}" if others else ""
        say(f"{environment.name} of this checkout is not up{more}")
        return
    outcome = Stack(environment, lease, book, engine).down().check()
    say(f"{environment.name} is down, {len(outcome.removed)} removed in {outcome.seconds:.2f} s; its data is kept")


def dev_remove_data(environment: Environment, book: LeaseBook, engine: Engine, *, agreed: bool) -> None:
    """
    Remove this checkout's data of an environment that keeps it, with its stack if that is up; ask first.

    Raises:
        UsageError: If the answer is no, or there is no terminal to ask on.
    """
    question = f"delete the data of {environment.name} in {environment.root}? [y/N] "
    if not agreed and not (sys.stdin.isatty() and input(question).strip().lower() in {"y", "yes"}):
        raise UsageError(f"the data of {environment.name} is kept; './noxw -s dev -- down --volumes --yes' deletes it")
    outcome = removal.remove_data(book, engine, environment).check()
    for name in outcome.removed:
        say(f"removed {name}")
    say(f"{len(outcome.removed)} removed in {outcome.seconds:.2f} s")


def access_table(lease: Lease) -> str:
    """Return a table of every service's URL, credentials included: it is for the owner's own terminal."""
    urls = lease.urls()
    rows = [[service, url] for service, url in urls.items()]
    return tables.table([*rows, ["variables", str(lease.env_file)]], ["service", "URL"])


def say(line: str) -> None:
    """Print one line for the user, at once."""
    print(line, flush=True)


@contextlib.contextmanager
def _deaf_to_one_signal(lease: Lease) -> Iterator[None]:
    """Ignore the first Ctrl-C, SIGTERM or SIGHUP during the clean-up with a line; the second one ends the clean-up."""
    with contextlib.ExitStack() as deaf:

        def first(_number: int, _frame: FrameType | None) -> None:
            deaf.close()
            say(f"cleaning up {lease.project}; once more to leave it to 'invoke cleanup.stale'")

        deaf.enter_context(handling(first, signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        yield

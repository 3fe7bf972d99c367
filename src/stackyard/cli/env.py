"""`invoke env.*`: start a stack, look into it, end it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from invoke.collection import Collection
from invoke.exceptions import Exit

from stackyard._util.advice import Action, typed
from stackyard._util.tables import MEGABYTE, format_count, format_size, table
from stackyard.cli import options
from stackyard.cli.common import answer, attach, exit_code, identity, opened
from stackyard.cli.expiry import ending, remind
from stackyard.cli.log_lines import chosen_lines
from stackyard.cli.options import Option
from stackyard.cli.pool import pool
from stackyard.cli.task import command
from stackyard.cli.up import down, up
from stackyard.errors import NotReadyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.cli.log_lines import Lines
    from stackyard.docker import ContainerState
    from stackyard.stacks.environments.stack import Stack

MEMORY: Final = ("memory_bytes", "limit_bytes")


@command(words=["environment"])
def capacity(environment: str = "test", json: bool = False) -> None:
    """Show how many more stacks fit on this host now, and what limits them."""
    from stackyard.docker.in_use import strangers
    from stackyard.project.environments import Environment

    with opened() as (book, engine):
        found = book.capacity(Environment.load(environment), strangers=strangers(engine))
    reserve = format_size(found.reserve_mb * MEGABYTE)
    memory = "no limit known" if found.memory is None else f"{found.memory} (each reserves {reserve})"
    text = (
        f"{format_count(found.stacks, 'more stack')} of {found.environment} can start; the limit is {found.limit}\n"
        f"slots     {found.slots}\nnetworks  {found.networks}\nmemory    {memory}"
    )
    answer(found.to_json(), text, as_json=json)


@command(words=["name"])
def status(name: str = "", json: bool = False) -> None:
    """Show a stack's services and when the stack expires; exit code 7 if a service is not running or not healthy."""
    with attach(name) as stack:
        states = stack.status()
        rows = _status(stack, states)
        shown = [
            [row["service"], row["status"], row["health"], *(_size(row[key]) for key in MEMORY),
             row["restarts"], exit_code(row["exit_code"])]
            for row in rows
        ]  # fmt: skip
        heads = ["service", "status", "health", "memory", "limit", "restarts", "exit code"]
        content = identity(stack.lease) | {"deadline": stack.lease.deadline, "services": rows}
        answer(content, f"{table(shown, heads)}\n{ending(stack.book, stack.lease)}", as_json=json)
        if not json and any(row["health"] == "starting" for row in rows):
            print(f"starting: the engine has not checked it yet; '{typed(Action.WAIT)}' asks the services themselves")
        if not all(map(stack.is_well, states)) or not states:
            raise NotReadyError(
                f"not every service of {stack.lease.title} is running and healthy; "
                f"'{typed(Action.LOGS)}' shows what they wrote"
            )


def _status(stack: Stack, states: Sequence[ContainerState]) -> list[dict[str, Any]]:
    memory = stack.memory()
    return [
        {
            "service": state.service, "status": state.status, "health": state.health,
            "memory_bytes": (use := memory.get(state.service)) and use.used, "limit_bytes": use and use.limit,
            "restarts": state.restarts, "exit_code": state.last_exit,
        }
        for state in states
    ]  # fmt: skip


def _size(size: int | None) -> str:
    return "unavailable" if size is None else format_size(size)


@command(words=["service"], options={"service": options.LOGGED})
def logs(
    service: Sequence[str] = (),
    name: str = "",
    tail: str = "",
    since: str = "",
    follow: bool = False,
    timestamps: bool = False,
    json: bool = False,
) -> None:
    """Show what the services of a stack wrote, all of them or the ones you name."""
    lines = chosen_lines(tail, since, follow=follow, json=json)
    with attach(name) as stack:
        show_logs(stack, list(service), lines, follow=follow, timestamps=timestamps, json=json)


def show_logs(stack: Stack, chosen: list[str], lines: Lines, *, follow: bool, timestamps: bool, json: bool) -> None:
    """Print what the services *chosen* of *stack* wrote, of all without one."""
    from stackyard.cli import log_lines
    from stackyard.stacks import logs as written

    if follow:
        from stackyard.cli import log_following

        remind(stack.book, stack.lease)
        log_following.follow(stack, chosen, tail=lines.tail, since=lines.since, timestamps=timestamps)
        return
    found = written.read(stack, chosen, tail=lines.tail, since=lines.since)
    log_lines.show(identity(stack.lease), found, prefix=len(chosen) != 1, timestamps=timestamps, json=json)


@command(
    words=["service"],
    rest="words",
    options={
        "command": Option(
            help="The command as one text, split as a shell splits it; words after '--' need no quotes.",
            value="TEXT", short="c",
        ),
        "json": options.JSON.but(help="Print exit code and output as JSON instead of using this terminal."),
    },
)  # fmt: skip
def exec_(service: str = "", words: Sequence[str] = (), name: str = "", command: str = "", json: bool = False) -> None:
    """Run a command inside a service's container, on this terminal, such as postgres -- psql -U postgres app."""
    if words and command:
        raise UsageError("give the command after '--' or with --command, not both")
    asked = shlex.join(words) if words else command
    if not asked:
        raise UsageError(f"which command? write it after '--': {typed(Action.EXECUTE)}")
    with attach(name) as stack:
        run_inside(stack, service, asked, json=json)


def run_inside(stack: Stack, service: str, asked: str, *, json: bool) -> None:
    """
    Run the command *asked* in *service*, or in the only service there is.

    Raises:
        Exit: If it does not end with exit code 0.
    """
    chosen = _service(stack, service)
    if json:
        done = stack.exec_output(chosen, asked)
        shown = {"service": chosen, "exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
        answer(identity(stack.lease) | shown, "", as_json=True)
        code = done.returncode
    else:
        remind(stack.book, stack.lease)
        code = stack.exec(chosen, asked)
    if code:
        raise Exit(f"{asked!r} in {chosen} ended with exit code {code}", code=code)


def _service(stack: Stack, name: str) -> str:
    """
    Return *name*, or the only service there is.

    Raises:
        UsageError: If it is empty and the stack has several services; the text lists them.
    """
    if name:
        return name
    known = sorted(state.service for state in stack.status())
    if len(known) == 1:
        return known[0]
    raise UsageError(f"which service? {stack.lease.title} has: {', '.join(known) or 'none, it is not up'}")


@command(words=["name"])
def wait(name: str = "", timeout: float | None = None, json: bool = False) -> None:
    """Wait until every service of a stack answers its probe; gives up after 30 s unless --timeout says otherwise."""
    with attach(name) as stack:
        ready = stack.wait(deadline=timeout or 30.0)
        services = [{"service": service, "seconds": round(took, 3)} for service, took in ready.items()]
        text = "\n".join(f"{service} ready after {took:.2f} s" for service, took in ready.items())
        answer(identity(stack.lease) | {"services": services}, text, as_json=json)


@command(words=["service"])
def restart(service: str = "", name: str = "", json: bool = False) -> None:
    """Restart one service's container; it keeps its address."""
    with attach(name) as stack:
        chosen = _service(stack, service)
        remind(stack.book, stack.lease)
        stack.restart(chosen)
        answer(identity(stack.lease) | {"service": chosen}, f"{chosen} restarted", as_json=json)


@command(
    words=["name"],
    options={"yes": options.YES.but(help="Also delete the data of an environment that keeps it, such as dev.")},
)
def reset(name: str = "", yes: bool = False, json: bool = False) -> None:
    """Bring a stack's data back to its state right after the start; the services stay up."""
    with attach(name) as stack:
        done = stack.reset(yes=yes)
        text = f"{stack.lease.title} reset in {done.seconds * 1000:.0f} ms"
        steps = {"copied_seconds": done.copied, "swapped_seconds": done.swapped, "emptied_seconds": done.emptied}
        answer(identity(stack.lease) | {"seconds": done.seconds} | steps, text, as_json=json)


collection = Collection("env", up, down, capacity, pool, status, logs, wait, restart, reset)
collection.add_task(exec_, name="exec")

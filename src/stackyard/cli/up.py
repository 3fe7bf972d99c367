"""`invoke env.up` and `env.down`: start a stack that stays, and remove it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from invoke.exceptions import Exit

from stackyard._util.advice import Action, typed
from stackyard.cli import options
from stackyard.cli.common import HOUR, answer, attach, confirmed, identity, in_use, opened, tell
from stackyard.cli.expiry import ending
from stackyard.cli.leasing import handle
from stackyard.cli.options import Option
from stackyard.cli.task import command
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from stackyard.cleanup.outcome import Removal
    from stackyard.leases import Lease
    from stackyard.stacks.environments.stack import Stack
    from stackyard.stacks.starts.times import Startup


@command(
    words=["environment"],
    options={
        "name": options.NAME.but(
            help="Your name for the stack, such as mine. The same name gives the same stack again, from any process."
        ),
        "ttl": options.TTL.but(
            help="How long the stack stays, such as 30m or 4h (default: 1h; dev stays until you end it)."
        ),
        "timeout": options.TIMEOUT.but(
            help="Give up if it is not ready after this time (default: the environment's start-up budget).",
            short="i",
        ),
        "keep": Option(help="Leave a stack that fails to start, so that you can look inside.", short="k"),
    },
)  # fmt: skip
def up(
    environment: str = "test",
    name: str = "",
    ttl: float | None = None,
    timeout: float | None = None,
    keep: bool = False,
    queue_timeout: float | None = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Start a stack and leave it up; prints its URLs, when it expires, and how to remove it."""
    from stackyard.project.environments import Environment
    from stackyard.stacks.environments.launch import launch
    from stackyard.stacks.starts.request import EnvironmentRequest

    wanted = Environment.load(environment)
    kept = wanted.data == "volume"
    with opened() as (book, engine):
        stack, startup = launch(wanted, book, engine, EnvironmentRequest(
            fixed="only" if kept else "never", ttl=ttl or (math.inf if kept else HOUR), name=name or None, keep=keep,
            deadline=timeout, wait=queue_timeout, force=force, progress=tell,
        ))  # fmt: skip
    _show(stack, startup, as_json=json)


def _show(stack: Stack, startup: Startup, *, as_json: bool) -> None:
    from stackyard.cli.flows import access_table

    lease, book = stack.lease, stack.book
    remove = typed(Action.REMOVE, name=handle(book, lease))
    text = f"{access_table(lease)}\n\n{startup.told()}\n{ending(book, lease)}\n'{remove}' removes it"
    answer(_started(lease, startup), text, as_json=as_json)


def _started(lease: Lease, startup: Startup) -> dict[str, Any]:
    return {
        **identity(lease), "project": lease.project, "created": lease.created, "deadline": lease.deadline,
        "env_file": str(lease.env_file), "urls": lease.urls(),
        "by": startup.by, "seconds": startup.seconds, "waited_seconds": startup.waited,
        "containers_seconds": startup.created,
        "probes": [{"service": service, "seconds": took} for service, took in startup.probes.items()],
        "steps": [
            {"step": step, "begin_seconds": begin, "end_seconds": end} for step, (begin, end) in startup.steps.items()
        ],
    }  # fmt: skip


@command(
    words=["name"],
    options={
        "environment": options.ENVIRONMENT.but(help="Instead of a name: the stack of this environment, such as dev."),
        "volumes": options.VOLUMES.but(help="Also delete the data of an environment that keeps it, such as dev; asks."),
    },
)
def down(name: str = "", environment: str = "", volumes: bool = False, yes: bool = False, json: bool = False) -> None:
    """Remove a stack and end its lease; with --volumes also the data that an environment such as dev keeps."""
    meant = name or environment
    removal = None if name or not environment else _removed_data(environment, volumes=volumes, yes=yes)
    if removal is not None:
        text = f"no stack of {environment} is up; {len(removal.removed)} removed"
    else:
        with attach(name, environment=environment) as stack:
            if volumes and stack.keeps_data:
                _agree(stack.lease.environment, yes=yes)
            removal, meant = stack.down(volumes=volumes), meant or stack.lease.id
        kept = "; its data is kept" if stack.keeps_data and not volumes else ""
        text = f"{stack.lease.title} is down: {len(removal.removed)} removed in {removal.seconds:.2f} s{kept}"
    answer(removal.to_json(), text, as_json=json)
    removal.check(then=typed(Action.REMOVE, name=meant))


def _removed_data(environment: str, *, volumes: bool, yes: bool) -> Removal | None:
    """Remove the data that an environment without a stack keeps, with *volumes*; return None if it has a stack."""
    from stackyard.cleanup.outcome import Removal
    from stackyard.cleanup.removal import remove_data
    from stackyard.project.environments import Environment
    from stackyard.stacks.environments.checkouts import leases_of

    with opened() as (book, engine):
        own, others = leases_of(book, environment)
        if own or (not others and in_use(book, Environment.load(environment).name)):
            return None
        if not volumes or (wanted := Environment.load(environment)).data != "volume":
            return Removal()
        _agree(environment, yes=yes)
        return remove_data(book, engine, wanted)


def _agree(environment: str, *, yes: bool) -> None:
    """
    Ask before data is deleted.

    Raises:
        Exit: If the answer is no, or there is no terminal to answer on.
    """
    if not yes and not confirmed(f"delete the data of {environment}?"):
        raise Exit(
            f"nothing removed: --volumes deletes the data of {environment}; --yes agrees to that",
            code=UsageError.exit_code,
        )

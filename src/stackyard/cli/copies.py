"""`stackyard up`, `down`, `ps` and the like: copies of the Compose project in the current folder."""

from __future__ import annotations

import contextlib
import importlib
import shlex
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from invoke.exceptions import Exit

from stackyard._util.advice import at_site
from stackyard._util.tables import table
from stackyard.cli import copy_output, copy_variables, options
from stackyard.cli.common import HOUR, answer, current_folder, exit_code, tell, telling
from stackyard.cli.copy_choice import chosen, of_this_folder
from stackyard.cli.expiry import until
from stackyard.cli.on_swarm import also_on_swarm, no_command
from stackyard.cli.options import COPY_NAME, COPY_SITE, Option
from stackyard.cli.reset import RESETTABLE, reset
from stackyard.cli.site import at, opened_at
from stackyard.cli.task import command
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from invoke.tasks import Task

    from stackyard.cleanup.outcome import Removal
    from stackyard.leases import Lease
    from stackyard.project import Project
    from stackyard.stacks.copies.lifecycle import Copy
    from stackyard.stacks.environments.stack import Stack

NEW_NAME: Final = COPY_NAME.but(
    help="Your name for the copy, such as mine (default: the git worktree's, or the branch's). "
    "The same name gives the same copy again."
)
OWN_NAME: Final = COPY_NAME.but(help="Your name for the copy, such as mine.")
TIMEOUT: Final = options.TIMEOUT.but(help="Give up if the copy is not ready after this time (default: 2m).", short="")
GRACEFUL: Final = Option(help="Give services time to end, their stop_grace_period.", short="g")
QUIET: Final = Option(help="Do not show the progress of the start; warnings still appear.", short="q")


@contextlib.contextmanager
def _started(
    name: str,
    project: Project,
    timeout: float | None,
    ttl: float | None,
    wait: float | None = None,
    *,
    site: str = "",
    resettable: bool = False,
    quiet: bool = False,
) -> Iterator[Copy]:
    """Give a `with` block a ready copy of *project*; the engine is closed at the block's end."""
    from stackyard.stacks.copies import lifecycle
    from stackyard.stacks.starts.request import CopyRequest

    with opened_at(site) as (book, engine):
        yield lifecycle.start(project, book, engine, CopyRequest(
            name=name or None, ttl=ttl, deadline=timeout, wait=wait, resettable=resettable,
            progress=telling(quiet=quiet),
        ))  # fmt: skip


def _import_early() -> None:
    """Import what a start needs in a thread, while Compose reads the project: a quarter of a second."""
    for name in ("stackyard.docker.transport", "stackyard.stacks.copies.lifecycle"):
        threading.Thread(target=importlib.import_module, args=(name,), daemon=True).start()


@command(
    options={
        "name": NEW_NAME,
        "timeout": TIMEOUT,
        "quiet": QUIET,
        "ttl": options.TTL.but(help="How long the copy stays, such as 30m or 4h (default: 1h)."),
        "queue_timeout": options.QUEUE_TIMEOUT.but(short="", old=()),
        "resettable": RESETTABLE,
        "graceful": GRACEFUL.but(help="On a Swarm: give services time to end when the copy is removed."),
    },
)
@also_on_swarm
def up(  # noqa: PLR0913, PLR0917 - each is an option
    name: str = "",
    file: Sequence[str] = (),
    profile: Sequence[str] = (),
    env_file: Sequence[str] = (),
    timeout: float | None = None,
    site: str = "",
    quiet: bool = False,
    ttl: float | None = None,
    queue_timeout: float | None = None,
    resettable: bool = False,
    graceful: bool = False,
    json: bool = False,
) -> None:
    """Start a copy of this folder's Compose project and leave it up; prints where each published port answers."""
    from stackyard.cli.signals import orderly_end
    from stackyard.project.git_names import default_name

    if graceful:
        raise UsageError("--graceful of up is for a Swarm; on one engine give it to 'stackyard down'")
    _import_early()
    at(site)  # before the project, which Compose reads with the variables that it sets
    project, name = options.project(file, profile, env_file), name or default_name(current_folder()) or ""
    with (
        orderly_end(),
        _started(
            name, project, timeout, ttl or HOUR, queue_timeout, site=site, resettable=resettable, quiet=quiet
        ) as copy,
    ):
        leases = copy.book.leases()
        same = copy_output.namesakes(leases, copy.lease)
        for other in same:
            tell(copy_output.also_up(other))
        if warning := copy_output.one_more(leases, copy.lease):
            tell(warning)
        copy_output.show_up(
            copy_output.identified(copy.lease), copy.lease.id if same else copy_output.handle(copy.lease),
            copy.addresses, copy.startup, until(copy.lease), as_json=json,
        )  # fmt: skip


@contextlib.contextmanager
def _attached(name: str, site: str) -> Iterator[Copy]:
    from stackyard.stacks.copies.lifecycle import Copy

    with opened_at(site) as (book, engine):
        yield Copy(chosen(book, name), book, engine)


def _stack(copy: Copy) -> Stack:
    from stackyard.stacks.environments.stack import Stack

    return Stack.of(copy.lease, copy.book, copy.engine)


@command(
    words=["name"],
    options={
        "name": COPY_NAME,
        "all": Option(help="All copies of this folder's project.", short="a"),
        "graceful": GRACEFUL,
        "site": COPY_SITE,
    },
)
@also_on_swarm
def down(
    name: str = "",
    all: bool = False,  # noqa: A002 - the option's name
    graceful: bool = False,
    site: str = "",
    json: bool = False,
) -> None:
    """Remove a copy with its containers, networks and volumes; needs none of the project's files."""
    from stackyard.cleanup import removal

    if name and all:
        raise UsageError("--all removes every copy of the project; leave --all or the name out")
    began = time.monotonic()
    with opened_at(site) as (book, engine):
        leases = of_this_folder(book) if all else [chosen(book, name)]
        said = [copy_output.identified(lease) for lease in leases]  # where it is from is in a file that goes
        done = removal.remove_leases(book, engine, leases, graceful=graceful, progress=tell)
    took = time.monotonic() - began
    copy_output.show_removed([lease.title for lease in leases], said, done, took, as_json=json)
    _check(leases, done)


def _check(leases: Sequence[Lease], done: Sequence[Removal]) -> None:
    """Raise LeftoversError if something is left; its lease lives on, so only another `down` removes it."""
    from stackyard.cleanup.outcome import Removal

    kept = [lease.id for lease, removal in zip(leases, done, strict=True) if removal.left]
    again = at_site(f"stackyard down {kept[0] if len(kept) == 1 else '--all'}")
    Removal(left=[item for removal in done for item in removal.left]).check(again)


@command(
    words=["name"],
    options={
        "name": COPY_NAME.but(help="Show the services of this copy; without a name, the copies."),
        "all": Option(help="Copies of all projects, not only of this folder's.", short="a"),
        "site": COPY_SITE,
    },
)
@also_on_swarm
def ps(name: str = "", all: bool = False, site: str = "", json: bool = False) -> None:  # noqa: A002 - the option's name
    """List the copies of this folder's project, or the services of one; exit code 7 if one of these is not well."""
    if name:
        _services(name, site, as_json=json)
        return
    with opened_at(site) as (book, _):
        leases = [lease for lease in book.leases() if lease.is_copy] if all else of_this_folder(book)
    rows = [[lease.title, lease.checkout, until(lease)] for lease in leases]
    one = at_site(f"stackyard ps {copy_output.handle(leases[0])}") if len(leases) == 1 else ""
    more = f"\n'{one}' shows its services" if one else ""
    text = f"{table(rows, ['copy', 'project', 'until'])}{more}" if rows else "no copies are up"
    answer([copy_output.identified(lease) for lease in leases], text, as_json=json)


def _services(name: str, site: str, *, as_json: bool) -> None:
    from stackyard.docker import lease_engine
    from stackyard.stacks.copies.standing import Standing

    with _attached(name, site) as copy:
        lease_engine.check(copy.lease, copy.engine)
        found, title = Standing(copy.engine, _stack(copy).containers(), copy.model), copy.lease.title
        rows = [
            {"service": state.service, "status": state.status, "health": state.health, "exit_code": state.last_exit,
             "restarts": state.restarts}
            for state in found.states
        ]  # fmt: skip
        shown = [[one.service, one.status, one.health, exit_code(one.last_exit), one.restarts] for one in found.states]
        text = table(shown, ["service", "status", "health", "exit code", "restarts"])
        answer(copy_output.identified(copy.lease) | {"services": rows}, text, as_json=as_json)
        if not found.is_well:
            raise copy_output.not_well(title, copy.lease.id)


@command(words=["name"], options={"name": COPY_NAME, "site": COPY_SITE})
@also_on_swarm
def ports(name: str = "", site: str = "", json: bool = False) -> None:
    """Show where each published port of a copy answers."""
    with _attached(name, site) as copy:
        found, handle = copy.addresses, copy_output.handle(copy.lease)
        text = copy_output.addressed(found, handle) or f"{copy.lease.title} publishes no port"
        answer({**copy_output.identified(copy.lease), "ports": copy_output.ports(found, handle)}, text, as_json=json)


@command(
    words=["name"],
    options={
        "name": COPY_NAME,
        "format": Option(help="dotenv for an env file (the default), or shell for eval.", value="FORMAT", short="f"),
        "site": COPY_SITE,
    },
)
@also_on_swarm
def env(name: str = "", format: str = "dotenv", site: str = "", json: bool = False) -> None:  # noqa: A002 - the option's name
    """Print the variables that tell programs where a copy answers, with the passwords of the project's own services."""
    with _attached(name, site) as copy:
        copy_variables.show(_variables(copy), format, as_json=json)


def _variables(copy: Copy) -> dict[str, str]:
    from stackyard.running.stack import Stack as Running

    return Running(copy).env


@command(words=["service"], options={"service": options.LOGGED, "name": COPY_NAME, "site": COPY_SITE})
@also_on_swarm
def logs(
    service: Sequence[str] = (),
    name: str = "",
    tail: str = "",
    since: str = "",
    follow: bool = False,
    timestamps: bool = False,
    json: bool = False,
    site: str = "",
) -> None:
    """Show what the services of a copy wrote, all of them or the ones you name."""
    from stackyard.cli.env import show_logs
    from stackyard.cli.log_lines import chosen_lines

    lines = chosen_lines(tail, since, follow=follow, json=json)
    with _attached(name, site) as copy:
        show_logs(_stack(copy), list(service), lines, follow=follow, timestamps=timestamps, json=json)


@command(
    words=["service"],
    rest="words",
    options={
        "service": options.SERVICE.but(help="A service of the copy; not needed if there is only one."),
        "name": COPY_NAME,
        "site": COPY_SITE,
        "json": options.JSON.but(help="Print exit code and output as JSON instead of using this terminal."),
    },
)
@also_on_swarm
def exec_(service: str = "", words: Sequence[str] = (), name: str = "", site: str = "", json: bool = False) -> None:
    """Run a command inside a service's container, on this terminal: exec db -- psql -U postgres."""
    from stackyard.cli.env import run_inside

    at(site)
    if not words:
        raise UsageError(no_command())
    with _attached(name, site) as copy:
        run_inside(_stack(copy), service, shlex.join(words), json=json)


@command(rest="words", options={"name": OWN_NAME, "timeout": TIMEOUT, "quiet": QUIET, "graceful": GRACEFUL})
@also_on_swarm
def run(  # noqa: PLR0913, PLR0917 - each is an option
    words: Sequence[str] = (),
    name: str = "",
    file: Sequence[str] = (),
    profile: Sequence[str] = (),
    env_file: Sequence[str] = (),
    timeout: float | None = None,
    site: str = "",
    quiet: bool = False,
    graceful: bool = False,
) -> None:
    """Start a copy for one command, give it the copy's addresses, and remove the copy: run -- pytest -q."""
    from stackyard.cli.signals import orderly_end

    at(site)
    command, later = copy_variables.given(words), at_site("stackyard cleanup")
    _import_early()
    project = options.project(file, profile, env_file)
    with orderly_end(), _started(name, project, timeout, None, site=site, quiet=quiet) as copy:
        copy_variables.refuse_running(copy.lease.title, copy.seconds)
        try:
            code = copy_variables.run(command, _variables(copy))
            copy_output.tell_of_lost(copy)
        finally:
            done = copy.down(graceful=graceful, progress=tell)
            for item in done.left:
                tell(f"left: {item}; '{later}' removes it later")
    if code:
        raise Exit(code=code)
    done.check(later)


def every_task() -> Mapping[str, Task[Any]]:
    """Return the tasks by the names that users type."""
    return {"up": up, "down": down, "ps": ps, "ports": ports, "env": env, "logs": logs, "exec": exec_, "run": run,
            "reset": reset}  # fmt: skip

"""The commands of copies on a Docker Swarm: each does the same there as on one engine."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from invoke.exceptions import Exit

from stackyard._util.advice import at_site
from stackyard.cli import copy_output, copy_variables
from stackyard.cli.common import HOUR, answer, current_folder, exit_code, tell, telling
from stackyard.cli.expiry import until_moment
from stackyard.cli.site import chosen_site
from stackyard.errors import StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stackyard.cleanup.outcome import Removal
    from stackyard.docker import Engine
    from stackyard.sites.swarm.copies import Copy
    from stackyard.sites.swarm.leases import Lease, Leases

NO_RESET: Final = (
    "a copy on a Swarm cannot be reset: its volumes end with their containers, and only their nodes could copy data "
    "back; start another copy, or use a site with one engine (local or context:NAME)"
)
EXEC_DEADLINE: Final = 3600.0  # seconds of a command whose output is collected


def also_on_swarm(local: Callable[..., None]) -> Callable[..., None]:
    """Run the command *local* on a Swarm if `--site` or STACKYARD_SITE names one, as far as it can."""

    @functools.wraps(local)
    def command(*words: Any, site: str = "", **chosen: Any) -> None:
        if not named(site):
            local(*words, site=site, **chosen)
            return
        _refuse_other(local.__name__, chosen)
        COMMANDS[local.__name__](**{name: chosen[name] for name in KNOWN[local.__name__] if name in chosen})

    return command


def named(site: str) -> bool:
    """Say whether `--site`, or without it STACKYARD_SITE, is a Swarm; then use its manager."""
    found = chosen_site(site)
    if found.kind == "swarm":
        found.use()
    return found.kind == "swarm"


def _refuse_other(command: str, chosen: Mapping[str, Any]) -> None:
    other = [name for name, value in chosen.items() if value and name not in KNOWN[command]]
    if "resettable" in other:
        raise UsageError(NO_RESET)
    if other:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in other)
        raise UsageError(f"{options}: copies on a Swarm do not have this; leave it out")


@contextlib.contextmanager
def _leases() -> Iterator[tuple[Engine, Leases]]:
    """Give a `with` block the Swarm's manager, and its leases."""
    from stackyard.docker import Engine
    from stackyard.docker.swarm import Swarm
    from stackyard.sites.swarm.leases import Leases

    with Engine() as engine:
        swarm = Swarm(engine)
        swarm.now()
        yield engine, Leases(swarm)


@contextlib.contextmanager
def _copy(name: str) -> Iterator[Copy]:
    from stackyard.cli.copy_choice import chosen
    from stackyard.sites.swarm.copies import Copy

    with _leases() as (engine, book):
        yield Copy.of(engine, chosen(book, name).name)


@contextlib.contextmanager
def _started(  # noqa: PLR0913 - each is an option
    name: str | None, file: Sequence[str] | None, profile: Sequence[str] | None, env_file: Sequence[str] | None,
    timeout: str, *, ttl: float | None, quiet: bool, wait: str = "", graceful: bool = False,
) -> Iterator[Copy]:  # fmt: skip
    """Give a `with` block a ready copy; the engine is closed at the block's end."""
    from stackyard._util.durations import seconds
    from stackyard.cli import options
    from stackyard.cli.signals import orderly_end
    from stackyard.docker import Engine
    from stackyard.sites.swarm import copies

    deadline = seconds("--timeout", timeout) if timeout else None
    patience = seconds("--queue-timeout", wait) if wait else None
    project, progress = options.project(file, profile, env_file), telling(quiet=quiet)
    with orderly_end(), Engine() as engine:
        yield copies.start(
            project, engine, name=name or None, ttl=ttl, deadline=deadline, wait=patience, graceful=graceful,
            progress=progress,
        )  # fmt: skip


def _up(  # noqa: PLR0913, PLR0917 - each is an option
    name: str = "", file: Sequence[str] | None = None, profile: Sequence[str] | None = None,
    env_file: Sequence[str] | None = None, timeout: str = "", ttl: str = "", queue_timeout: str = "",
    quiet: bool = False, graceful: bool = False, json: bool = False,
) -> None:  # fmt: skip
    from stackyard._util.durations import seconds
    from stackyard.project.git_names import default_name

    lifetime, named = seconds("--ttl", ttl) if ttl else HOUR, name or default_name(current_folder())
    with _started(
        named, file, profile, env_file, timeout, ttl=lifetime, quiet=quiet, wait=queue_timeout, graceful=graceful
    ) as copy:
        if graceful:
            copy.require_grace()
        for line in copy.changes:
            telling(quiet=quiet)(f"note: {line}")
        if warning := "" if named else _one_more(copy):
            tell(warning)
        said = {**_identity(copy.lease), "notes": list(copy.changes)}
        copy_output.show_up(said, copy.lease.name, copy.addresses, copy.startup, _until(copy.lease), as_json=json)


def _one_more(copy: Copy) -> str:
    from stackyard.sites.swarm.leases import Leases

    found = Leases(copy.swarm).leases()
    return copy_output.another(sum(lease.checkout == copy.lease.checkout for lease in found))


def _down(name: str = "", all: bool = False, graceful: bool = False, json: bool = False) -> None:  # noqa: A002 - the option's name
    from stackyard.cli.copy_choice import of_this_folder
    from stackyard.sites.swarm.copies import Copy

    if name and all:
        raise UsageError("--all removes every copy of the project; leave --all or the name out")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if all:
            engine, book = stack.enter_context(_leases())
            own = [Copy.of(engine, lease.name) for lease in of_this_folder(book)]
        else:
            own = [stack.enter_context(_copy(name))]
        for copy in own if graceful else ():
            copy.require_grace()
        tried = [(copy.lease, *_tried(copy)) for copy in own]
    gone = [(lease, done) for lease, done, _ in tried if done]
    failures = [error for _, _, error in tried if error]
    if gone or not failures:
        titles, said = [lease.title for lease, _ in gone], [_identity(lease) for lease, _ in gone]
        copy_output.show_removed(titles, said, [done for _, done in gone], time.monotonic() - began, as_json=json)
    if failures:
        raise failures[0]


def _removed(copy: Copy) -> Removal:
    """Remove a copy; say how long that may take if its services get time to end."""
    from stackyard.cleanup import graceful

    if grace := copy.grace:
        tell(graceful.waits(grace, sum(grace.values())))
    return copy.down()


def _tried(copy: Copy) -> tuple[Removal | None, StackyardError | None]:
    """Remove a copy as far as possible; return what was removed, or what keeps it from that."""
    try:
        return _removed(copy), None
    except StackyardError as error:
        return None, error


def _ps(name: str = "", all: bool = False, json: bool = False) -> None:  # noqa: A002 - the option's name
    from stackyard._util.tables import table
    from stackyard.cli.copy_choice import of_this_folder

    if name:
        _services(name, as_json=json)
        return
    with _leases() as (_, book):
        own = book.leases() if all else of_this_folder(book)
    rows = [[lease.title, lease.checkout or lease.project, lease.state, _until(lease)] for lease in own]
    one = at_site(f"stackyard ps {own[0].name}") if len(own) == 1 else ""
    more = f"\n'{one}' shows its services" if one else ""
    text = f"{table(rows, ['copy', 'project', 'state', 'until'])}{more}" if rows else "no copies are up"
    answer([_identity(lease) for lease in own], text, as_json=json)


def _services(name: str, *, as_json: bool) -> None:
    from stackyard._util.tables import table

    with _copy(name) as copy:
        found, lease = copy.standing, copy.lease
    rows = [state.to_json() for state in found.states]
    shown = [[*(row | {"exit_code": exit_code(row["exit_code"])}).values()] for row in rows]
    text = table(shown, ["service", "status", "health", "exit code", "restarts", "node", "reason"])
    answer({**_identity(lease), "services": rows}, text, as_json=as_json)
    if lease.state != "ready" or not found.is_well:
        raise copy_output.not_well(lease.title, lease.id)


def _ports(name: str = "", json: bool = False) -> None:
    with _copy(name) as copy:
        found = copy.addresses
        text = copy_output.addressed(found, copy.lease.name) or f"{copy.lease.title} publishes no port"
        ports = copy_output.ports(found, copy.lease.name)
        answer({**_identity(copy.lease), "ports": ports}, text, as_json=json)


def _logs(
    service: Sequence[str] | None = None, name: str = "", tail: str = "", since: str = "", follow: bool = False,
    timestamps: bool = False, json: bool = False,
) -> None:  # fmt: skip
    from stackyard.cli import log_following, log_lines

    chosen, lines = list(service or ()), log_lines.chosen_lines(tail, since, follow=follow, json=json)
    with _copy(name) as copy:
        if follow:
            log_following.follow_copy(copy, chosen, tail=lines.tail, since=lines.since, timestamps=timestamps)
            return
        found = copy.lines(chosen, tail=lines.tail, since=lines.since)
        log_lines.show(_identity(copy.lease), found, prefix=len(chosen) != 1, timestamps=timestamps, json=json)


def _exec_(
    service: str = "", words: Sequence[str] | None = None, name: str = "", json: bool = False,
) -> None:  # fmt: skip
    from stackyard._util import process
    from stackyard.sites.swarm import container_commands

    if not words:
        raise UsageError(no_command())
    with _copy(name) as copy:
        chosen = service or _only(copy)
        if json:
            done = process.run(container_commands.command(copy, chosen, words), deadline=EXEC_DEADLINE, check=False)
            code, shown = done.returncode, {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
            answer({**_identity(copy.lease), "service": chosen, **shown}, "", as_json=True)
        else:
            terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
            code = process.passthrough(
                container_commands.command(copy, chosen, words, "--interactive", *terminal), inherit=False
            )
    if code:
        raise Exit(f"{shlex.join(words)!r} in {chosen} ended with exit code {code}", code=code)


def no_command() -> str:
    """Return what is missing where `exec` is typed without a command."""
    return f"which command? write it after '--': {at_site('stackyard exec web -- ls /')}"


def _only(copy: Copy) -> str:
    known = sorted(copy.services)
    if len(known) != 1:
        raise UsageError(f"which service? {copy.lease.title} has: {', '.join(known)}")
    return known[0]


def _env(name: str = "", format: str = "dotenv", json: bool = False) -> None:  # noqa: A002 - the option's name
    from stackyard.project import Project
    from stackyard.sites.swarm import copies

    with _copy(name) as copy:
        with contextlib.suppress(UsageError):  # without the project's files, URLs have no passwords
            copies.log_in(copy, Project.find(current_folder()))
        copy_variables.show(_variables(copy), format, as_json=json)


def _run(
    words: Sequence[str] | None = None, name: str = "", file: Sequence[str] | None = None,
    profile: Sequence[str] | None = None, env_file: Sequence[str] | None = None, timeout: str = "",
    quiet: bool = False, graceful: bool = False,
) -> None:  # fmt: skip
    command = copy_variables.given(words)
    with _started(name, file, profile, env_file, timeout, ttl=None, quiet=quiet, graceful=graceful) as copy:
        copy_variables.refuse_running(copy.lease.title, copy.startup.seconds)
        code = 1
        try:
            code = copy_variables.run(command, _variables(copy))
        finally:
            _, left = _tried(copy)
            if left and code:
                tell(f"warning: {left}")
    if code:
        raise Exit(code=code)
    if left:
        raise left


def _variables(copy: Copy) -> dict[str, str]:
    from stackyard.running.swarm_stack import SwarmStack

    return SwarmStack(copy).env


def _stale(dry_run: bool = False, json: bool = False) -> None:
    """Remove the copies on the Swarm whose lease has ended, and print their names."""
    from stackyard.cleanup.outcome import Removal
    from stackyard.sites.swarm.removal import sweep

    began = time.monotonic()
    with _leases() as (_, book):
        if dry_run:
            _plan(book, as_json=json)
            return
        names = sweep(book.swarm)
    removed = [f"copy {name}" for name in names]
    done = Removal(removed=removed, leases=names, seconds=time.monotonic() - began)
    copy_output.show_cleaned(done, as_json=json)


def _plan(book: Leases, *, as_json: bool) -> None:
    from stackyard._util.tables import table
    from stackyard.sites.swarm.removal import stale

    ended, ownerless = stale(book.swarm)
    owners = {lease.id: lease.owner.describe() if lease.owner else "" for lease in ended}
    found = [_planned(lease.id, owners[lease.id], "its lease has ended", lease) for lease in ended]
    found += [_planned(word, "", "it has no lease") for word in ownerless]
    rows = [[item["name"], item["owner"], item["why"]] for item in found]
    text = table(rows, ["copy", "owner", "why"]) if rows else "nothing to remove"
    answer(found, text, as_json=as_json)


def _planned(identity: str, owner: str, why: str, lease: Lease | None = None) -> dict[str, Any]:
    deadline = lease.deadline if lease and math.isfinite(lease.deadline) else None
    return {"command": "stale", "kind": "lease" if lease else "copy", "name": lease.title if lease else identity,
            "lease": identity, "environment": lease.project if lease else "", "owner": owner, "alive": False,
            "deadline": deadline, "user": "", "why": why}  # fmt: skip


def _identity(lease: Lease) -> dict[str, Any]:
    """Return what every JSON answer says of a copy, as on one engine, and how far it is."""
    deadline = lease.deadline if math.isfinite(lease.deadline) else None
    return {"lease": lease.id, "name": lease.name, "environment": lease.project, "project": lease.id,
            "checkout": lease.checkout, "deadline": deadline, "state": lease.state}  # fmt: skip


def _until(lease: Lease) -> str:
    from stackyard.leases.owners import boot_id

    if lease.state == "ending":
        return "is being removed"
    if lease.owner is not None and lease.owner.kind == "process":
        here = lease.owner.boot == boot_id()
        return f"stays as long as {lease.owner.describe() if here else 'its process on another host'} runs"
    if not math.isfinite(lease.deadline):
        return "stays until it is removed: its deadline cannot be read"
    return until_moment(lease.deadline)


COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "up": _up, "down": _down, "ps": _ps, "ports": _ports, "logs": _logs, "stale": _stale, "env": _env, "run": _run,
    "exec_": _exec_,
}  # fmt: skip
KNOWN: Final = {name: frozenset(inspect.signature(command).parameters) for name, command in COMMANDS.items()}

"""The commands of copies where the site is a Docker Swarm: each does there what it does on one engine."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from invoke.exceptions import Exit

from stackyard.cli import copy_variables
from stackyard.cli.common import HOUR, answer, exit_code, tell, telling
from stackyard.errors import LeaseNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stackyard.docker import Engine
    from stackyard.plan import Address
    from stackyard.project import Project
    from stackyard.sites.swarm.copies import Copy
    from stackyard.sites.swarm.leases import Lease

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
    from stackyard.sites import Site

    found = Site.find(site)
    if found.kind == "swarm":
        found.use()
    return found.kind == "swarm"


def _refuse_other(command: str, chosen: Mapping[str, Any]) -> None:
    other = [name for name, value in chosen.items() if value and name not in KNOWN[command]]
    if other:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in other)
        raise UsageError(f"{options}: copies on a Swarm do not have this; leave it out")


@contextlib.contextmanager
def _leases() -> Iterator[tuple[Engine, list[Lease]]]:
    """Give a `with` block the Swarm's manager, and the copies of the current folder, the oldest first."""
    from stackyard.docker import Engine
    from stackyard.docker.swarm import Swarm
    from stackyard.sites.swarm.leases import Leases

    with Engine() as engine:
        swarm = Swarm(engine)
        swarm.now()
        yield engine, Leases(swarm).all()


@contextlib.contextmanager
def _copy(name: str) -> Iterator[Copy]:
    from stackyard.sites.swarm.copies import Copy

    with _leases() as (engine, leases):
        own = leases if name else [lease for lease in leases if lease.project == _project()]
        names = sorted(lease.name for lease in own)
        if not name and len(names) != 1:
            listed = f"name one: {', '.join(names)}" if names else "'stackyard up --site swarm' starts one"
            raise LeaseNotFoundError(f"{len(names)} copies of this folder's project are on the Swarm; {listed}")
        yield Copy.of(engine, name or names[0])


def _found() -> Project:
    from stackyard.project import Project

    return Project.find(Path.cwd())


def _project() -> str:
    from stackyard.stacks.copied_project import CopiedProject

    return CopiedProject.of(_found()).name


@contextlib.contextmanager
def _started(
    name: str | None, file: Sequence[str] | None, profile: Sequence[str] | None, env_file: Sequence[str] | None,
    timeout: str, *, ttl: float | None, quiet: bool,
) -> Iterator[Copy]:  # fmt: skip
    """Give a `with` block a ready copy; the engine is closed at the block's end."""
    from stackyard._util.durations import seconds
    from stackyard.cli import options
    from stackyard.cli.signals import orderly_end
    from stackyard.docker import Engine
    from stackyard.sites.swarm import copies

    deadline = seconds("--timeout", timeout) if timeout else None
    project, progress = options.project(file, profile, env_file), telling(quiet=quiet)
    with orderly_end(), Engine() as engine:
        yield copies.start(project, engine, name=name or None, ttl=ttl, deadline=deadline, progress=progress)


def _up(
    name: str = "", file: Sequence[str] | None = None, profile: Sequence[str] | None = None,
    env_file: Sequence[str] | None = None, timeout: str = "", ttl: str = "", quiet: bool = False,
    json: bool = False,
) -> None:  # fmt: skip
    from stackyard._util.durations import seconds
    from stackyard.project.git_names import default_name

    lifetime = seconds("--ttl", ttl) if ttl else HOUR
    with _started(
        name or default_name(Path.cwd()), file, profile, env_file, timeout, ttl=lifetime, quiet=quiet
    ) as copy:
        found = copy.addresses
        for line in copy.changes:
            tell(f"note: {line}")
        removal = f"'stackyard down --site swarm --name {copy.lease.name}' removes it"
        end = f"{copy.startup.told()}; {_until(copy.lease)}\n{removal}"
        content = {**_identity(copy.lease), "ports": _ports_of(found), "notes": list(copy.changes),
                   **copy.startup.to_json()}  # fmt: skip
        answer(content, "\n\n".join(filter(None, (_addressed(found), end))), as_json=json)


def _down(name: str = "", all: bool = False, json: bool = False) -> None:  # noqa: A002 - the option's name
    from stackyard.sites.swarm.copies import Copy

    if name and all:
        raise UsageError("--all removes every copy of the project; leave --all or the name out")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if all:
            engine, leases = stack.enter_context(_leases())
            own = [Copy.of(engine, lease.name) for lease in leases if lease.project == _project()]
        else:
            own = [stack.enter_context(_copy(name))]
        removed = sum(len(copy.down().removed) for copy in own)
    names = ", ".join(copy.lease.name for copy in own) or "nothing"
    text = f"{names}: {removed} removed in {time.monotonic() - began:.2f} s"
    answer({"leases": [_identity(copy.lease) for copy in own], "removed": removed}, text, as_json=json)


def _ps(name: str = "", all: bool = False, json: bool = False) -> None:  # noqa: A002 - the option's name
    from stackyard._util.tables import table

    if name:
        _tasks(name, as_json=json)
        return
    with _leases() as (_, leases):
        own = leases if all else [lease for lease in leases if lease.project == _project()]
    rows = [[lease.name, lease.project, lease.state, _until(lease)] for lease in own]
    text = table(rows, ["copy", "project", "state", "until"]) if rows else "no copies are up"
    answer([_identity(lease) for lease in own], text, as_json=json)


def _tasks(name: str, *, as_json: bool) -> None:
    from stackyard._util.tables import table

    with _copy(name) as copy:
        nodes = {node.id: node.name for node in copy.swarm.nodes()}
        found: list[dict[str, Any]] = [
            {"service": task.service, "state": task.state, "node": nodes.get(task.node, task.node),
             "exit_code": task.last_exit, "reason": task.reason}
            for task in sorted(copy.tasks(), key=lambda task: (task.service, task.slot))
        ]  # fmt: skip
        content = {**_identity(copy.lease), "services": found}
    heads = ["service", "state", "node", "exit code", "reason"]
    rows = [[*(row | {"exit_code": exit_code(row["exit_code"])}).values()] for row in found]
    answer(content, table(rows, heads), as_json=as_json)


def _ports(name: str = "", json: bool = False) -> None:
    with _copy(name) as copy:
        found = copy.addresses
        text = _addressed(found) or f"{copy.lease.name} publishes no port"
        answer({**_identity(copy.lease), "ports": _ports_of(found)}, text, as_json=json)


def _logs(
    service: Sequence[str] | None = None, name: str = "", tail: str = "", timestamps: bool = False, json: bool = False
) -> None:  # fmt: skip
    from stackyard.cli.log_lines import chosen_lines

    lines = chosen_lines(tail, "", follow=False, json=json)
    with _copy(name) as copy:
        chosen = list(service or ()) or sorted({task.service for task in copy.tasks()})
        found = {one: copy.logs(one, tail=lines.tail, timestamps=timestamps) for one in chosen}
        prefix = "{} | " if len(chosen) != 1 else ""
        text = "\n".join(f"{prefix.format(one)}{line}" for one, lines in found.items() for line in lines)
        answer({**_identity(copy.lease), "services": found}, text, as_json=json)


def _exec_(
    service: str = "", words: Sequence[str] | None = None, name: str = "", json: bool = False,
) -> None:  # fmt: skip
    from stackyard._util import process
    from stackyard.sites.swarm import inside

    with _copy(name) as copy:
        chosen = service or _only(copy)
        if json:
            done = process.run(inside.command(copy, chosen, words or ()), deadline=EXEC_DEADLINE, check=False)
            code, shown = done.returncode, {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
            answer({**_identity(copy.lease), "service": chosen, **shown}, "", as_json=True)
        else:
            terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
            code = process.passthrough(
                inside.command(copy, chosen, words or (), "--interactive", *terminal), inherit=False
            )
    if code:
        raise Exit(f"{shlex.join(words or ())!r} in {chosen} ended with exit code {code}", code=code)


def _only(copy: Copy) -> str:
    known = sorted(copy.services)
    if len(known) != 1:
        raise UsageError(f"which service? {copy.lease.name} has: {', '.join(known)}")
    return known[0]


def _env(name: str = "", format: str = "dotenv", json: bool = False) -> None:  # noqa: A002 - the option's name
    from stackyard.sites.swarm import copies

    with _copy(name) as copy:
        with contextlib.suppress(UsageError):  # without the project's files, URLs have no passwords
            copies.log_in(copy, _found())
        copy_variables.show(_variables(copy), format, as_json=json)


def _run(
    words: Sequence[str] | None = None, name: str = "", file: Sequence[str] | None = None,
    profile: Sequence[str] | None = None, env_file: Sequence[str] | None = None, timeout: str = "",
    quiet: bool = False,
) -> None:  # fmt: skip
    command = copy_variables.given(words)
    with _started(name, file, profile, env_file, timeout, ttl=None, quiet=quiet) as copy:
        copy_variables.refuse_running(copy.lease.name, copy.startup.seconds)
        try:
            code = copy_variables.run(command, _variables(copy))
        finally:
            copy.down()
    if code:
        raise Exit(code=code)


def _variables(copy: Copy) -> dict[str, str]:
    from stackyard.plan import variables

    return {"STACKYARD_LEASE": copy.lease.id, **variables(copy.addresses)}


def _stale(json: bool = False) -> None:
    """Remove the copies on the Swarm whose lease has ended, and print their names."""
    from stackyard.docker import Engine
    from stackyard.docker.swarm import Swarm
    from stackyard.sites.swarm.removal import sweep

    with Engine() as engine:
        done = sweep(Swarm(engine))
    answer({"removed": done}, "\n".join(f"removed {name}" for name in done) or "nothing to remove", as_json=json)


def _addressed(found: Sequence[Address]) -> str:
    from stackyard._util.tables import table

    rows = [[one.service, one.named, one.shown] for one in found]
    return table(rows, ["service", "port", "for programs"]) if rows else ""


def _ports_of(found: Sequence[Address]) -> list[dict[str, Any]]:
    return [one.to_json() for one in found]


def _identity(lease: Lease) -> dict[str, Any]:
    return {"lease": lease.id, "name": lease.name, "project": lease.project, "state": lease.state,
            "deadline": lease.deadline if math.isfinite(lease.deadline) else None}  # fmt: skip


def _until(lease: Lease) -> str:
    if lease.owner is not None and lease.owner.kind == "process":
        return f"stays as long as {lease.owner.describe()}"
    if not math.isfinite(lease.deadline):
        return "stays until it is removed: its deadline cannot be read"
    return f"stays until {time.strftime('%Y-%m-%d %H:%M', time.localtime(lease.deadline))}"


COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "up": _up, "down": _down, "ps": _ps, "ports": _ports, "logs": _logs, "stale": _stale, "env": _env, "run": _run,
    "exec_": _exec_,
}  # fmt: skip
KNOWN: Final = {name: frozenset(inspect.signature(command).parameters) for name, command in COMMANDS.items()}

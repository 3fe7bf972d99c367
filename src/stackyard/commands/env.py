"""`invoke env.*`: start a stack, look into it, end it."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import sys
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, attach, check_count, failing_cleanly
from stackyard.commands.pool import pool

if TYPE_CHECKING:
    from invoke.context import Context

    from stackyard.stacks import Stack
    from stackyard.starts import Startup

LEASE_HELP = "Lease id or parallel id; may be left out while there is only one stack."
SERVICE_HELP = "Service: postgres, redis, auth or backend."
HOUR = "3600"
MOST_LINES = 100_000


@task(
    help={
        "environment": "Environment: dev, test, alpine-test or ci.",
        "parallel-id": "Name of your own for the lease; the same name gives the same lease.",
        "ttl": "Seconds until the stack may be removed as abandoned.",
        "timeout": "Seconds until the start has failed; the environment's start-up budget unless given.",
        "keep": "Leave a failed start standing, to look inside.",
        "wait": "Seconds to queue when the host has no place or memory for another stack.",
        "force": "Start it even if the host seems to have no memory for it.",
        "json": JSON_HELP,
    }
)
@failing_cleanly
def up(
    _c: Context,
    environment: str = "test",
    parallel_id: str | None = None,
    ttl: str = HOUR,
    timeout: str = "",
    keep: bool = False,
    wait: str = "",
    force: bool = False,
    json: bool = False,
) -> None:
    """Start a stack in a lease of its own and leave it up."""
    from stackyard.engine import Engine  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.environments import Environment  # noqa: PLC0415 - as above
    from stackyard.launch import launch  # noqa: PLC0415 - as above
    from stackyard.leases.names import check_seconds  # noqa: PLC0415 - as above
    from stackyard.survey import open_book  # noqa: PLC0415 - as above

    lifetime, deadline = check_seconds("--ttl", ttl), check_seconds("--timeout", timeout) if timeout else None
    patience = check_seconds("--wait", wait) if wait else None
    wanted, engine = Environment.load(environment), Engine()
    stack, startup = launch(
        wanted, open_book(None, engine), engine, fixed="only" if wanted.data == "volume" else "never", ttl=lifetime,
        parallel_id=parallel_id, keep=keep, deadline=deadline, wait=patience, force=force,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    _show_start(stack, startup, as_json=json)


def _show_start(stack: Stack, startup: Startup, *, as_json: bool) -> None:
    from stackyard.flows import ADDRESSED, access_table  # noqa: PLC0415 - as above

    lease = stack.lease
    if as_json:
        urls = {service: lease.url(service) for service in ADDRESSED}
        shown = {"lease": lease.id, "project": lease.project, "env_file": str(lease.env_file), "urls": urls}
        print(jsonlib.dumps(shown | dataclasses.asdict(startup), indent=2))
        return
    print(f"{access_table(lease)}\n\n{startup.told()}")
    print(f"'invoke env.down --lease {lease.id}' removes it")


@task(help={"environment": "Environment: dev, test, alpine-test or ci.", "json": JSON_HELP})
@failing_cleanly
def capacity(_c: Context, environment: str = "test", json: bool = False) -> None:
    """Say how many more stacks fit on this host now, and what limits them."""
    from stackyard.engine import Engine  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.environments import Environment  # noqa: PLC0415 - as above
    from stackyard.report import MEGABYTE, format_size  # noqa: PLC0415 - as above
    from stackyard.survey import open_book, strangers  # noqa: PLC0415 - as above

    with Engine() as engine:
        found = open_book(None, engine).capacity(Environment.load(environment), strangers=strangers(engine))
    if json:
        print(jsonlib.dumps(found.to_json(), indent=2))
        return
    memory = (
        "no limit known"
        if found.memory is None
        else f"{found.memory} (each books {format_size(found.reserve_mb * MEGABYTE)})"
    )
    print(f"{found.stacks} more stacks of {found.environment} fit; {found.limit} run out first")
    print(f"slots     {found.slots}\nnetworks  {found.networks}\nmemory    {memory}")


@task(help={"lease": LEASE_HELP, "volumes": "Remove the data volume of the dev environment too.", "json": JSON_HELP})
@failing_cleanly
def down(_c: Context, lease: str | None = None, volumes: bool = False, json: bool = False) -> None:
    """Remove a stack and release its lease."""
    removal = attach(lease).down(volumes=volumes)
    if json:
        print(jsonlib.dumps(removal.to_json(), indent=2))
    else:
        print(f"{len(removal.removed)} removed in {removal.seconds:.2f} s")
    removal.check()


@task(help={"lease": LEASE_HELP, "json": JSON_HELP})
@failing_cleanly
def status(_c: Context, lease: str | None = None, json: bool = False) -> None:
    """Show each service of a stack: state, health, memory, restarts."""
    from stackyard.report import table  # noqa: PLC0415 - keeps `invoke -l` quick

    rows = _status(attach(lease))
    if json:
        print(jsonlib.dumps(rows, indent=2))
    else:
        heads = [key.removesuffix("_bytes").replace("_", " ") for key in rows[0]] if rows else []
        print(table([[_shown(key, value) for key, value in row.items()] for row in rows], heads))
        if any(row["health"] == "starting" for row in rows):
            print("starting: the engine has not checked it yet; 'invoke env.wait' asks the services themselves")
    if not rows or any(row["status"] != "running" or row["health"] == "unhealthy" for row in rows):
        raise Exit("not every service is running and well; 'invoke env.logs --service NAME' shows why", code=7)


def _status(stack: Stack) -> list[dict[str, Any]]:
    memory = stack.memory()
    return [
        {
            "service": state.service, "status": state.status, "health": state.health,
            "memory_bytes": (use := memory.get(state.service)) and use.used, "limit_bytes": use and use.limit,
             "restarts": state.restarts, "exit_code": state.exit_code,
        }
        for state in stack.status()
    ]  # fmt: skip


def _shown(key: str, value: Any) -> str:
    from stackyard.report import format_size  # noqa: PLC0415 - keeps `invoke -l` quick

    return "unavailable" if value is None else format_size(value) if key.endswith("_bytes") else str(value)


@task(help={"lease": LEASE_HELP, "service": SERVICE_HELP, "tail": "Number of last lines.", "json": JSON_HELP})
@failing_cleanly
def logs(_c: Context, service: str, lease: str | None = None, tail: str = "100", json: bool = False) -> None:
    """Show the last lines one service wrote."""
    lines = check_count("--tail", tail, most=MOST_LINES)
    stack = attach(lease)
    text = stack.engine.logs(stack.container(service).id, tail=lines)
    print(jsonlib.dumps({"service": service, "lines": text.splitlines()}, indent=2) if json else text, end="")


@task(
    help={
        "lease": LEASE_HELP,
        "service": SERVICE_HELP,
        "command": "Program and arguments in one string, split as a shell would but run without one.",
        "json": "Print exit code and output as JSON instead of using this terminal.",
    }
)
@failing_cleanly
def exec_(_c: Context, service: str, command: str, lease: str | None = None, json: bool = False) -> None:
    """Run a command inside a service's container, on this terminal."""
    stack = attach(lease)
    if json:
        done = stack.exec_output(service, command)
        shown = {"service": service, "exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
        print(jsonlib.dumps(shown, indent=2))
        code = done.returncode
    else:
        code = stack.exec(service, command)
    if code:
        raise Exit(f"{command!r} in {service} ended with exit code {code}", code=code)


@task(help={"lease": LEASE_HELP, "timeout": "Seconds until it is given up.", "json": JSON_HELP})
@failing_cleanly
def wait(_c: Context, lease: str | None = None, timeout: str = "30", json: bool = False) -> None:
    """Wait until every service of a stack answers its probe."""
    from stackyard.leases.names import check_seconds  # noqa: PLC0415 - keeps `invoke -l` quick

    deadline = check_seconds("--timeout", timeout)
    ready = attach(lease).wait(deadline=deadline)
    if json:
        print(jsonlib.dumps(dict(ready), indent=2))
        return
    for service, seconds in ready.items():
        print(f"{service} ready after {seconds:.2f} s")


@task(help={"lease": LEASE_HELP, "service": SERVICE_HELP, "json": JSON_HELP})
@failing_cleanly
def restart(_c: Context, service: str, lease: str | None = None, json: bool = False) -> None:
    """Restart one service's container; its address stays."""
    stack = attach(lease)
    stack.restart(service)
    print(jsonlib.dumps({"service": service, "lease": stack.lease.id}) if json else f"{service} restarted")


@task(
    help={
        "lease": LEASE_HELP,
        "yes": "Delete the data of an environment that keeps it, such as dev, too.",
        "json": JSON_HELP,
    }
)
@failing_cleanly
def reset(_c: Context, lease: str | None = None, yes: bool = False, json: bool = False) -> None:
    """Bring a stack's data back to the state after its start; the services stay up."""
    stack = attach(lease)
    done = stack.reset(yes=yes)
    if json:
        print(jsonlib.dumps({"lease": stack.lease.id} | dataclasses.asdict(done), indent=2))
    else:
        print(f"reset in {done.seconds * 1000:.0f} ms")


collection = Collection("env", up, down, capacity, pool, status, logs, wait, restart, reset)
collection.add_task(exec_, name="exec")

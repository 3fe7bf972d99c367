"""`invoke ports.*`: lease ports, a subnet and a project name; see, renew and end leases."""

from __future__ import annotations

import json as jsonlib
import shlex
import time
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, failing_cleanly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invoke.context import Context

    from stackyard.leases import Lease, LeaseBook, Strangers, Survivor

ENGINE_DEADLINE = 2.0  # seconds
ID_HELP = "The lease's parallel id, or its own id."


@task(
    help={
        "parallel-id": "Your name for the lease; the same one gives the same lease again, from any process.",
        "environment": "Environment the lease is for.",
        "ttl": "Seconds until the lease ends unless renewed; an hour if not given.",
        "wait": "Seconds to queue for a place when none is free.",
        "force": "Lease it even if the host seems to have no memory for another stack.",
        "json": JSON_HELP,
    }
)
@failing_cleanly
def allocate(
    _c: Context,
    parallel_id: str,
    environment: str = "test",
    ttl: str = "",
    wait: str = "",
    force: bool = False,
    json: bool = False,
) -> None:
    """Lease a block of ports, a subnet and a project name; print them and the command that uses them."""
    from stackyard.environments import Environment  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.leases.names import check_id, check_seconds  # noqa: PLC0415 - as above

    check_id("a parallel id", parallel_id)
    lifetime = check_seconds("ttl", ttl) if ttl else None
    patience = check_seconds("wait", wait) if wait else None
    book = _book()
    found = Environment.load(environment, book.settings.root)
    lease = book.acquire(
        found, parallel_id=parallel_id, ttl=lifetime, wait=patience, strangers=_strangers(), force=force
    )
    compose = shlex.join(
        ["docker", "compose", "--file", str(found.compose_file), "--env-file", str(lease.env_file), "up", "--wait"]
    )
    if json:
        print(jsonlib.dumps({**lease.to_json(), "command": compose}, indent=2))
    else:
        print(f"{_description(lease)}\n\nuse it:  {compose}\nend it:  invoke ports.release --parallel-id {parallel_id}")


@task(help={"parallel-id": ID_HELP, "json": JSON_HELP})
@failing_cleanly
def release(_c: Context, parallel_id: str, json: bool = False) -> None:
    """End a lease and delete its files; its containers must be gone."""
    book = _book()
    lease = book.find(parallel_id)
    book.release(lease)
    _say({"released": lease.id}, f"released lease {lease.id} ({lease.environment}, {_ports(lease)})", as_json=json)


@task(help={"parallel-id": ID_HELP, "ttl": "Seconds from now until the lease ends.", "json": JSON_HELP})
@failing_cleanly
def renew(_c: Context, parallel_id: str, ttl: str = "3600", json: bool = False) -> None:
    """Let a lease end later."""
    from stackyard.leases.names import check_seconds  # noqa: PLC0415 - as above

    lease = _book().renew(parallel_id, check_seconds("ttl", ttl))
    _say(lease.to_json(), f"lease {lease.id} ends {_ending(lease)}", as_json=json)


@task(name="list", help={"json": JSON_HELP})
@failing_cleanly
def show(_c: Context, json: bool = False) -> None:
    """Show all leases, oldest first, and who owns them."""
    leases = _book().leases()
    _say([lease.to_json() for lease in leases], _table(leases), as_json=json)


@task(help={"json": JSON_HELP})
@failing_cleanly
def check(_c: Context, json: bool = False) -> None:
    """Check the lease book, and for each lease its owner and who has its ports bound."""
    from stackyard.errors import BookError  # noqa: PLC0415 - as above
    from stackyard.leases.ground import port_holders  # noqa: PLC0415 - as above

    book = _book()
    verdict, leases = book.check(), book.leases()
    bound = port_holders(port for lease in leases for port in lease.ports.values())
    findings = [_finding(book, lease, bound) for lease in leases]
    text = "\n".join(f"{f['lease']}: {f['owner']}; bound: {_bound(f['bound'])}" for f in findings)
    _say({"book": verdict, "leases": findings}, f"book: {verdict}\n{text}".rstrip(), as_json=json)
    if verdict != "ok":
        raise BookError(
            f"{book.settings.state_dir}: the lease book is wrong: {verdict}; move it away to have it rebuilt"
        )


@task(help={"json": JSON_HELP})
@failing_cleanly
def gc(_c: Context, json: bool = False) -> None:
    """Remove the stacks of stale leases, and the leases with them."""
    from stackyard.cleanup import remove_stale  # noqa: PLC0415 - as above

    removal = remove_stale()
    text = "\n".join([*(f"removed {name}" for name in removal.removed), f"{len(removal.leases)} leases released"])
    _say(removal.to_json(), text, as_json=json)
    removal.check()


@task(help={"every": "Seconds between two looks."})
@failing_cleanly
def watch(_c: Context, every: str = "1") -> None:
    """Show the leases as they come and go, until interrupted."""
    import contextlib  # noqa: PLC0415 - as above

    from rich.live import Live  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    from stackyard.leases.names import check_seconds  # noqa: PLC0415 - as above

    book, pause = _book(), check_seconds("every", every)
    with contextlib.suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        while True:
            live.update(Text(_table(book.leases())), refresh=True)
            time.sleep(pause)


def _book() -> LeaseBook:
    from stackyard.leases import LeaseBook  # noqa: PLC0415 - as above
    from stackyard.settings import Settings  # noqa: PLC0415 - as above

    settings = Settings.load()
    return LeaseBook(settings, lambda: _survivors(settings.host))


def _survivors(host: str) -> list[Survivor]:
    """Ask the engine for the stacks of a book that is new; any other book never gets here."""
    from stackyard import survey  # noqa: PLC0415 - the engine's client costs 0.2 s
    from stackyard.engine import Engine  # noqa: PLC0415 - as above

    with Engine() as engine:
        return survey.survivors(engine, host)


def _strangers() -> Strangers | None:
    """Ask a running engine for what the kernel does not show; a lease needs no engine, and does not wait for one."""
    from stackyard import survey  # noqa: PLC0415 - as above
    from stackyard.engine import Engine  # noqa: PLC0415 - as above
    from stackyard.errors import EngineError  # noqa: PLC0415 - as above

    try:
        with Engine(deadline=ENGINE_DEADLINE) as engine:
            return survey.strangers(engine)
    except EngineError:
        return None


def _say(data: Any, text: str, *, as_json: bool) -> None:
    print(jsonlib.dumps(data, indent=2) if as_json else text)


def _ports(lease: Lease) -> str:
    every = (*lease.ports.values(), *lease.spare)
    return f"ports {every[0]}-{every[-1]}" if lease.slot is not None else f"ports {', '.join(map(str, every))}"


def _ending(lease: Lease) -> str:
    if lease.deadline is None:
        return "with its owner" if lease.owner.kind == "process" else "when released"
    left = lease.deadline - time.time()
    return f"in {left:.0f} s" if left > 0 else f"{-left:.0f} s ago"


def _description(lease: Lease) -> str:
    rows = [
        ("lease", lease.id if lease.parallel_id is None else f"{lease.id} ({lease.parallel_id})"),
        *((service, _address(lease, service)) for service in lease.ports),
        ("spare", ", ".join(map(str, lease.spare)) or "none"),
        ("subnet", lease.subnet),
        ("project", lease.project),
        ("env file", str(lease.env_file)),
        ("ends", _ending(lease)),
    ]
    return "\n".join(f"{name:<10}{value}" for name, value in rows)


def _address(lease: Lease, service: str) -> str:
    if service == "websocket":
        return f"{_address(lease, 'backend')} (the backend serves it; {lease.ports[service]} is kept for it)"
    return f"127.0.0.1:{lease.ports[service]}"


def _table(leases: Sequence[Lease]) -> str:
    if not leases:
        return "no leases"
    from stackyard.report import table  # noqa: PLC0415 - as above

    rows = [
        [
            lease.id, lease.parallel_id or "", lease.environment, _ports(lease).removeprefix("ports "), lease.subnet,
            lease.owner.describe(), f"{_ending(lease)}{' (stale)' if lease.is_stale(time.time()) else ''}",
        ]
        for lease in leases
    ]  # fmt: skip
    return table(rows, ["lease", "parallel id", "environment", "ports", "subnet", "owner", "ends"])


def _finding(book: LeaseBook, lease: Lease, bound: dict[int, str]) -> dict[str, Any]:
    return {
        "lease": lease.id,
        "stale": book.is_stale(lease),
        "owner": f"{lease.owner.describe()}, {'stale' if book.is_stale(lease) else 'alive'}",
        "bound": {str(port): bound[port] for port in lease.ports.values() if port in bound},
    }


def _bound(ports: dict[str, str]) -> str:
    return ", ".join(f"{port} by {who}" for port, who in ports.items()) or "none"


collection = Collection("ports", allocate, release, renew, show, check, gc, watch)

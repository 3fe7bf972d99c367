"""`invoke ports.*`: lease ports, a subnet and a project name; show, renew and end leases."""

from __future__ import annotations

import json as jsonlib
import time
from typing import TYPE_CHECKING, Any, Final

from invoke.collection import Collection

from stackyard._util import streams
from stackyard._util.advice import Action, typed
from stackyard._util.durations import said
from stackyard._util.tables import table
from stackyard.cli import cleanup, leasing, options
from stackyard.cli.common import HOUR, answer, identity, only, tell
from stackyard.cli.leasing import handle, open_book, ports_text, start_command, strangers
from stackyard.cli.task import command
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.leases import Lease, LeaseBook

FINE: Final = 120  # seconds; a longer time is shown to the minute


@command(
    words=["name"],
    options={
        "name": options.NAME.but(
            help="Your name for the lease; the same name gives the same lease again, from any process. Made up for you "
            "if you give none."
        ),
    },
)
def allocate(
    name: str = "",
    environment: str = "test",
    ttl: float | None = None,
    queue_timeout: float | None = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Lease a block of ports, a subnet and a project name; prints them and the commands that use and end the lease."""
    from stackyard.leases.names import check_id, made_up
    from stackyard.project.environments import Environment

    if name:
        check_id("--name", name)
    book = open_book()
    found = Environment.load(environment, book.settings.root)
    lease = book.acquire(
        found, parallel_id=name or made_up({lease.parallel_id for lease in book.leases()}), ttl=ttl,
        wait=queue_timeout, strangers=strangers, force=force,
    )  # fmt: skip
    command = start_command(found.compose_file, lease.env_file)
    down = typed(Action.REMOVE, name=handle(book, lease))
    text = f"{_description(lease)}\n\nuse it:  {command}\nend it:  {down}"
    answer({**lease.to_json(), "command": command, "end_command": down}, text, as_json=json)


@command(words=["name"], options={"environment": options.OF_NAME})
def release(name: str = "", environment: str = "", json: bool = False) -> None:
    """End a lease and delete its files; refuses with exit code 8 while containers of it exist."""
    book = open_book()
    lease = _chosen(book, name, environment)
    done = leasing.release(book, lease, note=tell)
    answer(done, f"released {lease.title} ({lease.environment}, {ports_text(lease)})", as_json=json)


@command(
    words=["name"],
    options={
        "environment": options.OF_NAME,
        "ttl": options.TTL.but(
            help="Time from now until the lease ends, such as 30m or 4h (default: 1h; no end stays no end)."
        ),
    },
)  # fmt: skip
def renew(name: str = "", environment: str = "", ttl: float | None = None, json: bool = False) -> None:
    """Extend a lease."""
    book = open_book()
    lease = _chosen(book, name, environment)
    if lease.deadline is not None or ttl:
        _check_renewable(lease)
        lease = book.renew(lease.id, ttl or HOUR)
    answer(lease.to_json(), f"{lease.title} ends {_ending(lease)}", as_json=json)


def _check_renewable(lease: Lease) -> None:
    """
    Refuse a deadline for a lease that stays as long as a process: it could only end the stack of a run too early.

    Raises:
        UsageError: If it is one.
    """
    if lease.deadline is None and lease.owner.kind == "process":
        raise UsageError(f"{lease.title} stays as long as {lease.owner.describe()} runs, so it takes no --ttl")


@command(name="list")
def show(json: bool = False) -> None:
    """Show all leases, oldest first, and who owns them."""
    leases = open_book().leases()
    answer([lease.to_json() for lease in leases], _table(leases), as_json=json)


@command()
def check(json: bool = False) -> None:
    """Check the lease book, and show for each lease its owner and which of its ports are in use, by whom."""
    from stackyard.errors import BookError
    from stackyard.leases.grants.host_ports import port_holders
    from stackyard.leases.owners import short

    book = open_book()
    verdict, leases = book.check(), book.leases()
    bound = port_holders(port for lease in leases for port in lease.ports.values())
    findings = [_finding(book, lease, bound) for lease in leases]
    lines = [f"book: {verdict}"]
    for lease, found in zip(leases, findings, strict=True):
        lines.append(f"{lease.title}: owner {_owner(lease)}, {'stale' if found['stale'] else 'alive'}")
        lines += [f"  {port} in use by {short(who)}" for port, who in found["bound"].items()]
    answer({"book": verdict, "leases": findings}, "\n".join(lines), as_json=json)
    if verdict != "ok":
        advice = "; move it away, and it is made again from the stacks that run"
        raise BookError(
            f"{book.settings.state_dir}: the lease book was wrong, {verdict}"
            f"{'' if verdict.startswith('fixed') else advice}"
        )


@command(options={"json": options.JSON.but(help="Print the leases as one line of JSON for each update.")})
def watch(interval: float | None = None, json: bool = False) -> None:
    """Show the leases, updated until Ctrl-C."""
    import contextlib

    book, pause = open_book(), interval or 1.0
    with contextlib.suppress(KeyboardInterrupt):
        if json:
            _stream(book, pause)
        else:
            _live(book, pause)


def _stream(book: LeaseBook, pause: float) -> None:
    with streams.endless():
        while True:
            print(jsonlib.dumps([lease.to_json() for lease in book.leases()]), flush=True)
            time.sleep(pause)


def _live(book: LeaseBook, pause: float) -> None:
    from rich.live import Live
    from rich.text import Text

    with streams.endless(), Live(auto_refresh=False) as live:
        while True:
            live.update(Text(_table(book.leases())), refresh=True)
            time.sleep(pause)


def _chosen(book: LeaseBook, name: str, environment: str) -> Lease:
    return book.find(name, environment=environment or None) if name else only(book, environment=environment)


def _ending(lease: Lease) -> str:
    if lease.deadline is None:
        return "with its owner" if lease.owner.kind == "process" else "when released"
    left = lease.deadline - time.time()
    length = said(abs(left) if abs(left) < FINE else round(abs(left) / 60) * 60)
    return f"in {length}" if left > 0 else f"{length} ago"


def _description(lease: Lease) -> str:
    used, servers = lease.published, lease.servers()
    rows = [
        ("lease", lease.title),
        *((service, f"127.0.0.1:{port}") for service, port in used.items()),
        *(
            (service, f"127.0.0.1:{used[server]} (the {server} serves it)")
            for service, server in servers.items()
            if service != server
        ),
        ("spare", ", ".join(map(str, lease.spare)) or "none"),
        ("subnet", lease.subnet),
        ("project", lease.project),
        ("env file", str(lease.env_file)),
        ("ends", f"{_ending(lease)}; '{typed(Action.EXTEND, name=lease.parallel_id or lease.id)}' extends it"),
    ]
    return "\n".join(f"{name:<10}{value}" for name, value in rows)


def _table(leases: Sequence[Lease]) -> str:
    if not leases:
        return "no leases"
    now = time.time()
    rows = [
        [lease.title, lease.environment, ports_text(lease).removeprefix("ports "), _owner(lease),
         f"{_ending(lease)}{' (stale)' if lease.is_stale(now) else ''}", lease.checkout]
        for lease in leases
    ]  # fmt: skip
    return table(rows, ["lease", "environment", "ports", "owner", "ends", "checkout"])


def _owner(lease: Lease) -> str:
    from stackyard.leases.owners import short

    return short(lease.owner.describe())


def _finding(book: LeaseBook, lease: Lease, bound: Mapping[int, str]) -> dict[str, Any]:
    return {
        **identity(lease),
        "stale": book.is_stale(lease),
        "owner": lease.owner.describe(),
        "bound": {str(port): bound[port] for port in lease.ports.values() if port in bound},
    }


collection = Collection("ports", allocate, release, renew, show, check, watch)
collection.add_task(cleanup.stale, name="gc")

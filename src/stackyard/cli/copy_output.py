"""What commands print about a copy, on any site: where it answers, how it became ready, and what removes it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from stackyard._util.advice import at_site
from stackyard._util.tables import format_count, format_seconds, table
from stackyard.cli.common import answer, identity, tell
from stackyard.errors import NotReadyError, StackyardError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.cleanup.outcome import Removal
    from stackyard.leases import Lease
    from stackyard.plan import Address
    from stackyard.stacks.copies.lifecycle import Copy
    from stackyard.stacks.readiness.waiting import StackReady
    from stackyard.stacks.starts.times import Startup


def handle(lease: Lease) -> str:
    """Return what its user calls a copy: its name, else its id."""
    return lease.parallel_id or lease.id


def namesakes(leases: Sequence[Lease], lease: Lease) -> list[Lease]:
    """Return the other copies of the same name from the same folder: its project had another name when they started."""
    return [
        other for other in leases
        if other.is_copy and other.parallel_id and other.parallel_id == lease.parallel_id
        and other.checkout == lease.checkout and other.id != lease.id
    ]  # fmt: skip


def also_up(lease: Lease) -> str:
    """Say that a copy of another project of the folder runs, too, and what removes it."""
    project, end = lease.environment.rpartition("-")[0], at_site(f"stackyard down --name {lease.id}")
    return f"warning: a copy {lease.title} of project {project} runs from this folder, too; '{end}' removes it"


def one_more(leases: Sequence[Lease], lease: Lease) -> str:
    """Say that a copy without a name is not the first of its folder; empty if it is, or has a name."""
    number = sum(other.is_copy and other.checkout == lease.checkout for other in leases)
    return "" if lease.parallel_id else another(number)


def another(number: int) -> str:
    """Say that a copy without a name is number *number* of its folder; empty for the first."""
    if number < 2:  # noqa: PLR2004 - itself and another
        return ""
    again = at_site("stackyard up --name NAME")
    return (
        f"warning: this is copy {number} of this folder: outside of git, and on no branch, each 'up' without a name "
        f"starts one more; '{again}' finds the same copy again"
    )


def tell_of_lost(copy: Copy) -> None:
    """Name each service that has ended while a command used the copy, with its last lines; the copy will be removed."""
    from stackyard.docker.ownership import Holdings
    from stackyard.docker.records import SERVICE_LABEL
    from stackyard.stacks.copies.standing import Standing
    from stackyard.stacks.diagnostics import collect

    with contextlib.suppress(StackyardError):
        containers = Holdings.of(copy.book.host, copy.lease).containers(copy.engine)
        lost = Standing(copy.engine, containers, copy.model).lost
        gone = [item for item in containers if item.labels.get(SERVICE_LABEL) in lost]
        for service in collect(copy.engine, gone, secrets=()):
            tell(f"warning: while the command ran, {service}")


def addressed(found: Sequence[Address], name: str) -> str:
    """Say where each published port answers: for a browser, and for programs."""
    rows = [[item.service, item.named, item.browser(name), item.shown] for item in found]
    if not rows:
        return ""
    browsers = any(row[2] for row in rows)
    shown = rows if browsers else [[*row[:2], row[3]] for row in rows]
    return table(shown, ["service", "in the file", *(["in a browser"] if browsers else []), "for programs"])


def proved(ready: StackReady | None) -> str:
    """Say how each service proved usable, and by which rule."""
    if ready is None:
        return ""
    rows = [[one.service, format_seconds(one.seconds), one.how, one.rule.why] for one in ready.services]
    return table(rows, ["service", "ready after", "it showed", "rule"])


def show_up(
    said: dict[str, Any], name: str, found: Sequence[Address], startup: Startup, ends: str, *, as_json: bool
) -> None:  # fmt: skip
    """
    Print what `up` says of a copy that is ready.

    Args:
        said: What every JSON answer says of it.
        name: What its user calls it.
        found: Where it answers.
        startup: How its start went.
        ends: Until when it stays.
        as_json: Whether to print JSON.
    """
    # Compose is slower than the engine, so the user should know why
    made = f"made by {startup.by}\n" if startup.by.startswith("compose") else ""
    last = f"{made}{startup.told()}; {ends}\n'{at_site(f'stackyard down --name {name}')}' removes it"
    text = "\n\n".join(filter(None, (addressed(found, name), proved(startup.ready), last)))
    answer({**said, "ports": ports(found, name), **startup.to_json()}, text, as_json=as_json)


def show_removed(
    titles: Sequence[str], said: Sequence[dict[str, Any]], done: Sequence[Removal], took: float, *, as_json: bool
) -> None:  # fmt: skip
    """
    Print what `down` says.

    Args:
        titles: The copies.
        said: What every JSON answer says of each.
        done: What was removed.
        took: Seconds that it took.
        as_json: Whether to print JSON.
    """
    removed = sum(len(removal.removed) for removal in done)
    text = f"{', '.join(titles)}: {removed} removed in {took:.2f} s" if titles else "no copies are up; 0 removed"
    answer({"leases": list(said), "removals": [item.to_json() for item in done]}, text, as_json=as_json)


def show_cleaned(done: Removal, *, as_json: bool) -> None:
    """Print what a clean-up removed."""
    released = format_count(len(done.leases), "lease")
    last = f"{len(done.removed)} removed, {released} released in {done.seconds:.2f} s"
    answer(done.to_json(), "\n".join([*(f"removed {name}" for name in done.removed), last]), as_json=as_json)


def ports(found: Sequence[Address], name: str) -> list[dict[str, Any]]:
    """Return where each published port answers, for JSON."""
    return [{**item.to_json(), "browser": item.browser(name) or None} for item in found]


def not_well(title: str, name: str) -> NotReadyError:
    """Return the error of the copy *title*, whose user calls it *name*, if not every service of it is well."""
    logs, end = (at_site(f"stackyard {word} --name {name}") for word in ("logs", "down"))
    return NotReadyError(
        f"not every service of {title} is running and healthy; '{logs}' shows what they wrote, and '{end}' and then "
        "the same 'stackyard up' start all of it again"
    )


def identified(lease: Lease) -> dict[str, Any]:
    """Return what every JSON answer says of a copy."""
    return {**identity(lease), "project": lease.project, "checkout": lease.checkout, "deadline": lease.deadline}

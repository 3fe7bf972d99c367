"""What commands say of a copy: where it answers, how it became ready, and how to name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackyard.cli.common import identity

if TYPE_CHECKING:
    from stackyard.leases import Lease
    from stackyard.stacks.copies import Copy


def addressed(copy: Copy) -> list[str]:
    """Say where each published port answers: for a browser, and for programs."""
    from stackyard._util.tables import table

    name = copy.lease.parallel_id or copy.lease.id
    rows = [[item.service, item.named, item.browser(name), item.shown] for item in copy.addresses]
    if not rows:
        return []
    browsers = any(row[2] for row in rows)
    shown = rows if browsers else [[*row[:2], row[3]] for row in rows]
    return [table(shown, ["service", "in the file", *(["in a browser"] if browsers else []), "for programs"])]


def proved(copy: Copy) -> list[str]:
    """Say how each service proved usable, and by which rule."""
    from stackyard._util.tables import format_seconds, table

    if copy.ready is None:
        return []
    rows = [[one.service, format_seconds(one.seconds), one.how, one.rule.why] for one in copy.ready.services]
    return [table(rows, ["service", "ready after", "it showed", "rule"]), ""]


def by_compose(copy: Copy) -> list[str]:
    """Say why a start went through Compose, which is slower."""
    by = copy.startup.by
    return [f"made by {by}"] if by.startswith("compose") else []


def ports(copy: Copy) -> list[dict[str, Any]]:
    """Return where each published port answers, for JSON."""
    name = copy.lease.parallel_id or copy.lease.id
    return [{**item.to_json(), "browser": item.browser(name) or None} for item in copy.addresses]


def identified(lease: Lease) -> dict[str, Any]:
    """Return what every JSON answer says of a copy."""
    return {**identity(lease), "project": lease.project, "checkout": lease.checkout, "deadline": lease.deadline}


def removal_of(lease: Lease) -> str:
    """Return the command that removes a copy."""
    return f"stackyard down --name {lease.parallel_id or lease.id}"

"""`--site`: where the copies of a command are; `stackyard site`: what each site can take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from invoke.tasks import task

from stackyard.cli import options
from stackyard.cli.common import answer
from stackyard.cli.options import Option
from stackyard.cli.task import Command
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from invoke.context import Context

    from stackyard.sites import Site
    from stackyard.sites.known import Known

ACTIONS: Final = ("list",)


def at(text: str) -> Site:
    """
    Let this command, and the programs that it starts, use the site that *text* or STACKYARD_SITE names.

    Raises:
        UsageError: If it names none.
    """
    from stackyard.sites import Site

    site = Site.find(text)
    site.require_engine()
    site.use()
    return site


@task(
    klass=Command,
    words=["action"],
    options={
        "action": Option(
            help="What to do: list (the default) shows each site and what its engine has.", value="ACTION"
        ),
        "json": options.JSON,
    },
)
def site(_c: Context, action: str = "list", json: bool = False) -> None:
    """Show where copies can run: this host's engine, each Docker context and a Swarm, with what each engine has."""
    from stackyard.sites.known import known

    if action not in ACTIONS:
        raise UsageError(f"the action must be {' or '.join(ACTIONS)}, got {action[:60]!r}")
    found = known()
    answer([item.to_json() for item in found], _text(found), as_json=json)


def _text(found: list[Known]) -> str:
    from stackyard._util.tables import format_size, table

    rows = [
        [item.site.name, item.site.endpoint.url, facts.version, facts.processors, format_size(facts.memory_bytes),
         facts.copies]
        for item in found if (facts := item.facts)
    ]  # fmt: skip
    shown = table(rows, ["site", "engine", "version", "processors", "memory", "copies"]) if rows else ""
    silent = [f"{item.site.name} does not answer: {item.why}" for item in found if item.why]
    return "\n".join([*filter(None, [shown]), *silent])

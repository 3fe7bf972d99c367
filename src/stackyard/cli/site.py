"""`--site`: where the copies of a command are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackyard.errors import UsageError

if TYPE_CHECKING:
    from stackyard.sites import Site


def at(text: str) -> Site:
    """
    Let this command, and the programs that it starts, use the site that *text* or STACKYARD_SITE names.

    Raises:
        UsageError: If it names none.
    """
    from stackyard.sites import Site

    site = Site.find(text)
    if site.kind == "swarm":
        raise UsageError("--site swarm: this version runs no copies on a Swarm; use local or context:NAME")
    site.use()
    return site

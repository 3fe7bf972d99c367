"""`--site`: where the copies of a command are; `stackyard site`: what each site can take."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from invoke.exceptions import Exit

from stackyard._util import advice
from stackyard._util.tables import format_size, table
from stackyard.cli import options
from stackyard.cli.common import answer, check_count, confirmed, opened
from stackyard.cli.options import Option
from stackyard.cli.task import command
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.docker import Engine
    from stackyard.docker.swarm import Swarm
    from stackyard.leases import LeaseBook
    from stackyard.sites import Site
    from stackyard.sites.site_list import Known

ACTIONS: Final = ("list", "registry", "reaper")


def at(text: str) -> Site:
    """
    Let this command, and the programs that it starts, use the site that *text* or STACKYARD_SITE names.

    Raises:
        UsageError: If it names none.
    """
    site = chosen_site(text)
    site.require_engine()
    site.use()
    return site


def chosen_site(text: str) -> Site:
    """
    Return the site that *text* or STACKYARD_SITE names; the command lines of texts name it, too, if *text* does.

    Raises:
        UsageError: If it names none.
    """
    from stackyard.sites import Site

    advice.choose_site(text.strip())
    return Site.find(text)


def named(words: Sequence[str]) -> Site:
    """
    Return the site that *words*, typed after a command that is not known, or STACKYARD_SITE name.

    Raises:
        UsageError: If they name none.
    """
    given = [*words, ""]
    named = [given[place + 1] if word == "--site" else word.removeprefix("--site=")
             for place, word in enumerate(words) if word == "--site" or word.startswith("--site=")]  # fmt: skip
    return chosen_site("".join(named[-1:]))


@contextlib.contextmanager
def opened_at(site: str) -> Iterator[tuple[LeaseBook, Engine]]:
    """Give a `with` block the lease book and the engine of the site that *site* or STACKYARD_SITE names."""
    at(site)
    with opened() as found:
        yield found


@command(
    words=["action"],
    options={
        "action": Option(
            help="What to do: list (the default) shows each site and what its engine has; registry runs a registry on "
            "a Swarm, from which its nodes get images that only the manager has; reaper runs a service there that "
            "removes copies whose lease has ended. Both show the one that runs.",
            value="ACTION",
        ),
        "image": Option(
            help="The registry's image (default: registry:2), or one with Python for the reaper's (default: "
            "python:3.13-slim).",
            value="IMAGE",
        ),
        "port": Option(help="The registry's port on the manager's node (default: 5000).", value="PORT"),
        "remove": Option(help="Remove the Swarm's registry with the images in it, or its reaper; asks first."),
        "site": options.SITE.but(help="The Swarm of the registry or reaper: swarm (default: STACKYARD_SITE)."),
    },
)
def site(
    action: str = "list",
    image: str = "",
    port: str = "",
    remove: bool = False,
    yes: bool = False,
    site: str = "",
    json: bool = False,
) -> None:
    """Show where copies can run: this host's engine, each Docker context, a Swarm; run a Swarm's registry or reaper."""
    if action not in ACTIONS:
        raise UsageError(f"the action must be list, registry or reaper, got {action[:60]!r}")
    if action != "list":
        run = _registry if action == "registry" else _reaper
        run(image, port, site, remove=remove, yes=yes, json=json)
        return
    if image or port or remove or yes or site:
        raise UsageError("--image, --port, --remove, --yes and --site are for 'stackyard site registry' and 'reaper'")
    from stackyard.sites.site_list import known

    found = known()
    answer([item.to_json() for item in found], _text(found), as_json=json)


@contextlib.contextmanager
def _swarm(what: str, where: str) -> Iterator[Swarm]:
    """Give a `with` block the Swarm that *where* or STACKYARD_SITE says."""
    from stackyard.cli.on_swarm import named
    from stackyard.docker import Engine
    from stackyard.docker.swarm import Swarm

    if not named(where):
        raise UsageError(f"a {what} is for a Swarm: say --site swarm")
    with Engine() as engine:
        swarm = Swarm(engine)
        swarm.now()
        yield swarm


def _removed(what: str, question: str, take: Callable[[], list[str]], *, yes: bool, json: bool) -> None:
    if not yes and not confirmed(question):
        raise Exit("nothing removed; --yes removes without asking", code=UsageError.exit_code)
    gone = take()
    answer({"removed": gone}, "\n".join(f"removed {name}" for name in gone) or f"no {what}", as_json=json)


def _registry(image: str, port: str, where: str, *, remove: bool, yes: bool, json: bool) -> None:
    from stackyard.sites.swarm import registry

    number = check_count("--port", port, most=65535) if port else registry.PORT
    with _swarm("registry", where) as swarm:
        if remove:
            question = "remove the Swarm's registry and all images in it?"
            _removed("registry", question, lambda: registry.remove(swarm), yes=yes, json=json)
            return
        made = registry.start(swarm, image=image or registry.IMAGE, port=number)
    head = [f"the registry at {made.address} answers; root lets a node trust it with:", *made.trust()]
    content = {"address": made.address, "certificate": made.certificate, "trust": made.trust()}
    answer(content, "\n".join(head), as_json=json)


def _reaper(image: str, port: str, where: str, *, remove: bool, yes: bool, json: bool) -> None:
    from stackyard.sites.swarm import reaper, reaper_service

    if port:
        raise UsageError("--port: a reaper has none; leave it out")
    with _swarm("reaper", where) as swarm:
        if remove:
            question = "remove the Swarm's reaper? copies whose lease has ended then stay until the next command"
            _removed("reaper", question, lambda: reaper_service.remove(swarm), yes=yes, json=json)
            return
        found = reaper_service.start(swarm, image=image or reaper_service.IMAGE)
    text = f"the reaper runs on node {found.node}; it looks for copies whose lease has ended every {reaper.EVERY:g} s"
    if found.old:
        text += f"\nits version is {found.version}: remove it with --remove, and start it again"
    answer({"node": found.node, "version": found.version, "every_seconds": reaper.EVERY}, text, as_json=json)


def _text(found: list[Known]) -> str:
    rows = [
        [item.site.name, item.site.endpoint.url, facts.version, facts.processors, format_size(facts.memory_bytes),
         facts.copies]
        for item in found if (facts := item.facts)
    ]  # fmt: skip
    shown = table(rows, ["site", "engine", "version", "processors", "memory", "copies"]) if rows else ""
    silent = [f"{item.site.name} does not answer: {item.why}" for item in found if item.why]
    return "\n".join(filter(None, [shown, *silent, *(item.told for item in found)]))

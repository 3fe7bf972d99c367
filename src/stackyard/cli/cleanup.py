"""`invoke cleanup.*`: show what is left on this host, and remove it, by label."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.exceptions import Exit

from stackyard._util.advice import Action, typed
from stackyard._util.durations import said
from stackyard._util.tables import format_count, format_size, table
from stackyard.cli import options
from stackyard.cli.common import answer, confirmed, opened, sized
from stackyard.cli.copy_output import show_cleaned
from stackyard.cli.on_swarm import also_on_swarm
from stackyard.cli.site import at, opened_at
from stackyard.cli.task import command
from stackyard.errors import BookError, EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.cleanup.plan import Candidate
    from stackyard.docker import Engine
    from stackyard.images.unused import Clearance, Surplus
    from stackyard.leases import LeaseBook


@command(options={"volumes": options.VOLUMES.but(help="Also list data volumes that --volumes would remove.")})
def plan(volumes: bool = False, json: bool = False) -> None:
    """Show what cleanup.stale and cleanup.all would remove, its owner and the reason; changes nothing."""
    _plan(volumes=volumes, as_json=json)


@command(options={"site": options.SITE.but(help="Where to clean up: local, context:NAME or swarm (default: local).")})
@also_on_swarm
def stale(volumes: bool = False, dry_run: bool = False, site: str = "", json: bool = False) -> None:
    """Remove expired stacks and those of runs that have died; a stack in use is never touched."""
    from stackyard.cleanup.removal import sweep

    at(site)
    if dry_run:
        _plan(volumes=volumes, as_json=json, command="stale")
        return
    with opened() as (book, engine):
        done = sweep(book, engine, keep_volumes=not volumes)
        show_cleaned(done, as_json=json)
        if line := "" if json else _images_that_stay(book, engine):
            print(line)
    done.check()


def _images_that_stay(book: LeaseBook, engine: Engine) -> str:
    """Say how many images of copies there are, and what removes them; empty without one, and without an engine."""
    from stackyard.stacks import unused_images

    sizes = list[int]()
    with contextlib.suppress(EngineError):
        sizes = unused_images.all_sizes(book, engine)
    if not sizes:
        return ""
    kept, end = said(book.settings.keep_images), typed(Action.CLEAN_UP_IMAGES)
    taken = f"{format_count(len(sizes), 'image')} of copies, {format_size(sum(sizes))} or less"
    return f"{taken}; '{end}' removes those that no copy needs, a service's latest {kept} after its last use"


@command(name="all")
def everything(yes: bool = False, volumes: bool = False, dry_run: bool = False, json: bool = False) -> None:
    """Remove every stack in this host's lease book, running ones too; asks first."""
    from stackyard.cleanup.removal import remove_all

    if dry_run:
        _plan(volumes=volumes, as_json=json)
        return
    if not yes and not confirmed("remove every stack of this host, running ones too?"):
        raise Exit("nothing removed; --yes removes without asking", code=UsageError.exit_code)
    done = remove_all(keep_volumes=not volumes)
    show_cleaned(done, as_json=json)
    done.check()


@command(
    options={
        "dry_run": options.DRY_RUN.but(old=("plan", "p", "check-only")),
        "site": options.SITE.but(help="Whose images: local or context:NAME (default: local)."),
    },
)
def images(dry_run: bool = False, yes: bool = False, site: str = "", json: bool = False) -> None:
    """Remove images that no copy and no environment of this folder needs any more; asks first."""
    from stackyard.images import unused
    from stackyard.stacks import unused_images

    with opened_at(site) as (book, engine):
        found = _surplus(book, engine)
        if dry_run:
            answer([*map(sized, found)], _surplus_table(found), as_json=json)
            return
        if found and not yes and not confirmed(f"remove {format_count(len(found), 'image')}?"):
            raise Exit(
                "nothing removed; --yes removes without asking, --dry-run only shows what", code=UsageError.exit_code
            )
        cleared = unused.remove(engine, found, unused_images.guard(book, engine))
    answer(cleared.to_json(), _cleared(cleared), as_json=json)
    cleared.check()


def _surplus(book: LeaseBook, engine: Engine) -> list[Surplus]:
    """List what copies do not need; in a project with environments also what these do not need."""
    from stackyard.docker.images import disk_use
    from stackyard.images import unused
    from stackyard.project.environments.roots import in_environments
    from stackyard.stacks import unused_images

    _, rows = disk_use(engine)
    found = unused_images.find(book, engine, rows)
    if in_environments():
        found += unused.find(rows, keep=_leased_images(book))
    return sorted(found, key=lambda item: (-item.size, item.name))


def _cleared(cleared: Clearance) -> str:
    lines = [f"removed {name}" for name in cleared.removed]
    lines += [f"kept {name}: {reason}" for name, reason in cleared.kept]
    freed = f"{format_count(len(cleared.removed), 'image')} removed, {format_size(cleared.freed)} freed"
    return "\n".join([*lines, freed])


def _plan(*, volumes: bool, as_json: bool, command: str = "") -> None:
    from stackyard.cleanup import plan

    with opened() as (book, engine):
        listed = plan.plan(book, engine, keep_volumes=not volumes)
        names = {lease.id: lease.title for lease in book.leases()}
    found = [item for item in listed if command in {"", item.command}]
    text = _plan_table(found, names) if found else "nothing to remove"
    answer([item.to_json() for item in found], text, as_json=as_json)


def _plan_table(found: Sequence[Candidate], names: dict[str, str]) -> str:
    from stackyard.leases.owners import short

    rows: list[list[Any]] = [
        [_remover(item), f"{item.kind} {item.name}", names.get(item.lease, item.lease),
         short(item.owner), item.why]
        for item in found
    ]  # fmt: skip
    return table(rows, ["removed by", "what", "lease", "owner", "why"])


def _remover(item: Candidate) -> str:
    """Return the command that removes it, without the program's name."""
    line = typed(Action.CLEAN_UP if item.command == "stale" else Action.CLEAN_UP_ALL)
    return line.partition(" ")[2]


def _clock(moment: float) -> str:
    """Return a moment in local time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _leased_images(book: LeaseBook) -> set[str]:
    found: set[str] = set()
    for lease in book.leases():
        with contextlib.suppress(BookError):  # a damaged env file; the images of its containers are in use all the same
            found |= {value for key, value in lease.variables().items() if key.startswith("STACKYARD_IMAGE_")}
    return found


def _surplus_table(found: Sequence[Surplus]) -> str:
    if not found:
        return "nothing to remove"
    rows = [
        [item.name, format_size(item.size), format_size(item.size - item.shared), _clock(item.created),
         item.why]
        for item in found
    ]  # fmt: skip
    align = ("left", "right", "right", "left", "left")
    listed = table(rows, ["image", "size", "of its own", "built", "why"], align=align)
    them = "it" if len(found) == 1 else "them"
    return f"{listed}\n\n{format_count(len(found), 'image')}; '{typed(Action.CLEAN_UP_IMAGES)} --yes' removes {them}"


collection = Collection("cleanup", plan, stale, everything, images)

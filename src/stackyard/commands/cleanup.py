"""`invoke cleanup.*`: say what is left on this host, and remove it, by label."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, failing_cleanly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invoke.context import Context

    from stackyard.candidates import Candidate
    from stackyard.cleanup import Removal
    from stackyard.images.surplus import Surplus
    from stackyard.leases import LeaseBook

VOLUMES_HELP = "Remove data volumes too (the dev environment keeps its data in one)."


@task(help={"volumes": "List data volumes too, which --volumes would remove.", "json": JSON_HELP})
@failing_cleanly
def plan(_c: Context, volumes: bool = False, json: bool = False) -> None:
    """Say what cleanup.stale and cleanup.all would remove, whose it is and why; nothing is changed."""
    from stackyard import candidates  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.engine import Engine  # noqa: PLC0415 - as above
    from stackyard.survey import open_book  # noqa: PLC0415 - as above

    with Engine() as engine:
        found = candidates.plan(open_book(None, engine), engine, keep_volumes=not volumes)
    if json:
        print(jsonlib.dumps([item.to_json() for item in found], indent=2))
    else:
        print(_plan_table(found) if found else "nothing to remove")


def _plan_table(found: Sequence[Candidate]) -> str:
    from stackyard.report import table  # noqa: PLC0415 - as above

    headers = ["removed by", "kind", "name", "lease", "environment", "owner", "deadline", "user", "why"]
    return table(
        [
            [f"cleanup.{item.command}", item.kind, item.name, item.lease, item.environment, item.owner,
             _clock(item.deadline), item.user, item.why]
            for item in found
        ],
        headers,
    )  # fmt: skip


def _clock(moment: float | None) -> str:
    """Return a moment in local time, to the second; nothing for none."""
    return "" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


@task(help={"volumes": VOLUMES_HELP, "json": JSON_HELP})
@failing_cleanly
def stale(_c: Context, volumes: bool = False, json: bool = False) -> None:
    """Remove the stacks of dead owners and passed deadlines; living ones are never touched."""
    from stackyard.cleanup import remove_stale  # noqa: PLC0415 - keeps `invoke -l` quick

    _show(remove_stale(keep_volumes=not volumes), as_json=json)


@task(name="all", help={"yes": "Do not ask.", "volumes": VOLUMES_HELP, "json": JSON_HELP})
@failing_cleanly
def everything(_c: Context, yes: bool = False, volumes: bool = False, json: bool = False) -> None:
    """Remove every stack this host's lease book knows, running ones too; asks first."""
    from stackyard.cleanup import remove_all  # noqa: PLC0415 - as above

    if not yes and not _confirmed("remove every stack of this host, running ones too?"):
        raise Exit("nothing removed; --yes removes without asking", code=2)
    _show(remove_all(keep_volumes=not volumes), as_json=json)


@task(
    help={
        "plan": "Only say what would be removed.",
        "yes": "Do not ask.",
        "json": JSON_HELP,
    }
)
@failing_cleanly
def images(_c: Context, plan: bool = False, yes: bool = False, json: bool = False) -> None:
    """Remove our images that no recipe of the tree as it is now names, no lease and no container uses; asks first."""
    from stackyard.engine import Engine  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.images import surplus  # noqa: PLC0415 - as above
    from stackyard.report import format_count, format_size  # noqa: PLC0415 - as above
    from stackyard.survey import open_book  # noqa: PLC0415 - as above

    with Engine(deadline=60) as engine:
        found = surplus.find(engine, keep=_leased_images(open_book(None, engine)))
        if plan:
            _show_surplus(found, as_json=json)
            return
        if found and not yes and not _confirmed(f"remove {len(found)} images?"):
            raise Exit("nothing removed; --yes removes without asking, --plan only says what", code=2)
        cleared = surplus.remove(engine, found)
    if json:
        print(jsonlib.dumps(cleared.to_json(), indent=2))
    else:
        for name in cleared.removed:
            print(f"removed {name}")
        print(f"{format_count(len(cleared.removed), 'image')} removed, {format_size(cleared.freed)} freed")
    cleared.check()


def _leased_images(book: LeaseBook) -> set[str]:
    pairs = (pair for lease in book.leases() for pair in lease.variables().items())
    return {value for key, value in pairs if key.startswith("STACKYARD_IMAGE_")}


def _plain(item: Surplus) -> dict[str, object]:
    return {(f"{key}_bytes" if key in {"size", "shared"} else key): value for key, value in asdict(item).items()}


def _show_surplus(found: Sequence[Surplus], *, as_json: bool) -> None:
    if as_json:
        print(jsonlib.dumps([_plain(item) for item in found], indent=2))
        return
    if not found:
        print("nothing to remove")
        return
    from stackyard.report import format_count, format_size, table  # noqa: PLC0415 - keeps `invoke -l` quick

    rows = [
        [item.name, format_size(item.size), format_size(item.size - item.shared), _clock(item.created),
         item.why]
        for item in found
    ]  # fmt: skip
    print(
        table(rows, ["image", "size", "of its own", "built", "why"], align=("left", "right", "right", "left", "left"))
    )
    print(f"\n{format_count(len(found), 'image')}; 'invoke cleanup.images --yes' removes them and says what that freed")


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def _show(removal: Removal, *, as_json: bool) -> None:
    """Print what was done; what is left becomes an error."""
    if as_json:
        print(jsonlib.dumps(removal.to_json(), indent=2))
    else:
        for name in removal.removed:
            print(f"removed {name}")
        print(f"{len(removal.removed)} removed, {len(removal.leases)} leases released in {removal.seconds:.2f} s")
    removal.check()


collection = Collection("cleanup", plan, stale, everything, images)

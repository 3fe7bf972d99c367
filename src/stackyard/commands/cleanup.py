"""`invoke cleanup.*`: remove what is left on this host, by label."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, failing_cleanly

if TYPE_CHECKING:
    from invoke.context import Context

    from stackyard.cleanup import Removal

VOLUMES_HELP = "Remove data volumes too (the dev environment keeps its data in one)."


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

    if not yes and not _confirmed():
        raise Exit("nothing removed; --yes removes without asking", code=2)
    _show(remove_all(keep_volumes=not volumes), as_json=json)


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("remove every stack of this host, running ones too? [y/N] ").strip().lower() in {"y", "yes"}


def _show(removal: Removal, *, as_json: bool) -> None:
    """Print what was done; what is left becomes an error."""
    if as_json:
        print(json.dumps(removal.to_json(), indent=2))
    else:
        for name in removal.removed:
            print(f"removed {name}")
        print(f"{len(removal.removed)} removed, {len(removal.leases)} leases released in {removal.seconds:.2f} s")
    removal.check()


collection = Collection("cleanup", stale, everything)

"""`invoke env.pool`: how many ready stacks are kept for whoever comes next."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from typing import TYPE_CHECKING, Final

from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, check_count, failing_cleanly
from stackyard.errors import NotReadyError, UsageError

if TYPE_CHECKING:
    from invoke.context import Context

    from stackyard.leases.warm import WarmStacks

MOST: Final = 50  # slots of the default port pool
LOOK: Final = 0.2  # seconds between two looks while waiting


@task(
    help={
        "environment": "Environment whose pool is set; without a size all pools are shown.",
        "size": "Ready stacks to keep; 0 ends the pool.",
        "wait": "Seconds to wait until as many are ready; not at all unless given.",
        "json": JSON_HELP,
    }
)
@failing_cleanly
def pool(_c: Context, environment: str = "test", size: str = "", wait: str = "", json: bool = False) -> None:
    """Keep ready stacks of an environment for the runs to come, or show how many there are."""
    from stackyard.leases import LeaseBook  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.leases.names import check_seconds  # noqa: PLC0415 - as above
    from stackyard.leases.warm import WarmStacks  # noqa: PLC0415 - as above
    from stackyard.settings import Settings  # noqa: PLC0415 - as above

    patience = check_seconds("--wait", wait) if wait else 0.0
    stacks = WarmStacks(LeaseBook(Settings.load()))
    if size:
        _resize(stacks, environment, 0 if size == "0" else check_count("--size", size, most=MOST))
    _await(stacks, patience)
    _show(stacks, as_json=json)


def _resize(stacks: WarmStacks, name: str, size: int) -> None:
    from stackyard.environments import Environment  # noqa: PLC0415 - as above
    from stackyard.launch import prepare_images  # noqa: PLC0415 - as above
    from stackyard.leases.warm import Pool  # noqa: PLC0415 - as above
    from stackyard.yardmaster import enabled, wake  # noqa: PLC0415 - as above

    environment = Environment.load(name)
    if size and environment.data == "volume":
        raise UsageError(f"environment {name!r} keeps its data, so there is one stack of it, and no pool")
    if size and not enabled():
        raise UsageError("a pool is kept by the yardmaster, and STACKYARD_YARDMASTER=off forbids one; unset it")
    if size:
        # the yardmaster builds nothing
        prepare_images(environment, lambda line: print(line, file=sys.stderr, flush=True))
    stacks.want(Pool(root=environment.root, environment=name, size=size))
    wake(stacks.book.settings)


def _await(stacks: WarmStacks, patience: float) -> None:
    """Wait until every pool has what it is to have, and no more."""
    from stackyard.yardmaster.status import PoolStatus  # noqa: PLC0415 - as above

    end = time.monotonic() + patience
    while patience:
        found = stacks.inventory()
        pools = PoolStatus.every(found)
        if all(item.ready == item.size for item in pools) and len(found.warm) == sum(item.size for item in pools):
            return
        if time.monotonic() >= end:
            lacking = ", ".join(f"{item.environment} has {item.ready} of {item.size}" for item in pools)
            raise NotReadyError(
                f"not ready after {patience:g} s: {lacking or 'warm stacks are left'}; 'invoke yard.status' may say why"
            )
        time.sleep(LOOK)


def _show(stacks: WarmStacks, *, as_json: bool) -> None:
    from stackyard.report import table  # noqa: PLC0415 - as above
    from stackyard.yardmaster.status import PoolStatus  # noqa: PLC0415 - as above

    pools = PoolStatus.every(stacks.inventory())
    if as_json:
        print(jsonlib.dumps([item.to_json() for item in pools], indent=2))
    elif pools:
        rows = [[item.environment, item.size, item.ready, item.root] for item in pools]
        print(table(rows, ["environment", "size", "ready", "project"]))
    else:
        print("no pool; 'invoke env.pool --environment test --size 2' keeps two stacks ready")

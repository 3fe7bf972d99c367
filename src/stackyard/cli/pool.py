"""`invoke env.pool`: how many warm stacks are kept for the next runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from stackyard._util.tables import table
from stackyard.cli import options
from stackyard.cli.common import answer, check_count, tell
from stackyard.cli.options import Option
from stackyard.cli.task import command
from stackyard.errors import NotReadyError, UsageError

if TYPE_CHECKING:
    from stackyard.leases.warm import WarmStacks

MOST: Final = 50  # slots of the default port pool


@command(
    words=["environment"],
    options={
        "environment": options.ENVIRONMENT.but(
            help="Environment whose pool --size sets (default: test); without --size all pools are shown."
        ),
        "size": Option(help="Ready stacks to keep, at most 50; 0 ends the pool.", value="STACKS", short="s"),
        "timeout": options.TIMEOUT.but(
            help="Wait at most this long until they are ready; without it, do not wait.", old=("wait", "w")
        ),
    },
)
def pool(environment: str = "test", size: str = "", timeout: float | None = None, json: bool = False) -> None:
    """Keep warm stacks for the next runs, or show how many are ready."""
    from stackyard.leases import LeaseBook
    from stackyard.leases.warm import WarmStacks
    from stackyard.reaper.status import wait_for_pools
    from stackyard.settings import Settings

    stacks = WarmStacks(LeaseBook(Settings.load()))
    if size:
        _resize(stacks, environment, check_count("--size", size, most=MOST, least=0))
    if timeout and (lacking := wait_for_pools(stacks, timeout)):
        raise NotReadyError(f"not ready after {timeout:g} s: {lacking}; see 'invoke reaper.status'")
    _show(stacks, ended=environment if size == "0" else "", as_json=json)


def _resize(stacks: WarmStacks, name: str, size: int) -> None:
    from stackyard.leases.warm import Pool
    from stackyard.project.environments import Environment
    from stackyard.stacks.environments.launch import prepare_images
    from stackyard.stacks.reaper_launch import wake

    environment = Environment.load(name)
    if size and environment.data == "volume":
        raise UsageError(f"environment {name!r} keeps its data, so it has one stack and no pool")
    if size and stacks.book.settings.reaper == "off":
        raise UsageError("the reaper keeps pools ready, and STACKYARD_REAPER=off forbids it; unset it")
    if size:
        prepare_images(environment, tell)  # the reaper builds nothing
    stacks.want(Pool(root=environment.root, environment=name, size=size))
    wake(stacks.book.settings)


def _show(stacks: WarmStacks, *, ended: str, as_json: bool) -> None:
    from stackyard.reaper.status import PoolStatus

    pools = PoolStatus.every(stacks.inventory())
    rows = [[item.environment, item.size, item.ready, item.root] for item in pools]
    lines = [f"the pool of {ended} has ended; the reaper removes its stacks"] if ended else []
    if pools:
        lines.append(table(rows, ["environment", "size", "ready", "project"]))
    elif not ended:
        lines.append("no pool; 'invoke env.pool --environment test --size 2' keeps two stacks ready")
    answer([*map(asdict, pools)], "\n".join(lines), as_json=as_json)

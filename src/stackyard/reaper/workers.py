"""
The reaper's child processes. They talk to the engine, so that the reaper stays small and never hangs.

    python -m stackyard.reaper.workers sweep
    python -m stackyard.reaper.workers warm ROOT ENVIRONMENT KEEPER

Each may be killed at any moment; its lease is then stale.
"""

from __future__ import annotations

import logging
import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, how
from stackyard.errors import ImageError, StackyardError, UsageError
from stackyard.leases.owners import Owner
from stackyard.reaper.logs import log_to_stderr
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook
    from stackyard.project.environments import Environment

log = logging.getLogger("stackyard")

SWEEP: Final = ("sweep",)
WARM: Final = "warm"


def words(*arguments: str) -> list[str]:
    """Return the command of such a process."""
    return [sys.executable, "-m", "stackyard.reaper.workers", *arguments]


def sweep() -> int:
    """
    Remove the stacks of stale leases, as a clean-up by hand does; return the exit code.

    Raises:
        StackyardError: If something is left, or the engine or the book cannot be used.
    """
    from stackyard.cleanup.removal import remove_stale

    removal = remove_stale()
    for lease in removal.leases:
        log.info("lease %s removed", lease)
    removal.check()
    return 0


def warm(root: Path, name: str, keeper: Owner) -> int:
    """
    Start one stack and make it a warm one; return the exit code.

    Args:
        root: The directory of its project.
        name: Its environment's name.
        keeper: The reaper.

    Raises:
        StackyardError: If it cannot be started; then nothing of it is left.
    """
    from stackyard.docker import Engine
    from stackyard.docker.lease_book import open_book
    from stackyard.project.environments import Environment

    environment = Environment.load(name, root)
    with Engine() as engine:
        engine.refuse_elsewhere()
        lease = _warm(environment, open_book(None, engine), engine, keeper)
    log.info("lease %s of %s is warm", lease, name)
    return 0


def _warm(environment: Environment, book: LeaseBook, engine: Engine, keeper: Owner) -> str:
    from stackyard.docker.in_use import strangers
    from stackyard.leases.warm import WarmStacks
    from stackyard.stacks.environments.launch import start_in_place
    from stackyard.stacks.environments.stack import Stack
    from stackyard.stacks.environments.warm_stacks import material, retire_others
    from stackyard.stacks.starts.request import EnvironmentRequest

    made_from = material(environment, engine, book.settings)
    if made_from is None:
        raise ImageError(
            f"the images of {environment.name} are not built; {how(Action.BUILD)}, or let a run build them"
        )
    variables, fingerprint = made_from
    stacks = WarmStacks(book)
    if old := retire_others(environment, stacks, fingerprint):
        log.info("%d warm stacks of %s are out of date", old, environment.name)
    lease = book.acquire(
        environment, ttl=math.inf, variables=variables, strangers=lambda: strangers(engine), attached=True
    )
    stack = Stack(environment, lease, book, engine)
    offered = False
    try:
        start_in_place(stack, EnvironmentRequest(progress=log.info), last=True)
        offered = stacks.offer(stack.lease, root=environment.root, fingerprint=fingerprint, keeper=keeper)
    finally:
        if not offered:
            stack.down()
    if not offered:
        raise UsageError(f"lease {lease.title} or its reaper has ended in the meantime")
    return lease.id


def main(arguments: Sequence[str]) -> int:
    """Do one piece of work; return the exit code."""
    log_to_stderr()
    match arguments:
        case ["sweep"]:
            work: Callable[[], int] = sweep
        case ["warm", root, name, label] if keeper := Owner.parse(label):
            work = partial(warm, Path(root), name, keeper)
        case _:
            log.error("expected sweep, or warm ROOT ENVIRONMENT KEEPER, got %r", list(arguments))
            return UsageError.exit_code
    try:
        Settings.load()
        return work()
    except StackyardError as error:
        log.error("%s: %s", arguments[0], error)  # noqa: TRY400 - the text says all there is to say
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

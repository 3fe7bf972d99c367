"""
Taking a warm stack instead of starting one.

Every probe asks a taken stack once before it is returned, because the engine may have been restarted since it was made.
If it does not answer, it is removed and the next one is taken.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from stackyard import images
from stackyard.errors import NotReadyError
from stackyard.leases.warm import WarmStacks
from stackyard.stacks.environments.fingerprints import fingerprint
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook
    from stackyard.project.environments import Environment
    from stackyard.settings import Settings

TRIES: Final = 3  # warm stacks that may fail to answer before a new stack starts
ANSWER: Final = 10.0  # seconds a warm stack has to answer every probe; on a busy host more than two


def material(environment: Environment, engine: Engine, settings: Settings) -> tuple[dict[str, str], str] | None:
    """
    Return the env file's image variables, and the fingerprint, of a stack made now; None if an image is missing.

    Raises:
        EngineError: If the engine does not answer.
        ImageError: If a file the images are made from is missing.
    """
    found = images.present(environment.flavour, engine, source=settings.image_source, root=environment.root)
    if found is None:
        return None
    variables = {f"STACKYARD_IMAGE_{service.upper()}": reference for service, (reference, _) in found.items()}
    return variables, fingerprint(environment, (identity for _, identity in found.values()))


def take(
    environment: Environment,
    book: LeaseBook,
    engine: Engine,
    *,
    parallel_id: str | None,
    outlives: bool,
    progress: Callable[[str], None],
) -> tuple[Stack, Startup] | None:
    """
    Take a warm stack of *environment*; None if there is none that equals a new one.

    Args:
        environment: Its environment.
        book: Where its lease is.
        engine: Where it runs.
        parallel_id: The lease's name from now on.
        outlives: Whether its lease will be detached.
        progress: Called with a line if one did not answer.

    Raises:
        StackyardError: If the book or the engine cannot be used.
    """
    began = time.monotonic()
    stacks = WarmStacks(book)
    made_from = material(environment, engine, book.settings) if stacks.any() else None
    for _ in range(TRIES if made_from else 0):
        _, wanted = made_from or ({}, "")
        lease = stacks.take(environment.root, environment.name, wanted, parallel_id=parallel_id, outlives=outlives)
        if lease is None:
            retire_others(environment, stacks, wanted)
            return None
        stack = Stack(environment, lease, book, engine)
        answered = _ask(stack, progress)
        if answered is not None:
            return stack, Startup(seconds=time.monotonic() - began, probes=answered, by="pool")
    return None


def retire_others(environment: Environment, stacks: WarmStacks, wanted: str) -> int:
    """Mark the warm stacks of *environment* with another fingerprint than *wanted* for removal; return how many."""
    where = (environment.root, environment.name)
    return len(stacks.retire(lambda warm: (warm.root, warm.lease.environment) == where and warm.fingerprint != wanted))


def _ask(stack: Stack, progress: Callable[[str], None]) -> Mapping[str, float] | None:
    """Return the seconds until each probe had its answer; if one had none, remove the stack and return None."""
    answered: Mapping[str, float] | None = None
    try:
        answered = stack.wait(deadline=ANSWER)
    except NotReadyError as error:
        progress(f"warm stack {stack.lease.title} does not answer and is removed: {str(error).splitlines()[0]}")
    finally:
        if answered is None:
            stack.down()
    return answered

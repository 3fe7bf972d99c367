"""A stack for as long as a block runs: ``with running("test") as stack: ...``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from stackyard._util.actions import Action, how
from stackyard.docker import Engine
from stackyard.docker.in_use import open_book
from stackyard.errors import UsageError
from stackyard.project.environments import Environment
from stackyard.stacks.acquire import launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stackyard.stacks.stack import Stack


@contextlib.contextmanager
def running(
    environment: str = "test",
    *,
    progress: Callable[[str], None] | None = None,
    wait: float | None = None,
    force: bool = False,
) -> Iterator[Stack]:
    """
    Run a stack for this block alone; take a warm one if there is one.

    Args:
        environment: Name of the environment; not one that keeps its data.
        progress: Gets a line for each message to the user; by default there are none.
        wait: Seconds to queue for a place; None does not.
        force: Start it even if the host has too little memory.

    Raises:
        StackyardError: As `launch` does; after the block, `LeftoversError` if something could not be removed.
    """
    wanted, pid = Environment.load(environment), os.getpid()
    if wanted.data == "volume":
        raise UsageError(
            f"environment {environment} keeps its data, so a block cannot have it alone; "
            f"{how(Action.START, environment=environment)}"
        )
    with Engine() as engine:
        book = open_book(None, engine)
        told = progress or (lambda _line: None)
        stack, _ = launch(wanted, book, engine, fixed="never", progress=told, wait=wait, force=force)
        try:
            yield stack
        finally:
            # a fork inside the block leaves it too, and must not remove its parent's stack
            if os.getpid() == pid:
                stack.down().check()

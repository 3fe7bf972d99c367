"""How long it takes to be given a warm stack: a pool in a lease book of its own, full again before each take."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.errors import NotReadyError, UsageError
from stackyard.leases.warm import Pool, WarmStacks
from stackyard.project.environments import Environment
from stackyard.reaper.status import wait_for_pools
from stackyard.settings import Settings
from stackyard.stacks.environments.launch import launch, prepare_images
from stackyard.stacks.reaper_files import Post
from stackyard.stacks.reaper_launch import wake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.leases import LeaseBook

SIZE: Final = 2  # warm stacks; the next take waits until both stand, so that no start runs at the same time
FILL_TIMEOUT_S: Final = 60.0  # seconds to fill the pool
PLACES: Final = {"STACKYARD_POOL": "24000-24199", "STACKYARD_POOL_SUBNETS": "10.216.0.0/22"}


def measure(n: int, *, name: str = "test") -> list[float]:
    """
    Take *n* warm stacks one after another; return the seconds each took, from the call to a stack that has answered.

    The first take also loads the client libraries; it warms up and does not count.

    Raises:
        UsageError: If STACKYARD_REAPER is off.
        StackyardError: If a stack could not be started or was not taken from the pool.
    """
    if Settings.load().reaper == "off":
        raise UsageError("a pool is kept by the reaper, and STACKYARD_REAPER=off forbids one; unset it")
    environment = Environment.load(name)
    prepare_images(environment, lambda _line: None)
    with tempfile.TemporaryDirectory() as folder, Engine() as engine:
        book = open_book(_settings(Path(folder) / "state"), engine)
        with _pool(environment, book) as stacks:
            return [_take(environment, stacks, engine) for _ in range(n + 1)][1:]


def _settings(state: Path) -> Settings:
    """Return settings of a book of its own, so that the host's real leases are neither used nor in the way."""
    return Settings.load({**os.environ, **PLACES, "STACKYARD_STATE_DIR": str(state)})


@contextlib.contextmanager
def _pool(environment: Environment, book: LeaseBook) -> Iterator[WarmStacks]:
    """Keep a pool while the block runs; its stacks and its reaper end with it."""
    stacks = WarmStacks(book)
    stacks.want(Pool(root=environment.root, environment=environment.name, size=SIZE))
    try:
        wake(book.settings)
        yield stacks
    finally:
        stacks.want(Pool(root=environment.root, environment=environment.name, size=0))
        Post(book.settings.state_dir).dismiss()


def _take(environment: Environment, stacks: WarmStacks, engine: Engine) -> float:
    if lacking := wait_for_pools(stacks, FILL_TIMEOUT_S):
        log = Post(stacks.book.settings.state_dir).log
        raise NotReadyError(f"the pool is not full after {FILL_TIMEOUT_S:g} s: {lacking}; {log} may say why")
    began = time.monotonic()
    stack, startup = launch(environment, stacks.book, engine)
    seconds = time.monotonic() - began
    stack.down().check()
    if startup.by != "pool":
        raise NotReadyError(f"lease {stack.lease.id} was started by {startup.by}, not taken from the pool")
    return seconds

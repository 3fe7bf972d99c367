"""Where stacks are measured: one environment, its images built, and a lease for each start."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from stackyard.docker import Engine
from stackyard.docker.in_use import strangers
from stackyard.docker.lease_book import open_book
from stackyard.project.environments import Environment
from stackyard.stacks.environments.launch import prepare_images
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stackyard.leases import LeaseBook


class Arena:
    """
    Stacks of one environment, one after another or many at once, each in a lease of its own.

    Raises:
        ImageError: If an image could not be built.
        EngineError: If the engine does not answer.
    """

    def __init__(self, environment: Environment, engine: Engine, say: Callable[[str], None]) -> None:
        self.environment = environment
        self.engine = engine
        self.book: LeaseBook = open_book(None, engine)
        self.images: Mapping[str, str] = prepare_images(environment, say)

    @classmethod
    @contextlib.contextmanager
    def open(cls, name: str, say: Callable[[str], None]) -> Iterator[Arena]:
        """
        Yield an arena for the environment called *name*; its connection to the engine ends with the block.

        Raises:
            StackyardError: If there is no such environment, no image or no engine.
        """
        environment = Environment.load(name)
        with Engine() as engine:
            yield cls(environment, engine, say)

    @contextlib.contextmanager
    def stack(self) -> Iterator[Stack]:
        """
        Yield a stack that is not started yet. At the end of the block what runs of it is removed, and its lease ends.

        Raises:
            PoolExhaustedError: If there is no place for it.
            LeftoversError: If something of it could not be removed.
        """
        stack = self.new()
        try:
            yield stack
        finally:
            stack.down().check()

    def new(self) -> Stack:
        """
        Return a stack that is not started yet, in a new lease. The caller removes it.

        Raises:
            PoolExhaustedError: If there is no place for it.
        """
        lease = self.book.acquire(self.environment, variables=self.images, strangers=lambda: strangers(self.engine))
        return Stack(self.environment, lease, self.book, self.engine)

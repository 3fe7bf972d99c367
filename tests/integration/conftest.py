from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stackyard.docker import Engine
from stackyard.docker.in_use import open_book, strangers
from stackyard.project.environments import Environment
from stackyard.stacks.acquire import prepare_images
from stackyard.stacks.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# tests count leases and processes; those of the reaper start one for themselves
os.environ["STACKYARD_REAPER"] = "off"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as connected:
        yield connected


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    return prepare_images(Environment.load("test"), print)


@pytest.fixture
def new_stack(engine: Engine, images: dict[str, str]) -> Iterator[Callable[[], Stack]]:
    """Make stacks in leases of their own; whatever is left of them is removed in the end."""
    environment = Environment.load("test")
    book = open_book(None, engine)
    made: list[Stack] = []

    def make() -> Stack:
        lease = book.acquire(environment, variables=images, strangers=strangers(engine))
        made.append(Stack(environment, lease, book, engine))
        return made[-1]

    yield make
    for stack in made:
        assert stack.down().left == []

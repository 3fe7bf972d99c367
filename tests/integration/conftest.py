from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests import places

from stackyard._util import advice
from stackyard.cli.commands import COMMANDS
from stackyard.docker import Engine
from stackyard.docker.in_use import strangers
from stackyard.docker.lease_book import open_book
from stackyard.project.environments import Environment
from stackyard.stacks.environments.launch import prepare_images
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

advice.offer(COMMANDS)  # whichever test is imported first

# tests count leases and processes; those of the reaper start one for themselves
os.environ["STACKYARD_REAPER"] = "off"
os.environ.update(places.PATIENT)

# some tests lose their book on purpose, so each worker of pytest-xdist has one, and places that no other book has
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    books = Path(__file__).parents[2] / ".cache" / "integration"
    books.mkdir(parents=True, exist_ok=True)
    os.environ["STACKYARD_STATE_DIR"] = str(books / worker)
    os.environ.update(places.own(20000, 180))


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as connected:
        yield connected


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    return prepare_images(Environment.load("test"), print)


@contextlib.contextmanager
def stacks(engine: Engine, images: dict[str, str]) -> Iterator[Callable[[], Stack]]:
    """Make stacks in leases of their own; whatever is left of them is removed in the end."""
    loaded = Environment.load("test")
    environment = replace(loaded, budget=replace(loaded.budget, startup_s=280))  # on a busy host
    book = open_book(None, engine)
    made: list[Stack] = []

    def make() -> Stack:
        lease = book.acquire(environment, variables=images, strangers=lambda: strangers(engine))
        made.append(Stack(environment, lease, book, engine))
        return made[-1]

    yield make
    for stack in made:
        assert stack.down().left == []


@pytest.fixture
def new_stack(engine: Engine, images: dict[str, str]) -> Iterator[Callable[[], Stack]]:
    with stacks(engine, images) as make:
        yield make


@pytest.fixture(scope="module")
def shared_stack(images: dict[str, str]) -> Iterator[Stack]:
    """Start one stack for the tests of a module that leave it as it was."""
    with Engine() as engine, stacks(engine, images) as make:
        made = make()
        made.up()
        yield made

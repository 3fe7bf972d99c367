"""A project that only one copy at a time can run: the lease book holds its claim, also after the book was lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.projects.expected import BARE

from stackyard.docker.lease_book import open_book
from stackyard.errors import PoolExhaustedError
from stackyard.leases.directory import files
from stackyard.project import Project
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

HELD = r"only one copy at a time can have the host's network, and lease first \("


@pytest.fixture
def alone(project: Callable[[str], Path]) -> Project:
    return Project.find(project("host-network"), environment=BARE)


def test_the_second_copy_waits_until_the_first_has_ended(alone: Project, book: LeaseBook, engine: Engine) -> None:
    first = lifecycle.start(alone, book, engine, CopyRequest(name="first"))

    with pytest.raises(PoolExhaustedError, match=HELD):
        lifecycle.start(alone, book, engine, CopyRequest(name="second"))
    ending = threading.Timer(0.3, first.down)
    ending.start()
    second = lifecycle.start(alone, book, engine, CopyRequest(name="second", wait=240))
    ending.join()

    assert [lease.title for lease in book.leases()] == [second.lease.title]
    assert second.down().left == []
    assert book.leases() == []


def test_a_book_made_again_from_labels_keeps_the_claim(alone: Project, book: LeaseBook, engine: Engine) -> None:
    first = lifecycle.start(alone, book, engine, CopyRequest(name="first", ttl=600))
    (book.settings.state_dir / "book.sqlite3").unlink()
    files.discard(files.remove(first.lease.directory))

    rebuilt = open_book(book.settings, engine)

    assert rebuilt.find("first").exclusive == ("host-network",)
    with pytest.raises(PoolExhaustedError, match=HELD):
        lifecycle.start(alone, rebuilt, engine, CopyRequest(name="second"))

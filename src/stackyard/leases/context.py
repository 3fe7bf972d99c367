"""A lease for as long as a block runs: ``with lease("test") as mine: ...``, and its asynchronous twin."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import keywords
from stackyard.leases.book import LeaseBook
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stackyard.leases.records import Leasable, Lease

ACQUIRE: Final = LeaseBook.acquire  # takes the options


@contextlib.contextmanager
def lease(environment: str | Leasable = "test", *, book: LeaseBook | None = None, **options: Any) -> Iterator[Lease]:
    """
    Hold a lease while the block runs; the block must end everything that it started.

    Args:
        environment: An environment, or its name.
        book: The lease book; by default this host's.
        options: As for `LeaseBook.acquire`.

    Raises:
        StackyardError: As `LeaseBook.acquire` and `Environment.load` do.
    """
    opened, held = _acquire(environment, book, options)
    pid = os.getpid()
    try:
        yield held
    finally:
        # A fork inside the block leaves it too, and must not end its parent's lease.
        if os.getpid() == pid:
            opened.release(held)


@contextlib.asynccontextmanager
async def alease(
    environment: str | Leasable = "test", *, book: LeaseBook | None = None, **options: Any
) -> AsyncIterator[Lease]:
    """Hold a lease like `lease`, without blocking the event loop while it waits for one."""
    import asyncio

    acquiring = asyncio.create_task(asyncio.to_thread(partial(_acquire, environment, book, options)))
    try:
        opened, held = await asyncio.shield(acquiring)
    except asyncio.CancelledError:
        # A thread cannot be cancelled: release what it still acquires.
        with contextlib.suppress(Exception):
            owner, late = await acquiring
            owner.release(late)
        raise
    pid = os.getpid()
    try:
        yield held
    finally:
        if os.getpid() == pid:
            await asyncio.shield(asyncio.to_thread(opened.release, held))


def _acquire(environment: str | Leasable, book: LeaseBook | None, options: dict[str, Any]) -> tuple[LeaseBook, Lease]:
    keywords.check("a lease", options, ACQUIRE, meant={"name": "parallel_id", "timeout": "wait"})
    book = book or LeaseBook(Settings.load())
    if isinstance(environment, str):
        from stackyard.project.environments import Environment

        environment = Environment.load(environment, book.settings.root)
    return book, book.acquire(environment, **options)

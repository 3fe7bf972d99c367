"""`asyncio.TaskGroup` for code whose callers expect one error and not a group of errors."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

T = TypeVar("T")


@contextlib.asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """
    Give an `async with` block a task group; if a task or the block fails, raise the first error itself.

    As with any task group, the block ends when all tasks have ended, and the first error cancels the others once.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def run_all(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Run all of *work* at once and return the results in its order; the first error cancels the others, as above."""
    async with task_group() as group:
        tasks = [group.create_task(part) for part in work]
    return [task.result() for task in tasks]

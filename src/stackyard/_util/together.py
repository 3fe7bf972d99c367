"""Several tasks at once; if one fails, the others end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def together(*work: Awaitable[T]) -> list[T]:
    """
    Wait for all of *work* and return its results; if one part fails, end the others and raise its error.

    Each part is cancelled at most once, so that a part can wait while it cleans up.
    """
    tasks = [asyncio.ensure_future(part) for part in work]
    if not tasks:
        return []
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    failures = [task for task in tasks if task.cancelled() or task.exception() is not None]
    for task in sorted(failures, key=lambda task: task not in done):
        task.result()
    return [task.result() for task in tasks]

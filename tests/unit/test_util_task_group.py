from __future__ import annotations

import asyncio

import pytest

from stackyard._util.task_group import run_all, task_group


async def endless(ended: list[str]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)  # tidying up takes its time
        ended.append("tidied")


async def failing() -> None:
    raise ValueError("mine")


async def test_one_failure_ends_the_others_and_is_the_one_that_is_raised() -> None:
    ended: list[str] = []

    with pytest.raises(ValueError, match="mine"):
        await run_all(endless(ended), failing())

    assert ended == ["tidied"]


async def test_results_come_in_order() -> None:
    async def late() -> int:
        await asyncio.sleep(0.01)
        return 1

    async def soon() -> int:
        return 2

    assert await run_all(late(), soon()) == [1, 2]
    assert await run_all() == []


async def test_a_failure_of_the_block_ends_the_tasks_and_is_raised_as_it_is() -> None:
    ended: list[str] = []

    async def block() -> None:
        async with task_group() as group:
            group.create_task(endless(ended))
            await asyncio.sleep(0)
            await failing()

    with pytest.raises(ValueError, match="mine"):
        await block()

    assert ended == ["tidied"]


async def test_a_cancelled_block_waits_for_its_tasks() -> None:
    ended: list[str] = []

    task = asyncio.create_task(run_all(endless(ended)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended == ["tidied"]

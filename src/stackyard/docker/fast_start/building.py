"""
Making a blueprint with the engine: volumes, then networks and containers at once; each starts as soon as it can.

To create a container, the engine needs its volumes, but only the name of its network. So the slowest step, the
network's bridge, runs at the same time. Containers start once it is there.

Each request runs in its own thread and is never abandoned. A cancelled build sends no further request and returns after
the running ones have been answered, so nothing appears while a clean-up runs.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from stackyard._util.failpoints import reach
from stackyard._util.task_group import run_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.docker import Engine
    from stackyard.docker.fast_start.records import Blueprint, ContainerPlan, NetworkPlan

T = TypeVar("T")
Steps = dict[str, tuple[float, float]]


async def build(
    engine: Engine, blueprint: Blueprint, *, began: float, steps: Steps, started: Callable[[str], None]
) -> None:
    """
    Make and start everything in *blueprint*.

    Args:
        engine: Where.
        blueprint: What.
        began: Monotonic seconds that the steps count from.
        steps: Is given each step's beginning and end in seconds, for example under ``create redis``.
        started: Gets the name of each service whose container has been started.

    Raises:
        EngineError: If the engine refuses anything; what it has made by then stands.
    """

    async def step(name: str, work: Callable[[], T]) -> T:
        beginning = time.monotonic() - began
        answer = await _to_its_end(work)
        steps[name] = (beginning, time.monotonic() - began)
        return answer

    loop = asyncio.get_running_loop()
    made: dict[str, asyncio.Future[str]] = {plan.service: loop.create_future() for plan in blueprint.containers}
    wired = asyncio.Event()

    async def wire() -> None:
        await run_all(*map(network, blueprint.networks))
        wired.set()

    async def network(plan: NetworkPlan) -> None:
        await step("network", lambda: engine.create_network(plan))
        reach("network")

    async def create(plan: ContainerPlan) -> None:
        made[plan.service].set_result(await step(f"create {plan.service}", lambda: engine.create_container(plan)))
        if all(future.done() for future in made.values()):
            reach("create")

    async def start(plan: ContainerPlan) -> None:
        await wired.wait()
        identity = await made[plan.service]
        await step(f"start {plan.service}", lambda: engine.start(identity))
        started(plan.service)

    for volume in blueprint.volumes:
        await step("volume", lambda plan=volume: engine.create_volume(plan))  # type: ignore[misc]
    await run_all(wire(), *map(create, blueprint.containers), *map(start, blueprint.containers))
    reach("start")


async def _to_its_end(work: Callable[[], T]) -> T:
    """Do *work* in a thread; cancelled, wait for its end before passing that on."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # the first failure is reported; asyncio would print this one as never retrieved
        raise

"""
Making a blueprint with the engine: volumes and networks, then containers; each starts as soon as it can.

To create a container, the engine needs its volumes, but only the name of its network. So the slowest step, the
network's bridge, runs at the same time. Containers start once it is there and what they wait for has happened.

Each request runs in its own thread and is never abandoned. A cancelled build sends no further request and returns after
the running ones have been answered, so nothing appears while a clean-up runs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import tarfile
import time
from typing import TYPE_CHECKING, Final, TypeVar

from stackyard._util.failpoints import reach
from stackyard._util.task_group import run_all
from stackyard.docker.fast_start.records import STARTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stackyard.docker import Engine
    from stackyard.docker.fast_start.records import Blueprint, ContainerPlan, FilePlan, NetworkPlan, VolumePlan

T = TypeVar("T")
Steps = dict[str, tuple[float, float]]
OF_CONTAINER: Final = "container:"  # begins the namespace of another container, by its id


async def build(
    engine: Engine,
    blueprint: Blueprint,
    *,
    began: float,
    steps: Steps,
    started: Callable[[str], None],
    proven: Callable[[str, str], Awaitable[None]] | None = None,
) -> None:
    """
    Make and start everything in *blueprint*.

    Args:
        engine: Where.
        blueprint: What.
        began: Monotonic seconds that the steps count from.
        steps: Filled with each step's beginning and end in seconds, for example under ``create redis``.
        started: Gets the name of each service whose containers have been started.
        proven: Waits until a service is what a condition of `depends_on` says; ``service_started`` is seen here.

    Raises:
        EngineError: If the engine refuses anything; what it has made by then stands.
    """
    await _Building(engine, blueprint, began, steps).run(started, proven)


class _Building:
    """One blueprint while it is made."""

    def __init__(self, engine: Engine, blueprint: Blueprint, began: float, steps: Steps) -> None:
        self.engine = engine
        self.blueprint = blueprint
        self.began = began
        self.steps = steps
        self.filled = asyncio.Event()  # the volumes are there
        self.wired = asyncio.Event()  # the networks are there
        loop = asyncio.get_running_loop()
        self.made: dict[str, asyncio.Future[str]] = {plan.name: loop.create_future() for plan in blueprint.containers}
        self.services: dict[str, list[ContainerPlan]] = {}
        for plan in blueprint.containers:
            self.services.setdefault(plan.service, []).append(plan)
        self.running = {service: asyncio.Event() for service in self.services}

    async def run(self, started: Callable[[str], None], proven: Callable[[str, str], Awaitable[None]] | None) -> None:
        await run_all(
            self._volumes(), self._networks(), *map(self._create, self.blueprint.containers),
            *(self._start(service, started, proven) for service in self.services),
        )  # fmt: skip
        reach("start")

    async def _step(self, name: str, work: Callable[[], T]) -> T:
        beginning = time.monotonic() - self.began
        answer = await _to_its_end(work)
        self.steps[name] = (beginning, time.monotonic() - self.began)
        return answer

    async def _volumes(self) -> None:
        await run_all(*map(self._volume, self.blueprint.volumes))
        self.filled.set()

    async def _volume(self, plan: VolumePlan) -> None:
        await self._step("volume", lambda: self.engine.create_volume(plan))

    async def _networks(self) -> None:
        await run_all(*map(self._network, self.blueprint.networks))
        self.wired.set()

    async def _network(self, plan: NetworkPlan) -> None:
        await self._step("network", lambda: self.engine.create_network(plan))
        reach("network")

    async def _create(self, plan: ContainerPlan) -> None:
        await self.filled.wait()
        joined = {key: await self.made[self.services[other][0].name] for key, other in plan.joins.items()}
        ids = {key: f"{OF_CONTAINER}{identity}" for key, identity in joined.items()}
        config = {**plan.config, "HostConfig": {**plan.config.get("HostConfig", {}), **ids}} if ids else plan.config
        whole = dataclasses.replace(plan, config=config)
        identity = await self._step(f"create {plan.label}", lambda: self.engine.create_container(whole))
        if plan.files:
            await _to_its_end(lambda: self.engine.copy_into(identity, packed(plan.files)))
        self.made[plan.name].set_result(identity)
        if all(future.done() for future in self.made.values()):
            reach("create")

    async def _start(
        self,
        service: str,
        started: Callable[[str], None],
        proven: Callable[[str, str], Awaitable[None]] | None,
    ) -> None:
        """Start a service's containers once its networks are there and its conditions hold."""
        await self.wired.wait()
        for other, condition in self.blueprint.conditions.get(service, {}).items():
            await self.running[other].wait()
            if condition != STARTED and proven is not None:
                await proven(other, condition)
        await run_all(*map(self._start_one, self.services[service]))
        self.running[service].set()
        started(service)

    async def _start_one(self, plan: ContainerPlan) -> None:
        identity = await self.made[plan.name]
        await self._step(f"start {plan.label}", lambda: self.engine.start(identity))


def packed(files: Sequence[FilePlan]) -> bytes:
    """Return *files* as an archive whose paths begin at the container's root; they belong to its root user."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for file in files:
            content = file.content.encode()
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(content), file.mode, int(time.time())
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


async def _to_its_end(work: Callable[[], T]) -> T:
    """Do *work* in a thread; cancelled, wait for its end before passing that on."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # the first failure is reported; asyncio would print this one as never retrieved
        raise

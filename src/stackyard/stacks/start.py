"""
One start: all services are made at once and probed from the host; the stack is ready when each has answered.

If nothing of the project exists, the engine makes it directly from Compose's rendered model, which is the quick way. If
it exists as the model says, it is only probed. If it exists in another form, or part of the model has no translation,
`docker compose up` does the start. The Compose file means the same in each case.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, cast

from stackyard._util.failpoints import reach
from stackyard._util.task_group import task_group
from stackyard.docker.compose import start_at_once
from stackyard.docker.records import SERVICE_LABEL
from stackyard.docker.unanswered import Asking
from stackyard.errors import UnsupportedModelError
from stackyard.stacks.startup import STOOD, Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.docker import Engine, Resource
    from stackyard.docker.compose import Compose
    from stackyard.docker.fast_start import Blueprint
    from stackyard.leases import Lease
    from stackyard.probes import Probe
    from stackyard.settings import Settings


class Start:
    """
    One start of the stack under *lease*.

    Args:
        compose: The project.
        lease: Its lease.
        engine: Where it starts.
        settings: Which way of starting is allowed, and where model templates are kept.
        standing: What exists of the project already; data volumes do not count.
    """

    def __init__(
        self, compose: Compose, lease: Lease, engine: Engine, settings: Settings, *, standing: Sequence[Resource] = ()
    ) -> None:
        self.compose = compose
        self.lease = lease
        self.engine = engine
        self.settings = settings
        self.standing = [item for item in standing if item.kind != "volume"]
        self._began = time.monotonic()
        self._steps: dict[str, tuple[float, float]] = {}
        self._running: dict[str, asyncio.Event] = {}
        self._by = "engine"

    async def run(self, probes: Sequence[Probe], *, limit: float, trouble: Callable[[], str | None]) -> Startup:
        """
        Make, start and probe everything; return when the last of *probes* has passed.

        Args:
            probes: What has to pass.
            limit: Seconds until the start has failed.
            trouble: Called repeatedly, after containers that existed before have been started again; a text ends the
                start.

        Raises:
            NotReadyError: If a probe did not pass in time, or *trouble* returned a text.
            CommandError: If Compose failed.
            EngineError: If the engine does not answer or refuses a request.
        """
        from stackyard.probes import preload, wait_until_ready

        servers = self.lease.servers()  # a probe may ask a second thing of a service
        self._running = {servers[probe.service]: asyncio.Event() for probe in probes}

        async def started(service: str) -> None:
            await self._running[servers[service]].wait()

        def stop() -> str | None:
            # containers that existed and had ended are being started again
            return None if self.standing and not making.done() else trouble()

        async with task_group() as group:
            making = group.create_task(self._make(limit))
            await asyncio.to_thread(preload)
            remaining = limit - (time.monotonic() - self._began)
            waiting = wait_until_ready(probes, deadline=remaining, stop=stop, gate=started, began=self._began)
            probing = group.create_task(waiting)
        ready = probing.result().seconds
        return Startup(
            seconds=max(ready.values()), created=making.result(), probes=ready, steps=self._steps, by=self._by
        )

    async def _make(self, limit: float) -> float:
        """Start every container, the quickest way possible; return the seconds that it took."""
        from stackyard.docker.fast_start import build

        blueprint = await self._blueprint(limit)
        if blueprint is None:
            await self._compose_up(limit)
        elif not self.standing:
            asking = cast("Engine", Asking(self.engine, self.lease))
            await build(asking, blueprint, began=self._began, steps=self._steps, started=self._note_running)
        elif self._stands(blueprint):
            await asyncio.to_thread(self._revive)
            self._by = STOOD
        else:
            self._by = "compose: existing containers differ from the model"
            await self._compose_up(limit)
        for event in self._running.values():
            event.set()
        return time.monotonic() - self._began

    def _stands(self, blueprint: Blueprint) -> bool:
        """Say whether every container exists as *blueprint* would make it."""
        from stackyard.docker.fast_start.translation import HASH_LABEL

        found = {item.labels.get(SERVICE_LABEL): item.labels.get(HASH_LABEL) for item in self.standing}
        return all(found.get(plan.service) == plan.config["Labels"][HASH_LABEL] for plan in blueprint.containers)

    def _revive(self) -> None:
        """Restart the services that have ended."""
        for item in self.standing:
            if item.kind == "container" and self.engine.state(item.id).status != "running":
                self.engine.restart(item.id)

    async def _blueprint(self, limit: float) -> Blueprint | None:
        """Return what the engine has to make; if Compose has to do it, note the reason and return None."""
        from stackyard.docker.fast_start import Source, translate
        from stackyard.docker.fast_start.templates import render

        if self.settings.start == "compose":
            self._by = "compose: STACKYARD_START says so"
            return None
        try:
            model = await render(
                self.compose, self.lease.variables(), self.settings.state_dir / "models", deadline=limit
            )  # fmt: skip
            self._steps["render"] = (0.0, time.monotonic() - self._began)
            file = self.compose.file
            source = Source(
                files=str(file), folder=str(file.parent), env_files=str(self.compose.env_file), ordered=False
            )
            return translate(model, source)
        except UnsupportedModelError as error:
            self._by = f"compose: {error}"
        return None

    async def _compose_up(self, limit: float) -> None:
        beginning = time.monotonic() - self._began
        override = start_at_once(self.compose.file, self.lease.directory)
        await dataclasses.replace(self.compose, overrides=(override,)).up(deadline=limit)
        self._steps["compose"] = (beginning, time.monotonic() - self._began)
        reach("start")

    def _note_running(self, service: str) -> None:
        if service in self._running:
            self._running[service].set()

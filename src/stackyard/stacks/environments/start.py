"""
One start: all services are made at once and probed from the host; the stack is ready when each has answered.

If nothing of the project exists, the engine makes it directly from Compose's rendered model, which is the quick way. If
it exists as the model says, it is only probed. If it exists in another form, or part of the model has no translation,
`docker compose up` does the start. The Compose file means the same in each case.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from stackyard._util.task_group import task_group
from stackyard.docker.compose import start_at_once
from stackyard.docker.records import SERVICE_LABEL
from stackyard.stacks.starts.engine_or_compose import Maker
from stackyard.stacks.starts.times import STOOD, Startup

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
        self.standing = [item for item in standing if item.kind != "volume"]
        self._maker = Maker(lease, engine, settings)
        self._templates = settings.state_dir / "models"
        self._running: dict[str, asyncio.Event] = {}

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
            remaining, began = limit - self._maker.elapsed(), self._maker.began
            waiting = wait_until_ready(probes, deadline=remaining, stop=stop, gate=started, began=began)
            probing = group.create_task(waiting)
        ready = probing.result().seconds
        seconds, steps, by = max(ready.values()), self._maker.steps, self._maker.by
        return Startup(seconds=seconds, created=making.result(), probes=ready, steps=steps, by=by)

    async def _make(self, limit: float) -> float:
        """Start every container, the quickest way possible; return the seconds that it took."""
        blueprint = await self._maker.translated(lambda: self._blueprint(limit))
        if blueprint is None:
            await self._compose_up(limit)
        elif not self.standing:
            await self._maker.build(blueprint, self._note_running)
        elif self._stands(blueprint):
            await asyncio.to_thread(self._revive)
            self._maker.by = STOOD
        else:
            self._maker.by = "compose: existing containers differ from the model"
            await self._compose_up(limit)
        for event in self._running.values():
            event.set()
        return self._maker.elapsed()

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

    async def _blueprint(self, limit: float) -> Blueprint:
        """Return what the engine has to make; raise UnsupportedModelError if Compose has to do it."""
        from stackyard.docker.fast_start import Source, translate
        from stackyard.docker.fast_start.templates import render

        model = await render(self.compose, self.lease.variables(), self._templates, deadline=limit)
        self._maker.steps["render"] = (0.0, self._maker.elapsed())
        file = self.compose.file
        source = Source(files=str(file), folder=str(file.parent), env_files=str(self.compose.env_file), ordered=False)
        return translate(model, source)

    async def _compose_up(self, limit: float) -> None:
        override = start_at_once(self.compose.file, self.lease.directory)
        words = dataclasses.replace(self.compose, overrides=(override,)).command()
        await self._maker.compose(words, deadline=limit)

    def _note_running(self, service: str) -> None:
        if service in self._running:
            self._running[service].set()

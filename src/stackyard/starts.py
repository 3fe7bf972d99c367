"""
One start: everything is made at once while each service is probed from the host; ready means that each has answered.

A project of which nothing stands yet is made by the engine itself, from Compose's rendered model: that is the quick
way. One that stands as it would be made is only probed. One that stands otherwise, and whatever of a model has no
translation, is left to `docker compose up`. Whichever way, the file means the same.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from stackyard.checkpoints import reach
from stackyard.compose import start_at_once
from stackyard.engine.records import SERVICE_LABEL
from stackyard.errors import UnsupportedModelError
from stackyard.together import together
from stackyard.turns import TELL_AFTER
from stackyard.unanswered import Asking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stackyard.blueprints import Blueprint
    from stackyard.compose import Compose
    from stackyard.engine import Engine, Resource
    from stackyard.leases import Lease
    from stackyard.probes import Probe
    from stackyard.settings import Settings

SERVED_BY: Final = {"websocket": "backend"}  # probes named otherwise than the service that answers them
WORTH_A_STEP: Final = 0.01  # seconds; less is no wait, but the asking


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """
    How one start went; all times in seconds since it began, which is when its turn came.

    Attributes:
        seconds: Until the last probe passed.
        created: Until every container had been started.
        probes: Until each service's probe passed.
        steps: Beginning and end of each step: ``render``, ``network``, ``create redis``, ``start redis`` and so on;
            ``compose`` where Compose did it all, ``turn``, before the beginning, where it had to wait for that.
        by: Who made the containers: engine, compose and why, pool where a warm stack was taken, or nobody where all of
            them ran already.
        waited: Until its turn came; no part of the others.
    """

    seconds: float
    created: float = 0.0
    probes: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    by: str = "engine"
    waited: float = 0.0

    def after(self, waited: float) -> Startup:
        """Return the same start after *waited* seconds of waiting for a turn, as a step if it is worth one."""
        steps = {"turn": (-waited, 0.0), **self.steps} if waited >= WORTH_A_STEP else self.steps
        return dataclasses.replace(self, waited=waited, steps=steps)

    def told(self) -> str:
        """Return the line a user gets; a wait is in it if he will have noticed."""
        wait = f", {self.waited:.1f} s for its turn before" if self.waited >= TELL_AFTER else ""
        return f"ready after {self.seconds:.2f} s{wait}"


class Start:
    """
    One start of the stack under *lease*.

    Args:
        compose: The project.
        lease: Its lease.
        engine: Where it starts.
        settings: Who may make the containers, and where templates of models are kept.
        standing: What of the project stands already; data volumes make no difference.
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
            trouble: Asked now and then, once what stood before has been started again; a text it returns ends the
                start.

        Raises:
            NotReadyError: If a probe did not pass in time, or *trouble* had a reason.
            CommandError: If Compose failed.
            EngineError: If the engine is away or refused something.
        """
        from stackyard.probes import preload, wait_until_ready  # noqa: PLC0415 - only a start needs it

        self._running = {SERVED_BY.get(probe.service, probe.service): asyncio.Event() for probe in probes}
        making = asyncio.create_task(self._make(limit))
        await asyncio.to_thread(preload)
        remaining = limit - (time.monotonic() - self._began)

        async def started(service: str) -> None:
            await self._running[SERVED_BY.get(service, service)].wait()

        def stop() -> str | None:
            # what stood before and has ended is only now being started again
            return None if self.standing and not making.done() else trouble()

        waiting = wait_until_ready(probes, deadline=remaining, stop=stop, gate=started, began=self._began)
        probing = asyncio.create_task(waiting)
        await together(making, probing)
        ready = probing.result().seconds
        return Startup(
            seconds=max(ready.values()), created=making.result(), probes=ready, steps=self._steps, by=self._by
        )

    async def _make(self, limit: float) -> float:
        """Start every container, by whichever way can; return the seconds that took."""
        from stackyard.blueprints import build  # noqa: PLC0415 - as above

        blueprint = await self._blueprint(limit)
        if blueprint is None:
            await self._compose_up(limit)
        elif not self.standing:
            asking = cast("Engine", Asking(self.engine, self.lease))
            await build(asking, blueprint, began=self._began, steps=self._steps, started=self._note_running)
        elif self._stands(blueprint):
            await asyncio.to_thread(self._revive, blueprint)
            self._by = "nobody: it stood already"
        else:
            self._by = "compose: what stands is not what is asked for"
            await self._compose_up(limit)
        for event in self._running.values():
            event.set()
        return time.monotonic() - self._began

    def _stands(self, blueprint: Blueprint) -> bool:
        """Tell whether every container stands as *blueprint* would make it."""
        from stackyard.blueprints.translation import HASH_LABEL  # noqa: PLC0415 - as above

        found = {item.labels.get(SERVICE_LABEL): item.labels.get(HASH_LABEL) for item in self.standing}
        return all(found.get(plan.service) == plan.config["Labels"][HASH_LABEL] for plan in blueprint.containers)

    def _revive(self, blueprint: Blueprint) -> None:
        """Start again whatever service has ended; first those whose network namespace others share."""
        joining = {plan.service for plan in blueprint.containers if plan.joins}
        for item in sorted(self.standing, key=lambda item: item.labels.get(SERVICE_LABEL) in joining):
            if item.kind == "container" and self.engine.state(item.id).status != "running":
                self.engine.restart(item.id)

    async def _blueprint(self, limit: float) -> Blueprint | None:
        """Work out what the engine has to make; None, and a reason noted, where Compose has to do it."""
        from stackyard.blueprints import render, translate  # noqa: PLC0415 - as above

        if self.settings.start == "compose":
            self._by = "compose: STACKYARD_START says so"
            return None
        try:
            model = await render(
                self.compose, self.lease.variables(), self.settings.state_dir / "models", deadline=limit
            )  # fmt: skip
            self._steps["render"] = (0.0, time.monotonic() - self._began)
            return translate(model, file=self.compose.file, env_file=self.compose.env_file)
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

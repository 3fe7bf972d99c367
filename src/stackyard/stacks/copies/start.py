"""
The start of a copy's containers, from the model of its plan.

The engine is asked directly: everything is created at once, and each service starts as soon as its conditions in
`depends_on` hold, which stackyard finds out by its own checks and not by the engine's intervals. A model that is not
fully understood goes to `docker compose up`; `Startup.by` says why.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files
from stackyard._util.task_group import task_group
from stackyard.docker import inspection
from stackyard.docker.client_settings import client_settings
from stackyard.docker.fast_start import Source, plugin, translate
from stackyard.docker.fast_start.records import COMPLETED, STARTED
from stackyard.docker.records import PROJECT_LABEL
from stackyard.errors import RefusedError, UnsupportedModelError
from stackyard.leases.records import MODEL
from stackyard.plan.services import check_soon
from stackyard.probes.readiness_rules import conditions
from stackyard.stacks.readiness import waiting
from stackyard.stacks.readiness.progress_lines import reminding
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stackyard.docker.fast_start import Blueprint
    from stackyard.project import Project
    from stackyard.stacks.readiness.waiting import ServiceReady, StackReady
    from stackyard.stacks.starts.engine_or_compose import Maker

LEAST: Final = 0.1  # seconds for the readiness of what Compose has brought up at the last moment
PLATFORM: Final = "DOCKER_DEFAULT_PLATFORM"


class CopyStart:
    """
    One start of everything in *model*.

    Args:
        project: The project.
        model: The copy's model; its file in the lease's folder is written here.
        maker: Makes the containers, under the copy's lease.
        progress: Called with a line about what the start waits for, once that takes long.
    """

    def __init__(
        self, project: Project, model: dict[str, Any], maker: Maker, progress: Callable[[str], None]
    ) -> None:  # fmt: skip
        self.project = project
        self.lease = maker.lease
        self.engine = maker.engine
        self.model = model
        self.path = maker.lease.directory / MODEL
        self._maker = maker
        self._progress = progress
        self._started: dict[str, float] = {}

    async def run(self, deadline: float, *, until_ready: bool = True) -> Startup:
        """
        Make, start and prove everything.

        Args:
            deadline: Seconds that all of it may take.
            until_ready: Whether to wait until each service is ready; conditions of `depends_on` are kept in any case.

        Raises:
            NotReadyError: If a service failed, or was not ready in time.
            CommandError: If Compose failed.
            EngineError: If the engine refused something or did not answer.
        """
        blueprint = await self._maker.translated(self._blueprint)
        if blueprint is None:
            await self._compose_up(deadline)
            ready = await self._proved(deadline) if until_ready else None
        else:
            files.write(self.path, json.dumps(self.model).encode())
            ready = await self._built(blueprint, deadline, until_ready=until_ready)
        held = conditions(self.model)
        waits = {name: {one: by[name] for one, by in held.items() if name in by} for name in self.model["services"]}
        seconds, by, steps = self._maker.elapsed(), self._maker.by, self._maker.steps
        return Startup(seconds=seconds, by=by, steps=steps, ready=ready, started=self._started, waits=waits)

    # the engine's way

    async def _blueprint(self) -> Blueprint:
        """Return the requests to the engine; raise UnsupportedModelError if Compose has to do the start."""
        self._refuse_defaults()
        with ThreadPoolExecutor() as threads:
            version = threads.submit(plugin.version, self._maker.settings.state_dir)
            images = self._images(threads)
            source = Source(
                files=str(self.path), folder=str(self.project.home), env_files=",".join(_env_files(self.project)),
                version=version.result(), images=images, variables=self.project.environment,
            )  # fmt: skip
        return translate(self.model, source)

    def _refuse_defaults(self) -> None:
        """Leave to Compose what the docker command adds to containers without being asked in the model."""
        if client_settings(self.project.environment).get("proxies"):
            raise UnsupportedModelError("proxies (config.json of the docker command)", None)
        named = [self.project.home / ".env", *map(self.project.folder.joinpath, _env_files(self.project))]
        texts = [path.read_text(errors="replace") for path in named if not files.fault(path.parent, path.name)]
        if self.project.environment.get(PLATFORM) or any(PLATFORM in text for text in texts):
            raise UnsupportedModelError(PLATFORM, None)

    def _images(self, threads: ThreadPoolExecutor) -> dict[str, str]:
        """Return the id of each image; one that the engine lacks is Compose's to pull."""
        wanted = {(spec["image"], spec.get("platform", "")): name
                  for name, spec in self.model["services"].items() if spec.get("image")}  # fmt: skip
        found = threads.map(lambda pair: self._image(pair[0]), wanted)
        ids = {}
        for ((image, platform), name), answer in zip(wanted.items(), found, strict=True):
            if answer is None or not _fits(answer, platform):
                which = f"{image} for {platform}" if platform else image
                raise UnsupportedModelError(f"services.{name}.image ({which} is not on this engine)", image)
            ids[image] = str(answer.get("Id") or "")
        return ids

    def _image(self, name: str) -> Mapping[str, Any] | None:
        try:
            return inspection.image(self.engine, name)
        except RefusedError:
            return None

    async def _built(self, blueprint: Blueprint, deadline: float, *, until_ready: bool) -> StackReady | None:
        """Build and prove at the same time: what is proved lets others start."""
        ready = {name: asyncio.Event() for name in self.model["services"]}

        async def proven(service: str, _condition: str) -> None:
            await ready[service].wait()

        building = self._maker.build(blueprint, self._note_started, proven)
        asked = {condition for found in blueprint.conditions.values() for condition in found.values()}
        if not until_ready and asked <= {STARTED}:
            await building
            return None
        async with task_group() as group:
            proving = group.create_task(self._proved(deadline, lambda one: ready[one.service].set()))
            await building
            if not until_ready:
                proving.cancel()
        return proving.result() if until_ready else None

    def _note_started(self, service: str) -> None:
        self._started[service] = round(self._maker.elapsed(), 3)

    async def _proved(self, deadline: float, ready: Callable[[ServiceReady], object] | None = None) -> StackReady:
        left = max(deadline - self._maker.elapsed(), LEAST)
        # a hint says when a service is usable; those that wait for its end wait for just that
        ends = {name for name, found in conditions(self.model).items() if COMPLETED in found.values()}
        hints = {name: hint for name, hint in self.project.configuration.ready.items() if name not in ends}
        return await waiting.wait(
            self.engine, [f"{PROJECT_LABEL}={self.lease.project}"], self.model, deadline=left, hints=hints,
            ready=ready, began=self._maker.began, progress=self._progress,
        )  # fmt: skip

    # Compose's way

    async def _compose_up(self, deadline: float) -> None:
        check_soon(self.model)  # here the engine's own checks decide when a condition holds
        files.write(self.path, json.dumps(self.model).encode())
        project = self.project
        words = [
            "docker", "compose", *(word for file in _env_files(project) for word in ("--env-file", file)),
            "--project-name", self.lease.project, "--project-directory", str(project.home), "--file", str(self.path),
        ]  # fmt: skip
        with reminding(self._progress, "waiting for docker compose"):
            await self._maker.compose(words, deadline=deadline, env=project.environment, cwd=project.home)


def _env_files(project: Project) -> Sequence[str]:
    """Return the env files that were named; without any, Compose uses `.env`."""
    return [str(project.folder / file) for file in project.chosen("--env-file")]


def _fits(image: Mapping[str, Any], platform: str) -> bool:
    """Say whether an image is of a platform such as ``linux/arm64/v8``; a part that is not given fits."""
    own = [str(image.get(key) or "") for key in ("Os", "Architecture", "Variant")]
    wanted = platform.split("/") if platform else []
    return all(part == found for part, found in zip(wanted, own, strict=False))

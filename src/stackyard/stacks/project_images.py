"""The images of a project's services: what the engine knows about them, and pulling those that are missing."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stackyard._util.event_loops import outside_any_loop, run
from stackyard._util.interrupts import reported
from stackyard._util.tables import format_list
from stackyard._util.task_group import run_all
from stackyard.docker import images, inspection
from stackyard.errors import CommandError, ImageError, RefusedError
from stackyard.probes.readiness_rules import ImageFacts
from stackyard.project import copies_of
from stackyard.stacks.readiness.progress_lines import reminding

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from stackyard.docker import Engine

AT_ONCE: Final = 8  # pulls
WAY_OUT: Final = "build it, correct its name in the Compose file, or log in to its registry with 'docker login'"


class NeededImage(NamedTuple):
    """
    An image that services need.

    Attributes:
        name: As the Compose file has it.
        platform: The platform that the file asks for; empty for the engine's own.
    """

    name: str
    platform: str


class Lacking(NamedTuple):
    """
    An image that is not on the engine yet.

    Attributes:
        image: As the Compose file has it.
        services: Who needs it.
        by: What brings it: pull, build, or nothing, because its pull policy is never.
    """

    image: str
    services: list[str]
    by: str


def lacking(engine: Engine, model: Mapping[str, Any], unbuilt: Collection[str] = ()) -> list[Lacking]:
    """
    Return the images that a start has to get first, those to build last.

    Args:
        engine: Where they have to be.
        model: The user's own rendered model.
        unbuilt: Services whose image has to be built.

    Raises:
        EngineError: If the engine does not answer.
    """
    found: dict[NeededImage, list[str]] = {}
    for name, image in _pulled(model).items():
        if not _is_here(engine, image.name):
            found.setdefault(image, []).append(name)
    never = {name for name, service in model["services"].items() if service.get("pull_policy") == "never"}
    pulled = [Lacking(image.name, names, "nothing" if never & {*names} else "pull") for image, names in found.items()]
    built = [Lacking(reference(model, name, model["services"][name]), [name], "build") for name in unbuilt]
    return pulled + built


def _pulled(model: Mapping[str, Any]) -> dict[str, NeededImage]:
    """Return the image of each service that has a container and whose image is built nowhere in the project."""
    services = {name: service for name, service in model["services"].items() if copies_of(service)}
    built = {service.get("image") for service in services.values() if service.get("build")}
    return {
        name: NeededImage(str(service["image"]), str(service.get("platform") or ""))
        for name, service in services.items()
        if service.get("image") and not service.get("build") and service["image"] not in built
    }


def pull(engine: Engine, model: Mapping[str, Any], progress: Callable[[str], None]) -> None:
    """
    Pull the images of services without a `build` that are not here, or that the file wants pulled each time.

    Args:
        engine: Where they have to be.
        model: The user's own rendered model.
        progress: Called with a line before a pull.

    Raises:
        ImageError: If one is not there and cannot be pulled; names services and images, each in one line.
        EngineError: If the engine does not answer.
    """
    is_here = functools.cache(functools.partial(_is_here, engine))
    wanted: dict[NeededImage, list[str]] = {}
    never: dict[NeededImage, list[str]] = {}
    for name, image in _pulled(model).items():
        policy = model["services"][name].get("pull_policy")
        if policy == "always" or not is_here(image.name):
            (never if policy == "never" else wanted).setdefault(image, []).append(name)
    failures = [_missing(image, names, "and its pull_policy is never") for image, names in never.items()]
    if wanted and not failures:
        listed = ", ".join(sorted(image.name for image in wanted))
        progress(f"pulling {listed}")
        with reminding(progress, "pulling"), reported(progress, f"pulling {listed}"):
            failures = outside_any_loop(lambda: run(_pull_all(wanted)))
    if failures:
        raise ImageError(format_list(f"{len(failures)} images are missing", failures))


def _is_here(engine: Engine, name: str) -> bool:
    try:
        inspection.image(engine, name)
    except RefusedError:
        return False
    return True


async def _pull_all(wanted: Mapping[NeededImage, list[str]]) -> list[str]:
    """Pull several images at once; say which failed, and why. Cancelling ends all pulls."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def pulled(image: NeededImage, names: list[str]) -> str:
        async with turns:
            return await _pull(image, names)

    return list(filter(None, await run_all(*(pulled(*item) for item in wanted.items()))))


async def _pull(image: NeededImage, names: list[str]) -> str:
    """Pull one image; return why it failed, or an empty text."""
    try:
        await images.pull(image.name, platform=image.platform)
    except CommandError as error:
        why = error.lines[-1] if error.lines else str(error)
        return _missing(image, names, f"and cannot be pulled ({why})")
    return ""


def _missing(image: NeededImage, names: list[str], why: str) -> str:
    noun = "service" if len(names) == 1 else "services"
    return f"{noun} {', '.join(names)}: image {image.name} is not on this engine {why}; {WAY_OUT}"


def facts(engine: Engine, model: Mapping[str, Any], services: Collection[str] | None = None) -> dict[str, ImageFacts]:
    """
    Return what the images of *model* say, by service; a service whose image is not here is left out.

    Args:
        engine: Where the images are.
        model: A rendered model.
        services: Only these; None means all.

    Raises:
        EngineError: If the engine does not answer.
    """
    found = {}
    for name, service in model["services"].items():
        if services is not None and name not in services:
            continue
        try:
            answer = inspection.image(engine, reference(model, name, service))
        except RefusedError:
            continue
        found[name] = ImageFacts.from_inspect(answer)
    return found


def reference(model: Mapping[str, Any], name: str, service: Mapping[str, Any]) -> str:
    """Return the name of a service's image; one that is only built has the name that Compose gives it."""
    return str(service.get("image") or f"{model.get('name')}-{name}")

"""
The images of the platform: which are needed, which exist, and which are missing.

Every image carries its content in its tag and in a label. If the two agree, the image is the right one, and an
unchanged tree builds nothing: `ensure` then costs one call to the engine. The project's builder builds what is missing,
under a lock, so that two processes do not build the same image.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from stackyard.docker.engine import Engine
from stackyard.docker.images import EngineImage, labelled
from stackyard.images import builder, names
from stackyard.images.recipes import SOURCES, Recipe, service_recipes
from stackyard.images.sources import cache_directory, resolve_source
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


_CONTENT: Final = re.compile(r"^stackyard/[^:]+:(?:[a-z]+-)?([0-9a-f]{12})$")  # the hash in a name that stackyard gives


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """
    One image of a service.

    Attributes:
        flavour: debian or alpine.
        reference: The name with the content's hash.
        size: Bytes of all its layers, uncompressed.
        created: When it was built, in seconds since the epoch.
        source: Where its base came from: registry or packages.
        base: Its official base image and digest; empty if built from packages.
    """

    service: str
    flavour: str
    reference: str
    size: int
    created: float
    source: str
    id: str
    base: str


def references(flavour: str, source: str = "auto", *, root: Path | None = None) -> dict[str, str]:
    """
    Return the reference each service's image of *flavour* has when built from the tree as it is now.

    Raises:
        ImageError: If the flavour is unknown or a file is missing.
        UsageError: If *source* is none of auto, registry, packages.
    """
    recipes = service_recipes(root or project_root(), flavour, resolve_source(source))
    return {service: recipe.reference for service, recipe in recipes.items()}


def ensure(
    flavour: str,
    *,
    source: str = "auto",
    progress: Callable[[str], None] | None = None,
    root: Path | None = None,
    take_names: bool | None = None,
    engine: Engine | None = None,
) -> dict[str, str]:
    """
    Let the project's builder build the images of *flavour* that are missing; return each service's reference.

    With `auto`, images that exist already are used whatever their source; the registry is asked only before a build.

    Args:
        flavour: debian or alpine.
        source: auto, registry or packages.
        progress: Called with a line for each image and step; not called if nothing is built.
        root: The project; None finds it.
        take_names: Whether plain names that belong to another checkout become this one's (`stackyard.images.names`).
            If False, *progress* gets a line for each that does not; if None, only after a build.
        engine: Where the images are; None connects to it for this call.

    Raises:
        ImageError: If an image cannot be built; the text says which, at what step, and carries the last lines.
        EngineError: If the engine does not answer.
        UsageError: If *source* is wrong.
    """
    where = root or project_root()
    say = progress or (lambda _line: None)
    with Engine() if engine is None else contextlib.nullcontext(engine) as open_engine:
        there = known(open_engine, say)
        ready = found = _ready(where, flavour, source, there)
        if ready is None:
            origin = resolve_source(source)
            ready = service_recipes(where, flavour, origin)
            missing = [recipe.reference for recipe in ready.values() if recipe.reference not in there]
            builder.build(where, flavour, origin, say, missing=missing)
            there = known(open_engine)
        kept = names.give(open_engine, ready.values(), there, root=where, take=bool(take_names))
    if found is None or take_names is not None:
        for name, owner in kept.items():
            say(f"{name} stays the image of {owner}, where plain docker compose uses it")
    return {service: recipe.reference for service, recipe in ready.items()}


def present(
    flavour: str, engine: Engine, *, source: str = "auto", root: Path | None = None
) -> dict[str, tuple[str, str]] | None:
    """
    Return the reference and the engine's id of each service's image; None if one is missing. Nothing is built.

    Raises:
        EngineError: If the engine does not answer.
        ImageError: If the flavour is unknown or a file is missing.
        UsageError: If *source* is wrong.
    """
    there = known(engine)
    ready = _ready(root or project_root(), flavour, source, there)
    if ready is None:
        return None
    return {service: (recipe.reference, there[recipe.reference]) for service, recipe in ready.items()}


def listing() -> list[Image]:
    """
    List the services' images the engine has, newest first within each service and flavour.

    Raises:
        EngineError: If the engine does not answer.
    """
    with Engine() as engine:
        found = labelled(engine, "stackyard.image")
    images = [image for row in found if (image := _image(row)) is not None]
    return sorted(images, key=lambda image: (image.flavour, image.service, -image.created))


@contextlib.contextmanager
def building(say: Callable[[str], None] = lambda _line: None) -> Iterator[None]:
    """Keep every other process from building or removing images; if one does so now, *say* that and wait."""
    file = cache_directory() / "images.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        say("images: another process builds; waiting for it")
        held = lock.acquire()
    with held:
        yield


def _image(row: EngineImage) -> Image | None:
    service, flavour = row.labels["stackyard.image"], row.labels.get("stackyard.flavour", "")
    marked = [name for name in row.references if name.startswith(f"stackyard/{service}:{flavour}-")]
    if service.startswith("base-") or not marked:
        return None
    return Image(
        service=service, flavour=flavour, reference=marked[0], size=row.size, created=row.created, id=row.id,
        source=row.labels.get("stackyard.source", ""), base=row.labels.get("stackyard.base", ""),
    )  # fmt: skip


def is_as_named(reference: str, labels: Mapping[str, str]) -> bool:
    """
    Say whether an image with *labels* has the content that its name *reference* tells; a name that tells none is fine.

    Anybody can give a name to another image, with `docker tag` for instance. The label was written by the build.
    """
    digits = _CONTENT.search(reference)
    return digits is None or labels.get("stackyard.content", "").startswith(digits[1])


def known(engine: Engine, say: Callable[[str], None] = lambda _line: None) -> dict[str, str]:
    """
    Return every name of a stackyard image that has the content it names, with the engine's id of the image.

    *say* gets a line for each name that belongs to another image.

    Raises:
        EngineError: If the engine does not answer.
    """
    found: dict[str, str] = {}
    for row in labelled(engine, "stackyard.image"):
        for name in row.references:
            if is_as_named(name, row.labels):
                found[name] = row.id
            else:
                content = row.labels.get("stackyard.content", "")[:12] or "unknown"
                say(f"image {name} is another one by now (its content is {content}), and counts as missing")
    return found


def _ready(root: Path, flavour: str, source: str, there: Mapping[str, str]) -> dict[str, Recipe] | None:
    candidates = SOURCES if source == "auto" else (resolve_source(source),)
    for candidate in candidates:
        recipes = service_recipes(root, flavour, candidate)
        if all(recipe.reference in there for recipe in recipes.values()):
            return recipes
    return None

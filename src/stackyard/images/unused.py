"""
Images of ours that nothing needs any longer: no recipe of this tree names them, no lease does, no container uses them.

Ours are images with stackyard's label and names that begin with its repository; another name that somebody gave such
an image stays, and with it the image. Nameless ones are what a build left whose name a later build took over.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.images import disk_use, untag
from stackyard.errors import EngineError, LeftoversError
from stackyard.images.recipes import FLAVOURS, SOURCES, everything, service_recipes
from stackyard.images.store import building
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from stackyard.docker.engine import Engine
    from stackyard.docker.images import EngineImage

REPOSITORY: Final = "stackyard/"
LABEL: Final = "stackyard.image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surplus:
    """
    One name to take away, or one nameless image.

    Attributes:
        name: The name; the image's id where it has none.
        image: The engine's id of the image.
        size: Bytes of all its layers, uncompressed.
        shared: Bytes of those that other images have too, so that they stay.
        created: When it was built, in seconds since the epoch.
        why: The reason, for a person.
    """

    name: str
    image: str
    size: int
    shared: int
    created: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearance:
    """
    What became of the surplus.

    Attributes:
        removed: Names, or ids, that are gone.
        left: The others, each with the engine's reason.
        freed: Bytes that the engine's layers take less than before, also those that another program freed.
    """

    removed: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    freed: int

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {("freed_bytes" if key == "freed" else key): value for key, value in asdict(self).items()}

    def check(self) -> None:
        """
        Do nothing if all are gone.

        Raises:
            LeftoversError: If one is left.
        """
        if self.left:
            listed = "; ".join(f"{name}: {reason}" for name, reason in self.left)
            raise LeftoversError(f"{len(self.left)} images left: {listed}")


def find(engine: Engine, *, keep: Collection[str] = (), root: Path | None = None) -> list[Surplus]:
    """
    List the surplus, largest first; nothing is changed.

    Args:
        engine: Whose images.
        keep: Names that somebody still needs, such as the leases'.
        root: The project; None finds it.

    Raises:
        EngineError: If the engine does not answer.
        ImageError: If a file of the tree is missing.
    """
    wanted = named_by_recipes(root or project_root()) | set(keep)
    _, images = disk_use(engine)
    found = [item for image in images if LABEL in image.labels and not image.containers for item in _of(image, wanted)]
    return sorted(found, key=lambda item: (-item.size, item.name))


def named_by_recipes(root: Path) -> set[str]:
    """
    Return every name that the tree below *root* gives an image, of either flavour and source, bases too.

    Raises:
        ImageError: If a file is missing.
    """
    recipes = [
        recipe
        for flavour, source in itertools.product(FLAVOURS, SOURCES)
        for recipe in everything(service_recipes(root, flavour, source).values())
    ]
    return {name for recipe in recipes for name in (recipe.reference, recipe.alias) if name is not None}


def _of(image: EngineImage, wanted: Collection[str]) -> list[Surplus]:
    names = {name: "no recipe names it" for name in image.references if name.startswith(REPOSITORY)}
    if not image.references:
        names = {image.id: "a later build took its name"}
    return [
        Surplus(name=name, image=image.id, size=image.size, shared=image.shared, created=image.created, why=why)
        for name, why in names.items()
        if name not in wanted
    ]


def remove(engine: Engine, found: Sequence[Surplus]) -> Clearance:
    """
    Remove what *find* found, unless a container has come to use it; waits while images are built.

    Raises:
        EngineError: If the engine does not answer at all.
    """
    removed, left = [], []
    with building():
        before, _ = disk_use(engine)
        for item in found:
            try:
                untag(engine, item.name)
                removed.append(item.name)
            except EngineError as error:
                left.append((item.name, str(error)))
        after, _ = disk_use(engine)
    return Clearance(removed=tuple(removed), left=tuple(left), freed=max(before - after, 0))

"""
stackyard's images that are no longer needed: no recipe of this tree and no lease names them, no container uses them.

Ours are images with stackyard's label and names that begin with its repository; another name that somebody gave such
an image stays, and with it the image. Nameless ones are what a build left whose name a later build took over.
`copy_images` finds those of copied projects; both are removed here.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.tables import format_count
from stackyard.docker.images import disk_use, untag
from stackyard.errors import EngineError, LeftoversError
from stackyard.images.recipes import FLAVOURS, SOURCES, everything, service_recipes
from stackyard.images.store import building
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stackyard.docker.engine import Engine
    from stackyard.docker.images import EngineImage

    Guard = Callable[[str], AbstractContextManager[Collection[str]]]

REPOSITORY: Final = "stackyard/"
LABEL: Final = "stackyard.image"
BUSY: Final = "a start is under way that may need it, or it is gone or in use by now"


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
        project: The copied project that it was built for; empty for an image of the platform.
    """

    name: str
    image: str
    size: int
    shared: int
    created: float
    why: str
    project: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearance:
    """
    What became of the surplus.

    Attributes:
        removed: Names, or ids, that are gone.
        left: Those that the engine did not give up, each with its reason.
        freed: Bytes that the engine's layers take less than before, also those that another program freed.
        kept: Those that somebody came to need in the meantime, each with the reason.
    """

    removed: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    freed: int
    kept: tuple[tuple[str, str], ...] = ()

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
            raise LeftoversError(f"{format_count(len(self.left), 'image')} left: {listed}")


def find(rows: Sequence[EngineImage], *, keep: Collection[str] = (), root: Path | None = None) -> list[Surplus]:
    """
    List the surplus of the platform among *rows*, from `disk_use`; largest first. Nothing is changed.

    Names in *keep*, such as those that leases need, are no surplus.

    Raises:
        ImageError: If a file of the tree is missing.
    """
    recipes = named_by_recipes(root or project_root())
    if not recipes:  # a project that builds no images cannot say which of another checkout's are needed
        return []
    wanted = recipes | set(keep)
    found = [item for image in rows if LABEL in image.labels and not image.containers for item in _of(image, wanted)]
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


def remove(engine: Engine, found: Sequence[Surplus], guard: Guard) -> Clearance:
    """
    Remove what was found, unless something has come to use it; waits while images of the platform are built.

    *guard* keeps a copied project from starting, and gives the names that are surplus all the same.

    Raises:
        EngineError: If the engine does not answer at all.
    """
    removed, left, kept = list[str](), list[tuple[str, str]](), list[tuple[str, str]]()
    before, _ = disk_use(engine)
    for project in sorted({item.project for item in found}):
        names = [item.name for item in found if item.project == project]
        with guard(project) if project else _undisturbed(names) as free:
            kept += [(name, BUSY) for name in names if name not in free]
            for name in (name for name in names if name in free):
                try:
                    untag(engine, name)
                    removed.append(name)
                except EngineError as error:
                    left.append((name, str(error)))
    after, _ = disk_use(engine)
    return Clearance(removed=tuple(removed), left=tuple(left), freed=max(before - after, 0), kept=tuple(kept))


@contextlib.contextmanager
def _undisturbed(names: Sequence[str]) -> Iterator[Sequence[str]]:
    with building():
        yield names

"""
What each image is made of, and the name that follows from it.

A recipe's content is the hash of everything that goes in: files, arguments, the source of the project's builder, and
the contents of the recipes below it. The tag carries that hash, so an image with the right tag is the right image.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from stackyard.errors import ImageError
from stackyard.images import recipe_file

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

Source = Literal["registry", "packages"]
FLAVOURS: Final = ("debian", "alpine")
SOURCES: Final[tuple[Source, ...]] = ("packages", "registry")
BUILDER: Final = "images/image_builder"
MAKERS: Final = (f"{BUILDER}/contexts.py", f"{BUILDER}/elf.py")  # what makes a material


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """
    How one image is made.

    Attributes:
        name: Service, or `base-<what>-<flavour>`.
        flavour: debian or alpine.
        source: Where its base comes from: registry or packages.
        dockerfile: Its Dockerfile; None for a root file system that is imported.
        files: Files and directories whose content goes in.
        bases: Recipes below it, by the build argument that names them.
        official: The official image to pull and pass as BASE; None when built from packages.
        material: Name of the context that is made on the host; None without one.
    """

    name: str
    flavour: str
    source: Source
    dockerfile: Path | None = None
    context: Path | None = None
    files: tuple[Path, ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()
    bases: tuple[tuple[str, Recipe], ...] = ()
    official: str | None = None
    material: str | None = None
    content: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", self._digest())

    @property
    def service(self) -> bool:
        """True for an image a stack runs, False for a base."""
        return not self.name.startswith("base-")

    @property
    def alias(self) -> str | None:
        """The name plain Compose uses; a base has none."""
        return f"stackyard/{self.name}:{self.flavour}" if self.service else None

    @property
    def reference(self) -> str:
        """The name that carries the content's first twelve hex digits."""
        tag = f"{self.flavour}-{self.content[:12]}" if self.service else self.content[:12]
        return f"stackyard/{self.name}:{tag}"

    @property
    def labels(self) -> dict[str, str]:
        """The labels the image gets."""
        return {
            "stackyard.image": self.name,
            "stackyard.flavour": self.flavour,
            "stackyard.source": self.source,
            "stackyard.content": self.content,
        }

    def _digest(self) -> str:
        digest = hashlib.sha256(repr((self.name, self.flavour, self.source, self.arguments, self.official)).encode())
        for argument, base in self.bases:
            digest.update(f"{argument}={base.content}\n".encode())
        for path in self.files:
            for file in _files(path):
                inner = file.relative_to(path) if file != path else Path(path.name)
                content = file.read_bytes()
                digest.update(f"{path.name} {inner} {file.stat().st_mode & 0o111} {len(content)}\n".encode())
                digest.update(content)
        return digest.hexdigest()


def service_recipes(root: Path, flavour: str, source: Source) -> dict[str, Recipe]:
    """
    Return the recipe of each service that the project below *root* makes an image of.

    Raises:
        ImageError: If the flavour is unknown, a file is missing, or `recipe_file.FILE` is wrong.
    """
    if flavour not in FLAVOURS:
        raise ImageError(f"no images of flavour {flavour!r}; known are {', '.join(FLAVOURS)}")
    try:
        made = _Recipes(root, flavour, source)
        return {service: made.service(service) for service in made.file.services}
    except OSError as error:
        raise ImageError(f"{error.filename}: an image needs this file: {error.strerror}") from None


def everything(recipes: Iterable[Recipe], known: Container[str] = ()) -> Iterator[Recipe]:
    """Give *recipes* and their bases, once each, leaving out those *known* and what is below them."""
    seen: set[str] = set()
    todo = list(recipes)
    while todo:
        recipe = todo.pop()
        if recipe.reference not in known and recipe.reference not in seen:
            seen.add(recipe.reference)
            todo += [base for _, base in recipe.bases]
            yield recipe


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return [path]


class _Recipes:
    """Makes the recipes of one flavour and source; bases that several images share are one object."""

    def __init__(self, root: Path, flavour: str, source: Source) -> None:
        self.file = recipe_file.read(root)
        self._compose = root / "compose"
        self._flavour = flavour
        self._source: Source = source
        self._makers = [self._compose / part for part in MAKERS]

    def service(self, name: str) -> Recipe:
        spec = self.file.services[name]
        registry = self._source == "registry"
        dockerfile = self._compose / spec.dockerfile[self._flavour]
        inner = [self._compose / part for part in spec.files]
        scripts = spec.scripts if self._flavour == "debian" else ()
        made = [self._compose / "requirements.lock", *self._makers] if spec.material else []
        return Recipe(
            name=name, flavour=self._flavour, source=self._source, dockerfile=dockerfile, context=self._compose,
            files=(dockerfile, *inner, *(self._compose / "base" / script for script in scripts), *made),
            arguments=(("SERVICE", name), ("FLAVOUR", self._flavour)) if spec.material else (),
            bases=() if registry else (("BASE", self.base(spec.base)),),
            official=self.file.bases[spec.base].official[self._flavour] if registry else None,
            material=spec.material,
        )  # fmt: skip

    @functools.cache  # noqa: B019 - it lives as long as one call of service_recipes
    def base(self, name: str) -> Recipe:
        folder, spec = self._compose / "base", self.file.bases[name]
        files, bases = [folder / f"Dockerfile.{name}-alpine"], [("BASE", self.system(self._flavour))]
        if self._flavour == "debian":
            files = [folder / "Dockerfile"]
        elif spec.material is None:
            bases.append(("BUILDER", self.system("debian")))
        else:
            files += [folder / "wheels.json", folder / "lean-python", *self._makers]
        return Recipe(
            name=f"base-{name}-{self._flavour}", flavour=self._flavour, source="packages", dockerfile=files[0],
            context=folder, files=tuple(files), bases=tuple(bases),
            arguments=(("PACKAGES", spec.packages),) if self._flavour == "debian" else (),
            material=spec.material if self._flavour == "alpine" else None,
        )  # fmt: skip

    @functools.cache  # noqa: B019 - as above
    def system(self, flavour: str) -> Recipe:
        builder = self._compose / BUILDER
        if flavour == "debian":
            return Recipe(name="base-debian", flavour="debian", source="packages", files=(builder / "debian.py",))
        files = (builder / "alpine.py", builder / "apk.py", self._compose / "base/wheels.json")
        return Recipe(name="base-alpine", flavour="alpine", source="packages", files=files)

"""
What the project says about its images, in `compose/images/recipes.json`: services and their base images.

All paths are relative to `compose`. msgspec checks the file against these records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct, field

from stackyard.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "compose/images/recipes.json"


class Service(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One image that a stack runs.

    Attributes:
        dockerfile: Its Dockerfile, by flavour.
        files: Files and folders that go in.
        scripts: Scripts of `base` that take part in a build on Debian.
        material: Name of the context that is made on the host; None without one.
    """

    base: str
    dockerfile: dict[str, str]
    files: list[str]
    scripts: list[str]
    material: str | None = None


class Base(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One base.

    Attributes:
        official: The official image, by flavour; which digest a tag means is asked when it is pulled.
        packages: Debian's packages, separated by spaces.
        material: Name of the context that is made on the host for Alpine; None if a container builds it.
    """

    official: dict[str, str]
    packages: str
    material: str | None


class RecipeFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file: services and bases by their names."""

    services: dict[str, Service] = field(default_factory=dict)
    bases: dict[str, Base] = field(default_factory=dict)


def read(root: Path) -> RecipeFile:
    """
    Return what the project below *root* says about its images; nothing without the file, because it builds none.

    Raises:
        ImageError: If the file has another shape, or a service names a base that it lacks.
        OSError: If it cannot be read.
    """
    if not (root / FILE).exists():
        return RecipeFile()
    try:
        found = msgspec.json.decode((root / FILE).read_bytes(), type=RecipeFile)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # brackets in brackets
        raise ImageError(f"{FILE}: {error}") from None
    for name, service in found.services.items():
        if service.base not in found.bases:
            raise ImageError(f"{FILE}: service {name} has the base {service.base!r}, which the file does not have")
    return found

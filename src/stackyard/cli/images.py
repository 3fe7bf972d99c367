"""`invoke images.*`: build what is missing, list what there is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from invoke.collection import Collection

from stackyard._util.tables import format_count, format_size, table
from stackyard.cli.common import answer, say, sized
from stackyard.cli.options import Option
from stackyard.cli.task import command
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.images import Image

FLAVOURS = ("debian", "alpine")


@command(
    options={
        "source": Option(
            help="Where base images come from: auto, registry or packages (default: STACKYARD_IMAGE_SOURCE or auto).",
            value="SOURCE",
            short="s",
        ),
        "take_names": Option(
            help="Let plain names such as stackyard/redis:debian, which plain docker compose uses, mean this "
            "checkout's images even if another checkout gave them first.",
        ),
    },
)
def build(flavour: str = "all", source: str | None = None, take_names: bool = False, json: bool = False) -> None:
    """Build the images that are missing; makes the password files that plain `docker compose` needs."""
    from stackyard import images
    from stackyard.leases.directory import credentials
    from stackyard.project.environments import load_services, project_root
    from stackyard.settings import Settings

    started = time.monotonic()
    if flavour not in {*FLAVOURS, "all"}:
        raise UsageError(f"--flavour must be debian, alpine or all, got {flavour!r}")
    setting = source or Settings.load().image_source
    progress = (lambda _line: None) if json else say
    credentials.ensure(project_root() / "envs/secrets", load_services().secrets)
    built = {
        name: images.ensure(name, source=setting, progress=progress, take_names=take_names)
        for name in (FLAVOURS if flavour == "all" else (flavour,))
    }
    seconds = time.monotonic() - started
    wanted = {reference for references in built.values() for reference in references.values()}
    found = [image for image in images.listing() if image.reference in wanted]
    sources = ", ".join(sorted({image.source for image in found}))
    text = f"{_table(found)}\n\n{format_count(len(found), 'image')} from {sources}, ready after {seconds:.1f} s"
    answer({"seconds": round(seconds, 3), "images": [*map(sized, found)]}, text, as_json=json)


@command(name="list")
def list_(json: bool = False) -> None:
    """List the images of the platform's services."""
    from stackyard import images

    found = images.listing()
    text = _table(found) if found else "no images yet; 'invoke images.build' makes them"
    answer([*map(sized, found)], text, as_json=json)


def _table(found: Sequence[Image]) -> str:
    now = time.time()
    rows = [
        (image.service, image.flavour, format_size(image.size), _age(now - image.created), image.source,
         image.base or "-", image.reference)
        for image in found
    ]  # fmt: skip
    align = ("left", "left", "right", "right", "left", "left", "left")
    return table(rows, ["service", "flavour", "size", "age", "source", "base", "reference"], align=align)


def _age(seconds: float) -> str:
    """Return an age in the largest unit that gives 2 or more."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


collection = Collection("images", build, list_)

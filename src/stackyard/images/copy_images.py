"""
Images that copies of any Compose project were built with, and which of them no copy needs any longer.

A build names its image after the lease book, the project and the service (`ownership.Build`). The image that a service
had before keeps a name of its own, so no image of stackyard is ever nameless.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.durations import said
from stackyard.docker import images, inspection
from stackyard.docker.engine import plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.ownership import Build
from stackyard.errors import RefusedError
from stackyard.images.unused import Surplus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from stackyard.docker import Engine
    from stackyard.docker.images import EngineImage

FRESH: Final = 3600.0  # seconds for which a use counts as just now, unless images are kept for a short time only


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Ids of images that copies need, running or not; and projects whose needs cannot be read, so that all stay."""

    images: Collection[str] = frozenset()
    projects: Collection[str] = frozenset()


def surplus(
    engine: Engine, rows: Iterable[EngineImage], host: str, used: Used, *, keep: float, project: str = ""
) -> list[Surplus]:
    """
    List what is ours among *rows* and not needed, largest first; nothing is changed.

    The latest image of a service stays for *keep* seconds after its last use. With *project*, only its images count.

    Raises:
        EngineError: If the engine does not answer.
    """
    found = []
    for row in rows:
        build = Build.of(row.labels)
        if build is None or build.host != host or project not in {"", build.project}:
            continue
        names = build.own(row.references)
        if not names or row.containers or row.id in used.images or build.project in used.projects:
            continue
        why = "a later build took its place"
        if build.is_latest(names):
            unused = time.time() - max(_last_use(engine, row.id), row.created)
            if unused <= keep:
                continue
            why = f"no copy has used it for {said(unused)}"
        if len(names) < len(row.references):
            why += "; the image stays under its other names"
        found += [
            Surplus(name=name, image=row.id, size=row.size, shared=row.shared, created=row.created, why=why,
                    project=build.project)
            for name in names
        ]  # fmt: skip
    return sorted(found, key=lambda item: (-item.size, item.name))


def _last_use(engine: Engine, image: str) -> float:
    """Return when an image got a name last, in seconds since the epoch; 0 if it is gone or the engine does not say."""
    try:
        answer = inspection.image(engine, image)
    except RefusedError:
        return 0.0
    return _named_at(answer)


def _named_at(answer: Mapping[str, Any]) -> float:
    with plain_errors("inspecting an image"):
        text = Part(answer).get("Metadata").text("LastTagTime", "") if answer.get("Metadata") else ""
        return datetime.fromisoformat(text).timestamp() if text and not text.startswith("0001") else 0.0


def exists(engine: Engine, image: str) -> Mapping[str, Any] | None:
    """
    Return what the engine says of an image, by name or id; None if there is none.

    Raises:
        EngineError: If the engine does not answer.
    """
    try:
        return inspection.image(engine, image) if image else None
    except RefusedError:
        return None


def note_use(engine: Engine, build: Build, answer: Mapping[str, Any], *, keep: float) -> None:
    """
    Let the image be the latest of its service, and used just now; a use soon after another one is not noted again.

    *answer* is what the engine says of it; *keep* is how many seconds it stays after its last use.

    Raises:
        EngineError: If the engine does not answer.
    """
    if build.name in (answer.get("RepoTags") or ()) and time.time() - _named_at(answer) < min(FRESH, keep / 10):
        return
    keep_name(engine, build, but=str(answer["Id"]))
    images.tag(engine, str(answer["Id"]), build.name)


def keep_name(engine: Engine, build: Build, but: str = "") -> None:
    """
    Give the latest image of a service the name that it keeps when another one becomes the latest, unless it is *but*.

    Raises:
        EngineError: If the engine does not answer.
    """
    answer = exists(engine, build.name)
    if answer is not None and answer["Id"] != but:
        images.tag(engine, str(answer["Id"]), build.earlier(str(answer["Id"])))

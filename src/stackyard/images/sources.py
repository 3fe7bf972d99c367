"""Where base images come from: the registry if the engine can reach it, else packages."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final, cast

from stackyard._util import json_text
from stackyard.docker.images import registry_digest
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.images.recipes import Source

REGISTRY_DEADLINE: Final = 2.0  # seconds the registry has to answer before packages are used
KEPT: Final = 900.0  # seconds an answer is good for
PROBED: Final = "python:3.13-alpine"  # any official image would do


def resolve_source(setting: str, *, cache: Path | None = None, clock: Callable[[], float] = time.time) -> Source:
    """
    Turn the setting `auto`, `registry` or `packages` into the source to use.

    Args:
        setting: `auto` asks the engine whether its registry answers within 2 s, and remembers for 15 minutes.
        cache: Directory that remembers; None is the user's cache directory.
        clock: Seconds since the epoch.

    Raises:
        UsageError: If the setting is none of the three.
    """
    if setting in {"registry", "packages"}:
        return cast("Source", setting)
    if setting != "auto":
        raise UsageError(f"the image source must be auto, registry or packages, got {setting!r}")
    file = (cache or cache_directory()) / "source.json"
    known = _remembered(file, clock())
    if known is None:
        known = "registry" if registry_digest(PROBED, deadline=REGISTRY_DEADLINE) else "packages"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"source": known, "at": clock()}), encoding="utf-8")
    return known


def cache_directory() -> Path:
    """Return the directory of downloads and locks: `stackyard` in the user's cache directory."""
    from platformdirs import user_cache_path

    return user_cache_path("stackyard")


def _remembered(file: Path, now: float) -> Source | None:
    try:
        row = json_text.read(file.read_bytes())
        source, fresh = row["source"], 0 <= now - row["at"] < KEPT
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return source if fresh and source in {"registry", "packages"} else None

"""The version of the Compose plugin, which Compose notes on everything it makes; asked once for each plugin file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util import files, json_text, process
from stackyard.docker.endpoint import version_tuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTE: Final = "compose-plugin.json"  # in the state directory
DEADLINE: Final = 10.0  # seconds that the plugin may take to tell its version
# Where Docker's packages and people put the plugin; the docker command takes the first.
PLACES: Final = (
    "~/.docker/cli-plugins", "/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins",
)  # fmt: skip


def file(places: Sequence[str]) -> Path | None:
    """Return the plugin's file; None if it is in none of *places*."""
    found = (path for place in places if (path := Path(place, "docker-compose").expanduser()).exists())
    return next(found, None)


def version(folder: Path, *, places: tuple[str, ...] = PLACES) -> str:
    """
    Return the plugin's version as labels have it, for example 2.26.1 of 2.26.1-4; empty where it cannot be known.

    Args:
        folder: Where it is noted between runs.
        places: Folders where the plugin may be.
    """
    plugin = file(places)
    if plugin is None:
        return _asked()
    seen = plugin.stat()
    key = f"{plugin} {seen.st_size} {seen.st_mtime_ns}"
    known = _noted(folder / NOTE)
    if known.get("plugin") != key or not known.get("version"):
        known = {"plugin": key, "version": _asked()}
        with contextlib.suppress(OSError):  # a full disk costs the time saved, not the start
            files.write(folder / NOTE, json.dumps(known).encode())
    return str(known["version"])


def _noted(path: Path) -> Mapping[str, object]:
    try:
        found = json_text.read(files.read(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _asked() -> str:
    done = process.run(["docker", "compose", "version", "--short"], deadline=DEADLINE, check=False)
    return ".".join(map(str, version_tuple(done.stdout))) if done.returncode == 0 else ""

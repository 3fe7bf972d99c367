"""
The images of a project's services with a `build`: made once for all copies of a checkout, before any of them starts.

Each checkout has tags of its own, so no checkout replaces the image of another. A copy names the image's id, so a later
build changes nothing under it. A build is left out while nothing that it reads has changed: a digest of the service's
`build` section and of every file's name, size and time of its contexts is kept beside the image's id.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files, process, state_directory
from stackyard.errors import CommandError, ImageError
from stackyard.project import copies_of
from stackyard.stacks.narration import reminding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stackyard.project import Project
    from stackyard.settings import Settings

DEADLINE: Final = 3600.0  # seconds for all builds of a project
SKIPPED: Final = frozenset({".git"})  # folders that no digest reads
ALWAYS: Final = frozenset({"build", "always"})  # pull policies that ask for a new build each time


def build(
    project: Project, usual: Mapping[str, Any], owner: str, settings: Settings, progress: Callable[[str], None]
) -> dict[str, str]:
    """
    Build what has changed, and return the image's id for each service with a `build`.

    Args:
        project: The project.
        usual: Its rendered model.
        owner: The checkout's own name for the project; the tags carry it.
        settings: Where the digests are kept.
        progress: Is given a line before a build.

    Raises:
        ImageError: If a build fails; the text has the last lines.
    """
    built = {name: service for name, service in usual["services"].items() if service.get("build")}
    if not built:
        return {}
    with _alone(settings, owner) as notes:
        known = _known(notes)
        keys = {name: _key(service) for name, service in built.items()}
        found = {name: known[key] for name, key in keys.items() if key and _exists(known.get(key, ""))}
        if todo := sorted(set(built) - set(found)):
            progress(f"building {', '.join(todo)}")
            with reminding(progress, "building"):
                found |= _build(project, usual, owner, notes.parent, keys, todo)
        files.write(notes, json.dumps({key: found[name] for name, key in keys.items() if key}).encode())
    return found


def unbuilt(usual: Mapping[str, Any], owner: str, settings: Settings) -> list[str]:
    """
    Return the services whose image a start has to build; nothing is written.

    Args:
        usual: The project's rendered model.
        owner: The checkout's own name for the project.
        settings: Where the digests are kept.
    """
    known = _known(settings.state_dir / "builds" / f"{owner}.json")
    built = {
        name: service for name, service in usual["services"].items() if service.get("build") and copies_of(service)
    }
    return sorted(name for name, service in built.items() if not _exists(known.get(_key(service), "")))


@contextlib.contextmanager
def _alone(settings: Settings, owner: str) -> Iterator[Path]:
    """Let one process at a time build for a checkout; give the block the file of its digests."""
    from filelock import FileLock

    state_directory.prepare(settings.state_dir)
    folder = settings.state_dir / "builds"
    files.make_folder(folder)
    with FileLock(folder / f"{owner}.lock", mode=0o600):
        yield folder / f"{owner}.json"


def _known(notes: Path) -> dict[str, str]:
    try:
        found = json.loads(files.read(notes))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _exists(image: str) -> bool:
    return bool(image) and _id(image) == image


def _id(image: str) -> str:
    """Return the id of an image; empty if there is none."""
    words = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
    done = process.run(words, deadline=30.0, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _build(
    project: Project, usual: Mapping[str, Any], owner: str, folder: Path, keys: Mapping[str, str], todo: list[str]
) -> dict[str, str]:
    """Build the services *todo*; equal ones once."""
    first: dict[str, str] = {}
    for name in todo:
        first.setdefault(keys[name] or name, name)
    chosen = sorted(first.values())
    services = {name: {**usual["services"][name], "image": tag(owner, name), "depends_on": {}} for name in chosen}
    for service in services.values():
        service.pop("profiles", None)
    model = folder / f"{owner}.model.json"
    files.write(model, json.dumps({**usual, "services": services}).encode())
    home = str(project.home)
    words = ["docker", "compose", "--project-name", owner, "--project-directory", home, "--file", str(model)]
    try:
        process.run([*words, "build", "--quiet", *chosen], deadline=DEADLINE, env=project.environment, cwd=project.home)
    except CommandError as error:
        raise ImageError(f"{', '.join(todo)}: the build failed: {_tail(error)}") from None
    finally:
        model.unlink(missing_ok=True)
    return {name: _id(tag(owner, first[keys[name] or name])) for name in todo}


def _tail(error: CommandError) -> str:
    return "\n  ".join(error.lines[-12:]) or str(error)


def tag(owner: str, service: str) -> str:
    """Return the tag under which a checkout keeps the image of *service*."""
    return f"stackyard-copy/{owner}:{re.sub(r'[^A-Za-z0-9_.-]', '_', service)}"


def _key(service: Mapping[str, Any]) -> str:
    """Return a digest of what a build reads; empty if it has to run each time."""
    section = service["build"]
    contexts = [str(section.get("context") or "."), *map(str, (section.get("additional_contexts") or {}).values())]
    local = all(Path(context).is_dir() for context in contexts)
    if not local or section.get("no_cache") or section.get("pull") or service.get("pull_policy") in ALWAYS:
        return ""
    digest = hashlib.sha256(json.dumps(section, sort_keys=True).encode())
    for context in contexts:
        for line in _entries(Path(context)):
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _entries(context: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(context):
        folders[:] = sorted(set(folders) - SKIPPED)
        for name in sorted(names):
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                seen = path.lstat()
                yield f"{path}\0{seen.st_size}\0{seen.st_mtime_ns}\0{seen.st_mode}\n"

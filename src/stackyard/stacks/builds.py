"""
The images of a project's services with a `build`: built once for all copies of a checkout, before a copy starts.

Each checkout and each lease book has names of its own (`ownership.Build`), so none replaces the image of another. A
copy names the image's id, so a later build changes nothing under it. A build is left out while nothing that it reads
has changed: a digest of the service's `build` section and of every file's name, size and time of its contexts is kept
next to the image's id.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files, json_text, process
from stackyard._util.failpoints import reach
from stackyard._util.interrupts import reported
from stackyard.docker.ownership import Build
from stackyard.errors import CommandError, ImageError
from stackyard.project import copies_of
from stackyard.stacks.readiness.progress_lines import reminding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook
    from stackyard.project import Project
    from stackyard.settings import Settings

DEADLINE: Final = 3600.0  # seconds for all builds of a project
SKIPPED: Final = frozenset({".git"})  # folders that no digest reads
ALWAYS: Final = frozenset({"build", "always"})  # pull policies that ask for a new build each time


@contextlib.contextmanager
def built(
    project: Project,
    usual: Mapping[str, Any],
    owner: str,
    book: LeaseBook,
    engine: Engine,
    progress: Callable[[str], None],
) -> Iterator[dict[str, str]]:
    """
    Build what has changed, and give the block the image's id for each service with a `build`.

    No clean-up removes images of the project until the block ends, and with it the copy's start. After a build, images
    that it replaced are removed unless a copy needs them.

    Args:
        project: The project.
        usual: Its rendered model.
        owner: The checkout's own name for the project; the images carry it.
        book: Whose copies need images; the digests are kept in its state directory.
        engine: Where the images are.
        progress: Called with a line before a build.

    Raises:
        ImageError: If a build fails; the text has the last lines.
        EngineError: If the engine does not answer.
    """
    services = {name: service for name, service in usual["services"].items() if service.get("build")}
    if not services:
        yield {}
        return
    from stackyard.images import holds
    from stackyard.stacks import unused_images

    with holds.hold(book.settings, owner) as hold:
        hold.share()
        with _alone(book.settings, owner) as notes:
            work = _Work(project, usual, owner, book, engine, notes)
            found, any_built = work.run(services, progress)
            if any_built:
                unused_images.clear(book, engine, owner, hold, found.values())
        reach("build")
        yield found


def unbuilt(usual: Mapping[str, Any], owner: str, settings: Settings, engine: Engine) -> list[str]:
    """
    Return the services whose image a start has to build; nothing is written.

    Args:
        usual: The project's rendered model.
        owner: The checkout's own name for the project.
        settings: Where the digests are kept.
        engine: Where the images are.

    Raises:
        EngineError: If the engine does not answer.
    """
    from stackyard.images import copy_images, holds

    known = _known(settings.state_dir / holds.FOLDER / f"{owner}.json")
    built = {name: spec for name, spec in usual["services"].items() if spec.get("build") and copies_of(spec)}
    return sorted(name for name, spec in built.items() if not copy_images.exists(engine, known.get(_key(spec), "")))


@contextlib.contextmanager
def _alone(settings: Settings, owner: str) -> Iterator[Path]:
    """Let one process at a time build for a checkout; give the block the file of its digests."""
    from filelock import FileLock

    from stackyard.images import holds

    folder = settings.state_dir / holds.FOLDER
    with FileLock(folder / f"{owner}.lock", mode=0o600):
        yield folder / f"{owner}.json"


def _known(notes: Path) -> dict[str, str]:
    try:
        found = json_text.read(files.read(notes))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class _Work:
    """The builds of one start."""

    project: Project
    usual: Mapping[str, Any]
    owner: str
    book: LeaseBook
    engine: Engine
    notes: Path

    def run(self, services: Mapping[str, Any], progress: Callable[[str], None]) -> tuple[dict[str, str], bool]:
        """Build what has changed; return all images' ids by service, and whether there was anything to build."""
        keys = {name: _key(service) for name, service in services.items()}
        first: dict[str, str] = {}  # equal services share one image, under the name of the first
        for name in sorted(services):
            first.setdefault(keys[name] or name, name)
        known = _known(self.notes)
        found = {key: image for key in first if (image := self._take(first[key], known.get(key, "")))}
        if todo := sorted(first[key] for key in first if key not in found):
            listed = ", ".join(name for name in sorted(services) if (keys[name] or name) not in found)
            progress(f"building {listed}")
            with reminding(progress, "building"), reported(progress, f"building {listed}"):
                found |= {keys[name] or name: image for name, image in self._build(todo).items()}
        files.write(self.notes, json.dumps({key: found[key] for key in keys.values() if key}).encode())
        return {name: found[keys[name] or name] for name in services}, bool(todo)

    def _of(self, service: str) -> Build:
        return Build(host=self.book.host, project=self.owner, service=service)

    def _take(self, service: str, image: str) -> str:
        """Return the id of an image that is there, and note its use; empty if there is none."""
        from stackyard.images import copy_images

        answer = copy_images.exists(self.engine, image)
        if answer is None:
            return ""
        copy_images.note_use(self.engine, self._of(service), answer, keep=self.book.settings.keep_images)
        return image

    def _build(self, todo: list[str]) -> dict[str, str]:
        """Build the services *todo*; return their images' ids."""
        from stackyard.images import copy_images

        builds = {name: self._of(name) for name in todo}
        for build in builds.values():
            copy_images.keep_name(self.engine, build)
        model = {**self.usual, "services": {name: self._service(build) for name, build in builds.items()}}
        home = str(self.project.home)
        words = ["docker", "compose", "--project-name", self.owner, "--project-directory", home, "--file", "-"]
        try:
            with tempfile.TemporaryDirectory() as left:  # buildx leaves Dockerfiles written inside Compose files there
                process.run(
                    [*words, "build", "--quiet", *todo], deadline=DEADLINE, cwd=self.project.home,
                    env={**self.project.environment, "TMPDIR": left}, stdin=json.dumps(model),
                )  # fmt: skip
        except CommandError as error:
            raise ImageError(f"{', '.join(todo)}: the build failed: {_tail(error)}") from None
        return {name: self._id(build) for name, build in builds.items()}

    def _service(self, build: Build) -> dict[str, Any]:
        """Return what a build reads of a service, none of what ties it to others; tags of the file's are not given."""
        service = self.usual["services"][build.service]
        section = {key: value for key, value in service["build"].items() if key != "tags"}
        labels = {**(section.get("labels") or {}), **build.labels}
        platform = {"platform": service["platform"]} if service.get("platform") else {}
        return {**platform, "image": build.name, "build": section | {"labels": labels}}

    def _id(self, build: Build) -> str:
        from stackyard.images import copy_images

        answer = copy_images.exists(self.engine, build.name)
        if answer is None:
            raise ImageError(f"{build.service}: the build ended, but image {build.name} is not on this engine")
        return str(answer["Id"])


def _tail(error: CommandError) -> str:
    return "\n  ".join(error.lines[-12:]) or str(error)


def _key(service: Mapping[str, Any]) -> str:
    """Return a digest of what a build reads; empty if it has to run each time."""
    section = service["build"]
    contexts = [str(section.get("context") or "."), *map(str, (section.get("additional_contexts") or {}).values())]
    local = all(files.exists(path) and path.is_dir() for path in map(Path, contexts))
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

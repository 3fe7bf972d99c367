"""The engine's images: list, tag, remove through its API; build, import and pull through the `docker` command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import process
from stackyard.docker.engine import API_VERSION, Engine, gone_is_fine, plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.time_limit import allowing
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

BUILD_DEADLINE: Final = 1200.0  # seconds for one image
IMPORT_DEADLINE: Final = 120.0  # seconds
EXPORT_DEADLINE: Final = 120.0  # seconds for one image
REMOVAL: Final = 6.0  # seconds that the removal of one image may take before it counts as slow
MEASUREMENT: Final = 3.0  # seconds that it may take to read the size of every layer before it counts as slow


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineImage:
    """
    One image as the engine lists it.

    Attributes:
        id: The engine's id, `sha256:…`.
        references: Its names, `repository:tag` each.
        labels: Its labels.
        size: Bytes of all its layers, uncompressed.
        created: When it was built, in seconds since the epoch.
        shared: Bytes of the layers that other images have too; 0 if not from *disk_use*.
        containers: How many use it, running or not; 0 if not from *disk_use*.
    """

    id: str
    references: tuple[str, ...]
    labels: Mapping[str, str]
    size: int
    created: float
    shared: int = 0
    containers: int = 0


def labelled(engine: Engine, label: str) -> list[EngineImage]:
    """
    List the images that carry *label* (`key` or `key=value`): one call to the engine.

    Raises:
        EngineError: If the engine does not answer.
    """
    with plain_errors("listing images"):
        return [_image(row) for row in Part(engine.api.images(filters={"label": label})).items()]


def disk_use(engine: Engine) -> tuple[int, list[EngineImage]]:
    """
    Return the bytes that all layers take, each counted once, and every image with what it shares.

    Raises:
        EngineError: If the engine does not answer.
    """
    with plain_errors("measuring the images"), allowing(extra=MEASUREMENT):
        # the library asks for volumes too, and the engine then reads every file in them
        answer = engine.api.get(f"{engine.api.base_url}/v{API_VERSION}/system/df", params={"type": "image"})
        content = Part(answer.json())
        return content.whole("LayersSize"), [_image(row) for row in content.get("Images").items()]


def used(engine: Engine) -> set[str]:
    """
    Return the ids of the images that containers use, running or not: one call to the engine.

    Raises:
        EngineError: If the engine does not answer.
    """
    with plain_errors("listing containers"):
        return {row.text("ImageID") for row in Part(engine.api.containers(all=True)).items()}


def tag(engine: Engine, reference: str, alias: str) -> None:
    """
    Give the image *reference* the further name *alias* (`repository:tag`).

    Raises:
        EngineError: If the engine does not answer or has no such image.
    """
    repository, _, name = alias.rpartition(":")
    with plain_errors(f"tagging {reference} as {alias}", changes=True):
        engine.api.tag(reference, repository, name, force=True)


def untag(engine: Engine, reference: str) -> None:
    """
    Take one name off an image, or remove one by its id; the last name takes the image along. Already gone is success.

    Raises:
        EngineError: If the engine does not answer, or a container uses the image.
    """
    doing = plain_errors(f"removing image {reference}", changes=True)
    with doing, allowing(extra=REMOVAL), gone_is_fine():
        engine.api.remove_image(reference)


def export(engine: Engine, reference: str) -> Iterator[bytes]:
    """
    Stream one image as the archive `docker save` writes.

    Raises:
        EngineError: If the engine does not answer, has no such image, or falls silent.
    """
    with plain_errors(f"reading image {reference}"):
        with allowing(alone=EXPORT_DEADLINE):
            pieces = engine.api.get_image(reference)
        yield from pieces


def architecture(engine: Engine) -> str:
    """
    Return the processor the engine's containers run on, in its own words: amd64, arm64.

    Raises:
        EngineError: If the engine does not answer.
    """
    with plain_errors("asking the engine's architecture"):
        return Part(engine.api.version(api_version=False)).text("Arch")


def registry_digest(reference: str, *, deadline: float) -> str | None:
    """Ask the engine which digest its registry holds for *reference*; None without an answer in *deadline* seconds."""
    try:
        with Engine(deadline=deadline) as engine, plain_errors(f"asking the registry for {reference}"):
            api: Any = engine.api  # the type stubs leave this call untyped
            return Part(api.inspect_distribution(reference)).get("Descriptor").text("digest")
    except EngineError:
        return None


async def pull(reference: str, *, platform: str = "") -> None:
    """
    Let the engine pull one image by its name or digest, with the mirrors and credentials it is configured for.

    Cancelling ends the pull.

    Args:
        reference: Name or digest.
        platform: Such as ``linux/arm64``; empty for the engine's own.

    Raises:
        CommandError: If it cannot, or takes longer than 20 minutes.
    """
    chosen = ["--platform", platform] if platform else []
    await process.run_async(["docker", "pull", "--quiet", *chosen, reference], deadline=BUILD_DEADLINE)


def push(reference: str) -> None:
    """
    Let the engine push one image, with the credentials of the docker command.

    Raises:
        CommandError: If it cannot, or takes longer than 20 minutes.
    """
    process.run(["docker", "push", "--quiet", reference], deadline=BUILD_DEADLINE)


def build(
    reference: str,
    *,
    dockerfile: Path,
    context: Path,
    arguments: Mapping[str, str],
    labels: Mapping[str, str],
    contexts: Mapping[str, Path],
    on_line: Callable[[str], None],
) -> bool:
    """
    Build one image; its name appears only when all of it succeeded.

    Args:
        reference: The name to give.
        dockerfile: Its Dockerfile.
        context: Directory COPY reads from.
        arguments: Build arguments.
        labels: Labels to give.
        contexts: Directories for further contexts, by name.
        on_line: Gets each line of the build's output.

    Returns:
        True when it was built.

    Raises:
        CommandError: If `docker` is missing or ran past its deadline of 20 minutes.
    """
    words = ["docker", "build", "--progress=plain", "--provenance=false", "--tag", reference, "--file", str(dockerfile)]
    words += [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    words += [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    words += [word for key, path in contexts.items() for word in ("--build-context", f"{key}={path}")]
    done = process.stream(
        [*words, str(context)], deadline=BUILD_DEADLINE, on_line=on_line, env={"DOCKER_BUILDKIT": "1"}
    )
    return done.returncode == 0


def import_root(tar: Path, reference: str, labels: Mapping[str, str]) -> None:
    """
    Make an image of one layer from a root file system's tar.

    Raises:
        CommandError: If the engine refuses.
    """
    changes = [word for key, value in labels.items() for word in ("--change", f"LABEL {key}={value}")]
    process.run(["docker", "import", *changes, str(tar), reference], deadline=IMPORT_DEADLINE)


def _image(row: Part) -> EngineImage:
    return EngineImage(
        id=row.text("Id"), references=row.get("RepoTags").words(), labels=row.get("Labels").texts(),
        size=row.whole("Size"), created=float(row.whole("Created")), shared=max(row.whole("SharedSize", 0), 0),
        containers=max(row.whole("Containers", 0), 0),
    )  # fmt: skip

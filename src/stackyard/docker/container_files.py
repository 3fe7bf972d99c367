"""The files in a container's folders. The engine reads and writes them as archives; the image needs no program."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import tarfile
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from stackyard._util import files
from stackyard.docker.engine import plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.time_limit import allowing
from stackyard.errors import RefusedError, StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping
    from pathlib import Path

    from stackyard.docker.engine import Engine

LONGEST: Final = 600.0  # seconds that one archive may take
PIECE: Final = 1 << 20  # bytes of an archive that are read at once
JOINED: Final = "container:"  # begins the namespace of another container, by its id
# seconds between the tries to freeze: on a busy host the kernel's freezer gives up, and the runtime does not try again
RESTS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
NAMESPACES: Final = ("NetworkMode", "PidMode", "IpcMode")


def save(engine: Engine, container: str, path: str, file: Path, *, without: Collection[str] = ()) -> str:
    """
    Write what stands at *path* of a container to *file*, as a tar archive; zeros become holes, a link is replaced.

    Args:
        engine: Where the container is.
        container: Its name.
        path: A file, or a folder and ``/.``.
        file: The archive.
        without: Paths in the folder, relative to it; what stands at or below one of them is left out.

    Returns:
        The SHA-256 of the archive, as `checksum` returns it.

    Raises:
        RefusedError: If there is no such path.
        StackyardError: If the file cannot be written, as on a full disk.
        EngineError: If the engine does not answer.
    """
    digest = _store(file, _pieces(engine, container, path))
    try:
        return _store(file, _kept(file, without)) if without else digest
    except tarfile.TarError as error:
        raise StackyardError(f"{file} cannot be read as an archive: {error}") from None


def _store(file: Path, pieces: Generator[bytes]) -> str:
    """Write *pieces* to *file*; return their SHA-256."""
    digest = hashlib.sha256()
    with _writing(file), files.replacing(file) as handle, contextlib.closing(pieces) as found:
        for piece in found:
            _write(handle, piece)
            digest.update(piece)
        os.ftruncate(handle, os.lseek(handle, 0, os.SEEK_CUR))
    return digest.hexdigest()


def checksum(file: Path) -> str:
    """
    Return the SHA-256 of an archive in small hexadecimal digits.

    Raises:
        OSError: If it is missing, cannot be read, or is anything but a plain file.
    """
    with os.fdopen(files.open_plain(file, os.O_RDONLY), "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _pieces(engine: Engine, container: str, path: str) -> Generator[bytes]:
    with plain_errors(f"reading {path} of container {container[:80]}"), allowing(quiet=True):
        pieces, _ = engine.api.get_archive(container, path)
        yield from pieces


def _kept(file: Path, without: Collection[str]) -> Generator[bytes]:
    """Give the archive *file* without what stands at or below one of the paths *without*."""
    end = 0
    with tarfile.open(file, "r:") as archive, file.open("rb") as opened:
        while entry := archive.next():
            archive.members = []  # type: ignore[attr-defined]  # there may be a million
            begin, end = end, archive.offset
            if not any(map(PurePosixPath(entry.name).is_relative_to, without)):
                yield from _read(opened, begin, end)
        yield from _read(opened, end, file.stat().st_size)


def _read(opened: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    opened.seek(begin)
    for place in range(begin, end, PIECE):
        yield opened.read(min(PIECE, end - place))


def _write(handle: int, piece: bytes) -> None:
    """Write *piece*; a hole if it is all zeros: databases keep files that are far larger than what is in them."""
    if piece.count(0) == len(piece):
        os.lseek(handle, len(piece), os.SEEK_CUR)
        return
    left = memoryview(piece)
    while left:
        left = left[os.write(handle, left) :]


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Say what this host's disk refused, which `plain_errors` would take for a silent engine."""
    try:
        yield
    except OSError as error:
        raise StackyardError(f"{file} cannot be written: {error.strerror or error}; {files.MAKE_ROOM}") from None


def restore(engine: Engine, container: str, path: str, file: Path) -> None:
    """
    Unpack *file*, a tar archive, in the folder *path* of a container, which gets its owner and mode back, too.

    Raises:
        StackyardError: If the file cannot be read, or is no archive.
        EngineError: If the engine refuses or does not answer.
    """
    try:
        first, opened = _root(file, path), file.open("rb")
    except (OSError, tarfile.TarError) as error:
        raise StackyardError(f"{file} cannot be read as an archive: {error}") from None
    doing = f"writing {path} of container {container[:80]}"
    # a file gives lines, and what has no line breaks, such as a hole, would be one piece of any size
    with opened as archive, plain_errors(doing, changes=True), allowing(alone=LONGEST):
        pieces = _read(archive, 0, file.stat().st_size)
        engine.api.put_archive(container, path, itertools.chain(first, pieces))


def _root(file: Path, path: str) -> list[bytes]:
    """
    Give an entry for the folder *path* itself, if *file* has one.

    The engine leaves out an entry named ``.``. By this name it finds the same folder, and none outside of it, which
    could be read-only.
    """
    with tarfile.open(file, "r:") as archive:
        entry = archive.next()
    if entry and entry.isdir() and entry.name == ".":
        entry.name = f"../{path.rpartition('/')[2]}"
        return [entry.tobuf(tarfile.PAX_FORMAT)]
    return []


@contextlib.contextmanager
def paused(engine: Engine, container: str) -> Iterator[None]:
    """Let no process of a running container do anything for a `with` block."""
    pause(engine, container)
    try:
        yield
    finally:
        unpause(engine, container)


def unpause(engine: Engine, container: str) -> None:
    """
    Let the processes of a paused container go on.

    Raises:
        EngineError: If the engine refuses or does not answer.
    """
    with plain_errors(f"unpausing container {container[:80]}", changes=True):
        engine.api.unpause(container)


def pause(engine: Engine, container: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """
    Pause a running container; one that the kernel cannot freeze in this instant is tried again for six seconds.

    Raises:
        RefusedError: If the engine refuses for another reason, or the container cannot be frozen.
        EngineError: If it does not answer.
    """
    for rest in (*RESTS, None):
        try:
            with plain_errors(f"pausing container {container[:80]}", changes=True):
                engine.api.pause(container)
        except RefusedError as error:
            if rest is None or "unable to freeze" not in str(error):
                raise
            sleep(rest)
        else:
            return


def inspected(engine: Engine, container: str) -> Mapping[str, Any]:
    """
    Return what the engine says of a container.

    Raises:
        EngineError: If the engine does not answer.
    """
    with plain_errors(f"inspecting container {container[:80]}"):
        found: Mapping[str, Any] = engine.api.inspect_container(container)
        return found


def volume(engine: Engine, name: str) -> Mapping[str, Any] | None:
    """
    Return what the engine says of a volume; None if there is none of this name.

    Raises:
        EngineError: If the engine does not answer.
    """
    try:
        with plain_errors(f"inspecting volume {name[:60]}"):
            found: Mapping[str, Any] = engine.api.inspect_volume(name)
            return found
    except RefusedError:
        return None


def users(engine: Engine, volume: str) -> dict[str, str]:
    """
    Return the names of the containers that have a volume, running or not, by their ids.

    Raises:
        EngineError: If the engine does not answer.
    """
    with plain_errors(f"listing the containers that use volume {volume[:60]}"):
        rows = Part(engine.api.containers(all=True, filters={"volume": volume})).items()
        return {row.text("Id"): row.get("Names").words()[0].lstrip("/") for row in rows}


def rename(engine: Engine, container: str, name: str) -> None:
    """
    Give a container another name.

    Raises:
        EngineError: If the engine refuses or does not answer.
    """
    with plain_errors(f"renaming container {container[:80]} to {name}", changes=True):
        engine.api.rename(container, name)


def joined(answer: Mapping[str, Any]) -> list[str]:
    """Return the ids of the containers whose namespaces or volumes a container shares, from its inspection."""
    host = Part(answer).get("HostConfig")
    found = [mode.removeprefix(JOINED) for key in NAMESPACES if (mode := host.text(key, "")).startswith(JOINED)]
    return [*found, *(word.partition(":")[0] for word in host.get("VolumesFrom").words())]


def body(answer: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the request that makes a container again, from its inspection.

    Args:
        answer: What the engine says of it.
        names: Names of containers by their ids; other containers are referred to by name, because ids change.
    """
    identity, config, host = str(answer["Id"])[:12], dict(answer["Config"]), dict(answer["HostConfig"])
    if config.get("Hostname") == identity:
        config.pop("Hostname")
    config.pop("MacAddress", None)
    for key in NAMESPACES:
        if (mode := str(host.get(key) or "")).startswith(JOINED):
            host[key] = JOINED + names.get(mode.removeprefix(JOINED), mode.removeprefix(JOINED))
    host["VolumesFrom"] = [_named(word, names) for word in host.get("VolumesFrom") or ()]
    if str(host.get("NetworkMode")).startswith(JOINED):
        return {**{key: value for key, value in config.items() if key not in {"Hostname", "ExposedPorts"}},
                "HostConfig": host}  # fmt: skip
    ends = {
        network: {
            **{key: end[key] for key in ("IPAMConfig", "Links", "DriverOpts") if end.get(key)},
            "Aliases": [alias for alias in end.get("Aliases") or () if alias != identity],
        }
        for network, end in (answer["NetworkSettings"].get("Networks") or {}).items()
    }  # fmt: skip
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": ends}}


def not_filled(body: Mapping[str, Any], paths: Collection[str]) -> dict[str, Any]:
    """
    Return the request *body* with volumes at *paths* that do not begin with what the image has there.

    The engine copies that into each empty volume, so what a service had removed from its volume would come back.
    """
    host = dict(body["HostConfig"])
    if mounts := [*(host.get("Mounts") or ()), *_anonymous(body, host, paths)]:
        host["Mounts"] = [_uncopied(mount) if mount["Target"] in paths else mount for mount in mounts]
    if binds := host.get("Binds"):
        host["Binds"] = [_uncopied_bind(bind, paths) for bind in binds]
    return {**body, "HostConfig": host}


def _anonymous(body: Mapping[str, Any], host: Mapping[str, Any], paths: Collection[str]) -> list[dict[str, Any]]:
    """Return mounts for the volumes that only the image declares."""
    given = {mount["Target"] for mount in host.get("Mounts") or ()}
    given |= {bind.split(":")[1] for bind in host.get("Binds") or ()}
    return [{"Type": "volume", "Target": path} for path in body.get("Volumes") or () if path in {*paths} - given]


def _uncopied(mount: Mapping[str, Any]) -> dict[str, Any]:
    if mount["Type"] != "volume":
        return {**mount}
    return {**mount, "VolumeOptions": {**(mount.get("VolumeOptions") or {}), "NoCopy": True}}


def _uncopied_bind(bind: str, paths: Collection[str]) -> str:
    source, path, *options = bind.split(":")
    if path not in paths or source.startswith("/"):
        return bind
    words = [word for word in ",".join(options).split(",") if word and word != "nocopy"]
    return ":".join([source, path, ",".join([*words, "nocopy"])])


def _named(word: str, names: Mapping[str, str]) -> str:
    identity, colon, mode = word.partition(":")
    return f"{names.get(identity, identity)}{colon}{mode}"

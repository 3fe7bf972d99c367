"""The files that services read: configs and secrets of the Swarm carry them to its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files
from stackyard.docker.fast_start.mounts import READABLE, file_mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGEST: Final = 500 << 10  # bytes of one file; what the Swarm's own store takes of a secret
MOST: Final = 64  # files of one folder; each is an object of the Swarm's own store


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """
    One file that containers of a service read.

    Attributes:
        kind: config or secret.
        target: Its path in the container.
        content: What it holds.
        mode: Its mode in the container.
        uid: Its owner there.
        gid: Its group there.
    """

    kind: str
    target: str
    content: bytes
    mode: int = READABLE
    uid: str = "0"
    gid: str = "0"


class UnfitError(Exception):
    """A file cannot travel; the text says why."""


def bound(mount: Mapping[str, Any]) -> list[File]:
    """
    Return the files of one read-only bind mount.

    Args:
        mount: As the rendered model has it.

    Raises:
        UnfitError: If it can be written to, is missing, is no file or folder, or is too large.
    """
    source, target = Path(str(mount["source"])), str(mount["target"])
    if source.is_socket():
        raise UnfitError("a socket of this host is not on the nodes")
    if not mount.get("read_only"):
        raise UnfitError("a container cannot write into this host's files; add ':ro', or use a volume")
    try:
        if source.is_file():
            return [_file(source, target)]
        if source.is_dir():
            return list(_folder(source, target))
    except OSError as error:
        raise UnfitError(f"{source}: {error.strerror or error}") from None
    raise UnfitError(f"{source} is no file or folder of this host")


def _folder(source: Path, target: str) -> Iterator[File]:
    found = sorted(path for path in source.rglob("*") if path.is_file())
    if len(found) > MOST:
        raise UnfitError(f"the folder has {len(found)} files, and at most {MOST} travel; put them into the image")
    for path in found:
        yield _file(path, f"{target.rstrip('/')}/{path.relative_to(source).as_posix()}")


def _file(path: Path, target: str) -> File:
    seen = path.stat()
    if seen.st_size > LARGEST:
        raise UnfitError(f"{path} has {seen.st_size >> 10} KiB, and at most {LARGEST >> 10} KiB travel")
    return File(kind="config", target=target, content=path.read_bytes(), mode=seen.st_mode & 0o777)


def named(
    kind: str, entry: Mapping[str, Any], described: Mapping[str, Any], variables: Mapping[str, str]
) -> File:  # fmt: skip
    """
    Return one entry of a service's `secrets` or `configs`.

    Args:
        kind: config or secret.
        entry: The service's entry.
        described: What the top level of the model says of it.
        variables: The caller's variables.

    Raises:
        UnfitError: If it is external, or its content is not to be had.
    """
    usual = f"/run/secrets/{entry['source']}" if kind == "secret" else f"/{entry['source']}"
    target = str(entry.get("target") or usual)
    if not target.startswith("/"):
        target = f"/run/secrets/{target}" if kind == "secret" else f"/{target}"
    return File(
        kind=kind, target=target, content=_content(described, variables), uid=str(entry.get("uid") or 0),
        gid=str(entry.get("gid") or 0), mode=file_mode(entry.get("mode")),
    )  # fmt: skip


def _content(described: Mapping[str, Any], variables: Mapping[str, str]) -> bytes:
    if described.get("external"):
        raise UnfitError("it is external, and copies share nothing; give its file or content")
    if "content" in described:
        return str(described["content"]).encode()
    if variable := described.get("environment"):
        if variable not in variables:
            raise UnfitError(f"variable {variable} is not set")
        return variables[variable].encode()
    path = Path(str(described.get("file") or ""))
    if fault := files.fault(path.parent, path.name):
        raise UnfitError(f"{path}: {fault}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnfitError(f"{path}: {error.strerror or error}") from None
    if len(content) > LARGEST:
        raise UnfitError(f"{path} has {len(content) >> 10} KiB, and at most {LARGEST >> 10} KiB travel")
    return content

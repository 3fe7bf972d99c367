"""
An image's files, read from the archive `docker save` writes, without starting a container.

The stream is read once: the layers lie in it as tar files of their own and are read as they go by; nothing is written
to disk and only what a check looks at (small texts, headers of programs) is kept. The manifest, at the end, tells their
order; then upper layers cover lower ones as the engine would lay them.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import tarfile
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from stackyard._util import json_text
from stackyard.checks.binaries import MAGIC, Binary
from stackyard.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Kind = Literal["file", "directory", "link", "other"]

JSON_LIMIT: Final = 4 * 1024 * 1024  # bytes; configurations are a few thousand
TEXT_LIMIT: Final = 8 * 1024 * 1024  # bytes; dpkg's database of a large image is 3 MB
KEPT: Final = re.compile(
    r"etc/(os-release|passwd|apk/world|ld\.so\.conf(\.d/.*)?|ld-musl-.*\.path)|usr/lib/os-release"
    r"|(usr/)?lib/apk/db/installed|var/lib/dpkg/(status|status\.d/.*)|.*\.dist-info/(METADATA|WHEEL)"
)
WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
HEAD: Final = 256  # bytes: magic numbers, and the first line of a script


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """
    One entry of an image's file system.

    Attributes:
        mode: Its permission bits.
        owner: User and group number.
        target: Where a symbolic link points.
        head: Its first 256 bytes.
        text: All of it, where a check reads it; None elsewhere.
        binary: What its ELF headers say; None for other files.
        digest: SHA-256 of a program or library, in hexadecimal; empty for other files.
    """

    kind: Kind
    mode: int = 0o755
    owner: tuple[int, int] = (0, 0)
    size: int = 0
    target: str = ""
    head: bytes = b""
    text: str | None = None
    binary: Binary | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """
    An image as the checks see it.

    Attributes:
        flavour: debian or alpine.
        files: By absolute path, the image's layers laid over each other.
        config: The `config` part of its configuration: Env, User, Cmd…
        architecture: In the engine's words.
        history: The commands that made it.
        size: Bytes of all layers, uncompressed.
        budget: Bytes it may have; None without one.
        twin: Bytes of the same service's Debian image; None where that is not known.
        engine: The engine's own architecture; empty where that is not known.
    """

    reference: str
    flavour: str
    files: Mapping[str, File]
    config: Mapping[str, Any]
    architecture: str
    history: tuple[str, ...] = ()
    size: int = 0
    budget: int | None = None
    twin: int | None = None
    engine: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """Its variables."""
        return dict(word.partition("=")[::2] for word in self.config.get("Env") or ())

    def resolve(self, path: str, *, links: int = 40) -> str | None:
        """Return where *path* leads, symbolic links on the way included; None if nothing is there."""
        done = ""
        words = [word for word in path.split("/") if word]
        while words:
            word = words.pop(0)
            if word in {".", ".."}:
                done = posixpath.dirname(done) if word == ".." else done
                done = "" if done == "/" else done
                continue
            here = self.files.get(f"{done}/{word}")
            if here is None:
                return None
            if here.kind != "link":
                done = f"{done}/{word}"
                continue
            links -= 1
            if links < 0:
                return None
            words = [part for part in here.target.split("/") if part] + words
            done = "" if here.target.startswith("/") else done
        return done or "/"

    def at(self, path: str) -> File | None:
        """Return what lies at *path*, links followed."""
        found = self.resolve(path)
        return None if found is None else self.files.get(found)

    def program(self, word: str) -> str | None:
        """Return the path a command's first word leads to: looked for in PATH unless it holds a slash."""
        if "/" in word:
            return self.resolve(posixpath.join(self.config.get("WorkingDir") or "/", word))
        folders = self.environment.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        places = (self.resolve(posixpath.join(folder, word)) for folder in folders.split(":"))
        return next((place for place in places if place is not None), None)


@dataclass(slots=True)
class _Layer:
    """One layer as read: its entries in order, and the bytes of its files."""

    entries: list[tuple[str, File]] = field(default_factory=list)
    size: int = 0


class _Chunks:
    """The engine's answer, a run of chunks, as a file that tarfile can read from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, None)) is not None:
            self._rest += chunk
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def read(chunks: Iterable[bytes], reference: str, flavour: str) -> Image:
    """
    Read one image's archive as `docker save` writes it.

    Raises:
        ImageError: If the archive is damaged or holds no image.
    """
    layers: dict[str, _Layer] = {}
    documents: dict[str, Any] = {}
    try:
        stream: Any = _Chunks(chunks)  # typeshed wants a file that can be written, too
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                if (content := archive.extractfile(member) if member.isreg() else None) is not None:
                    _sort(member, content, layers, documents)
        manifest = documents["manifest.json"][0]
        config = documents[manifest["Config"]]
        ordered = [layers[name] for name in manifest["Layers"]]
    except (tarfile.TarError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ImageError(f"{reference}: its archive cannot be read: {type(error).__name__}: {error}") from None
    return Image(
        reference=reference, flavour=flavour, files=_laid_over(ordered), config=config.get("config") or {},
        architecture=config.get("architecture", ""), size=sum(layer.size for layer in ordered),
        history=tuple(row.get("created_by", "") for row in config.get("history") or ()),
    )  # fmt: skip


def _sort(member: tarfile.TarInfo, stream: IO[bytes], layers: dict[str, _Layer], documents: dict[str, Any]) -> None:
    """Keep a member of the archive as a layer or a document; its name tells nothing, so its first bytes must."""
    buffered = io.BufferedReader(stream, 1 << 16)  # type: ignore[type-var] # an ExFileObject is one
    head = buffered.peek(2)[:2]
    if head[:1] in {b"{", b"["}:
        if member.size <= JSON_LIMIT:
            documents[member.name] = json_text.read(buffered.read())
    elif member.size >= tarfile.BLOCKSIZE or head == b"\x1f\x8b":
        layers[member.name] = _layer(buffered)


def _layer(stream: Any) -> _Layer:
    layer = _Layer()
    # `|*` reads compressed layers too, which engines with another image store write
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            path = posixpath.normpath("/" + member.name.lstrip("./")) if member.name.strip("./") else "/"
            if member.islnk():
                layer.entries.append((path, File(kind="other", target=posixpath.normpath("/" + member.linkname))))
                continue
            layer.entries.append((path, _file(member, archive.extractfile if member.isreg() else None)))
            layer.size += member.size
    return layer


def _file(member: tarfile.TarInfo, extract: Callable[[tarfile.TarInfo], IO[bytes] | None] | None) -> File:
    kind: Kind = "directory" if member.isdir() else "link" if member.issym() else "file" if member.isreg() else "other"
    head, text, binary, digest = b"", None, None, ""
    stream = extract(member) if extract else None
    if stream is not None:
        head = stream.read(HEAD)
        if head.startswith(MAGIC):
            data = head + stream.read()
            binary, digest = Binary.parse(data), hashlib.sha256(data).hexdigest()
        elif member.size <= TEXT_LIMIT and KEPT.fullmatch(member.name.lstrip("./")):
            text = (head + stream.read()).decode(errors="replace")
    return File(
        kind=kind, mode=member.mode, owner=(member.uid, member.gid), size=member.size,
        target=member.linkname if member.issym() else "", head=head, text=text, binary=binary, digest=digest,
    )  # fmt: skip


def _laid_over(layers: Iterable[_Layer]) -> dict[str, File]:
    files: dict[str, File] = {"/": File(kind="directory")}
    for layer in layers:
        below = set(files)
        for path, file in layer.entries:
            folder, name = posixpath.split(path)
            if name == OPAQUE:
                _remove(files, folder, below, keep_top=True)
            elif name.startswith(WHITEOUT):
                _remove(files, posixpath.join(folder, name.removeprefix(WHITEOUT)), below)
            else:
                if file.kind != "directory" and files.get(path, file).kind == "directory":
                    _remove(files, path, below)
                files[path] = _linked(files, file)
    return _with_folders(files)


def _with_folders(files: dict[str, File]) -> dict[str, File]:
    """Add the folders no layer names; the engine makes them as it unpacks."""
    for path in list(files):
        folder = posixpath.dirname(path)
        while folder not in files:
            files[folder] = File(kind="directory")
            folder = posixpath.dirname(folder)
    return files


def _linked(files: Mapping[str, File], file: File) -> File:
    """A hard link is the file it names; the archive holds that one's bytes before it."""
    return files.get(file.target, file) if file.kind == "other" and file.target else file


def _remove(files: dict[str, File], top: str, below: set[str], *, keep_top: bool = False) -> None:
    """Take away what lower layers brought at *top* and under it."""
    prefix = top.rstrip("/") + "/"
    for path in [path for path in files if path.startswith(prefix) or (path == top and not keep_top)]:
        if path in below:
            del files[path]

"""Whether every program and library of an image finds what it loads, and whether it uses the image's own C library."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackyard.checks.archives import File, Image
    from stackyard.checks.binaries import Binary

TRIPLES: Final = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
# musl answers for these names itself, whatever follows the dot (ldso/dynlink.c)
MUSL_OWN: Final = re.compile(r"lib(c|pthread|rt|m|dl|util|xnet)\..*")
# the loader's own files: it finds the rest and needs no one's help
LOADER: Final = re.compile(r"ld-(musl-.*|linux.*)\.so\.\d+")
GLIBC: Final = frozenset({"libc.so.6", "libpthread.so.0", "libdl.so.2", "libm.so.6", "librt.so.1"})
MANYLINUX: Final = re.compile(r"^Tag: .*-manylinux\S*$", re.MULTILINE)
GNU_MODULE: Final = re.compile(r"\.cpython-\d+-\w+-linux-gnu\.so$")


def unresolved(image: Image) -> Iterator[str]:
    """Name each program or library whose loader or libraries are missing."""
    folders = _loader_folders(image)
    names = _shared_by_path(image)
    for path, binary in binaries(image):
        if binary.damaged:
            yield f"{path}: cannot be read: {binary.damaged}"
            continue
        if binary.interpreter and image.at(binary.interpreter) is None:
            yield f"{path}: its loader {binary.interpreter} is missing"
        missing = [name for name in binary.needed if not _finds(image, path, binary, name, (*folders, *names))]
        if missing:
            yield f"{path}: {', '.join(missing)} missing"


def foreign(image: Image) -> Iterator[str]:
    """Name what was built for glibc in an image of musl."""
    for path, binary in binaries(image):
        needed = sorted(GLIBC & set(binary.needed))
        if "ld-linux" in binary.interpreter:
            yield f"{path}: asks for the loader {binary.interpreter}"
        elif needed:
            yield f"{path}: needs {', '.join(needed)} of glibc"
        elif GNU_MODULE.search(path):
            yield f"{path}: a Python module for glibc, which this interpreter does not see"
    for path, file in image.files.items():
        if path.endswith(".dist-info/WHEEL") and (match := MANYLINUX.search(file.text or "")):
            yield f"{posixpath.dirname(path)}: wheel {match.group().removeprefix('Tag: ')}"


def other_processors(image: Image) -> Iterator[str]:
    """Name programs for another processor than the image says it is for."""
    for path, binary in binaries(image):
        if binary.machine and binary.machine != image.architecture:
            yield f"{path}: built for {binary.machine}, the image says {image.architecture}"


def binaries(image: Image) -> Iterator[tuple[str, Binary]]:
    """List the ELF files by path."""
    return ((path, file.binary) for path, file in image.files.items() if file.binary is not None)


def _finds(image: Image, path: str, binary: Binary, name: str, folders: Sequence[str]) -> bool:
    if LOADER.fullmatch(name):
        return any(LOADER.fullmatch(posixpath.basename(known)) for known in image.files)
    if _is_musl(image) and MUSL_OWN.fullmatch(name):
        return True
    if "/" in name:
        return _library(image, name)
    own = [_expanded(folder, path) for folder in binary.run_path]
    return any(_library(image, posixpath.join(folder, name)) for folder in (*own, *folders))


def _library(image: Image, path: str) -> bool:
    found: File | None = image.at(path)
    return found is not None and found.binary is not None


def _expanded(folder: str, path: str) -> str:
    here = posixpath.dirname(path)
    return posixpath.normpath(folder.replace("$ORIGIN", here).replace("${ORIGIN}", here))


def _is_musl(image: Image) -> bool:
    return any(re.fullmatch(r"/lib/ld-musl-[^/]*\.so\.1", path) for path in image.files)


def _loader_folders(image: Image) -> tuple[str, ...]:
    """Where the image's loader looks: LD_LIBRARY_PATH, its configuration, and the folders built into it."""
    given = [folder for folder in image.environment.get("LD_LIBRARY_PATH", "").split(":") if folder]
    if _is_musl(image):
        written = [file.text or "" for path, file in image.files.items() if path.startswith("/etc/ld-musl-")]
        folders = re.split(r"[:\s]+", "\n".join(written).strip()) if written else ["/lib", "/usr/local/lib", "/usr/lib"]
        return (*given, *folders)
    triple = TRIPLES.get(image.architecture, "")
    built_in = [f"{top}/{triple}" for top in ("/lib", "/usr/lib")] + ["/lib64", "/usr/lib64", "/lib", "/usr/lib"]
    written = [file.text or "" for path, file in image.files.items() if path.startswith("/etc/ld.so.conf")]
    named = [line.strip() for text in written for line in text.splitlines() if line.startswith("/")]
    return (*given, *named, *built_in)


def _shared_by_path(image: Image) -> tuple[str, ...]:
    """Folders in which programs have libraries looked for: what a program loaded, its plug-ins find as well."""
    return tuple(
        {
            _expanded(folder, path)
            for path, binary in binaries(image)
            if binary.interpreter
            for folder in binary.run_path
        }
    )

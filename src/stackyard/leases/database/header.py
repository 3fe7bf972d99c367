"""
The header of the lease book's file, read before SQLite opens the file.

SQLite accepts an empty file, and changes one that it then cannot read.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Final, TypeAlias

from stackyard._util import files
from stackyard.errors import BookError
from stackyard.leases.database import schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Look: TypeAlias = tuple[int, int, int]  # inode, time of the last change in ns, SQLite's own counter of changes

MAGIC: Final = b"SQLite format 3\0"
LENGTH: Final = 100  # bytes


class BrokenError(Exception):
    """The file is no longer a lease book; the text says why."""


def check(file: Path, *, half_way: Callable[[], bool]) -> Look:
    """
    Check that *file* is a whole lease book of a known version, and return its state.

    Args:
        file: The lease book.
        half_way: Says whether a change of the file has begun and not ended.

    Raises:
        BrokenError: If it is no lease book, or only a part of one.
        BookError: If it must not be used.
        OSError: If it cannot be read.
    """
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise BookError(f"{file}: the lease book must be a plain file that belongs to you; move this one away")
    header = read(file)
    if len(header) < LENGTH or not header.startswith(MAGIC):
        raise BrokenError("not a database")
    version, application = struct.unpack(">I4xI", header[60:72])
    if application != schema.APPLICATION_ID:
        raise BrokenError("a database, but not a lease book")
    if version > schema.VERSION:
        raise BookError(
            f"{file}: written by a newer stackyard (schema {version}, this one knows up to {schema.VERSION}); "
            "upgrade this one, or set another STACKYARD_STATE_DIR"
        )
    pages, size = struct.unpack(">I", header[28:32])[0], struct.unpack(">H", header[16:18])[0]
    whole = pages * (65536 if size == 1 else size)
    if whole != found.st_size and not half_way():
        raise BrokenError(f"cut off: {found.st_size} bytes of {whole}")
    return look(found, header)


def inode(path: Path) -> int:
    """Return the inode of *path*; 0 if it is gone."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return 0


def look(found: os.stat_result, header: bytes) -> Look:
    """Return what a change of the file changes: see `Look`."""
    return found.st_ino, found.st_mtime_ns, int.from_bytes(header[24:28], "big")


def read(file: Path) -> bytes:
    """
    Return the first bytes of a plain file.

    Raises:
        OSError: If it cannot be read.
    """
    handle = files.open_plain(file, os.O_RDONLY)
    try:
        return os.read(handle, LENGTH)
    finally:
        os.close(handle)

"""What the disk refuses is said with its place, and what helps if it is full."""

from __future__ import annotations

import errno
import resource
import sqlite3
from typing import TYPE_CHECKING

import pytest

from stackyard._util import files

if TYPE_CHECKING:
    from pathlib import Path


def of_sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("sqlite's words")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), f"/s: No space left on device; {files.MAKE_ROOM}"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), f"/s: Disk quota exceeded; {files.MAKE_ROOM}"),
        (of_sqlite(sqlite3.SQLITE_FULL), f"/s: sqlite's words; {files.MAKE_ROOM}"),
        (OSError(errno.EACCES, "Permission denied"), "/s: Permission denied"),
        (of_sqlite(sqlite3.SQLITE_CORRUPT), "/s: sqlite's words"),
        (OSError("odd"), "/s: odd"),
    ],
)
def test_a_full_disk_is_said_with_what_helps(error: Exception, said: str) -> None:
    assert files.refused("/s", error) == said


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, hard))
    try:
        with pytest.raises(OSError, match="File too large") as failed:
            files.write(tmp_path / "model.json", b"more than two")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert failed.value.filename == str(tmp_path / "model.json")

"""
The state directory: whether it is stackyard's, and how it is made.

Everything that stackyard keeps for a user lies in this one directory, and parts of it are removed without a question.
So a directory counts as stackyard's only with proof: the mark that `prepare` puts into it, or what earlier versions,
which put no mark, are known to have made. An empty directory becomes stackyard's. Any other is refused before anything
in it is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from stackyard._util import files
from stackyard.errors import BookError

if TYPE_CHECKING:
    from pathlib import Path

MARK: Final = ".stackyard-state"
LEASES: Final = "leases"
_TEXT: Final = b"This directory belongs to stackyard, which removes files in it. Keep nothing of your own here.\n"
_EMPTY: Final = frozenset({"lost+found"})  # what a new file system holds
_BOOK: Final = "book.sqlite3"
_APPLICATION: Final = 68  # offset of the application id in an SQLite file
_OURS: Final = b"SYLB"
# What earlier versions made before the book: a lock of the start slots, the background process's files, caches.
_FILES: Final = re.compile(r"turns\.lock|reaper\.(lock|json|log|new)|book\.(new|lock)")
_CACHES: Final = {
    "outlines": re.compile(r"\.?[a-z0-9-]+\.json(\.[a-z0-9_]+)?"),
    "engines": re.compile(r"[0-9a-f]{12}"),
    "models": re.compile(r"\.?[0-9a-f]{32}\.json(\.[a-z0-9_]+)?"),
}
_DRAFT: Final = re.compile(r"\.new-[0-9a-f]{12}")


def prepare(directory: Path) -> None:
    """
    Make the state directory with mode 0700 if it is missing, and mark it.

    Raises:
        BookError: If it is a link, another user's, open to other users, or neither empty nor stackyard's.
        OSError: If it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700, parents=True)
    check(directory)
    if not is_marked(directory):
        _mark(directory)


def check(directory: Path) -> bool:
    """
    Say whether the state directory is there and stackyard's, which an empty one is not yet; nothing is changed.

    Raises:
        BookError: As for `prepare`.
        OSError: If it cannot be looked at.
    """
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return False
    _check_mode(directory, found)
    _check_leases(directory)
    return is_marked(directory) or _is_of_an_earlier_version(directory)


def _check_mode(directory: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise BookError(f"{directory}: the state directory must be a directory, not a link or file")
    if found.st_uid != os.geteuid():
        raise BookError(
            f"{directory}: the state directory belongs to user {found.st_uid}, not to {os.geteuid()}; "
            "set STACKYARD_STATE_DIR to a directory of your own"
        )
    if found.st_mode & 0o022:
        raise BookError(
            f"{directory}: others may write to the state directory (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"run: chmod 700 {directory}"
        )


def _check_leases(directory: Path) -> None:
    path = directory / LEASES
    if os.path.lexists(path) and not files.is_folder(path):
        raise BookError(f"{path}: must be a folder that stackyard made, not a link or file; move it away")


def is_marked(directory: Path) -> bool:
    """Say whether `prepare` has marked *directory* as stackyard's."""
    return files.is_plain(directory / MARK)


def _mark(directory: Path) -> None:
    with contextlib.suppress(FileExistsError):
        handle = os.open(directory / MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with contextlib.suppress(OSError), os.fdopen(handle, "wb") as opened:  # on a full disk the name is enough
            opened.write(_TEXT)


def _is_of_an_earlier_version(directory: Path) -> bool:
    """Say whether a directory without a mark is stackyard's all the same; False for an empty one."""
    names = sorted(set(os.listdir(directory)) - _EMPTY)  # noqa: PTH208 - names are all that is needed
    if not names or _has_book(directory):
        return bool(names)
    if strange := next((name for name in names if not _is_known(directory, name)), ""):
        if is_marked(directory):  # by another process since it was looked at
            return True
        raise BookError(
            f"{directory}: the state directory is neither empty nor stackyard's (it holds {strange!r}), so nothing in "
            "it was touched; set STACKYARD_STATE_DIR to a new directory"
        )
    return True


def _has_book(directory: Path) -> bool:
    """Say whether an earlier version kept its book here: by the empty lock next to it, or by the book's own header."""
    lock = directory / "book.lock"
    if files.is_plain(lock) and lock.lstat().st_size == 0:
        return True
    try:
        handle = files.open_plain(directory / _BOOK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.pread(handle, len(_OURS), _APPLICATION) == _OURS
    finally:
        os.close(handle)


def _is_known(directory: Path, name: str) -> bool:
    """Say whether an earlier version, ended before it had a book, may have left this."""
    path = directory / name
    if name == LEASES:
        return files.is_folder(path) and all(_is_lease(path / item) for item in os.listdir(path))  # noqa: PTH208
    if name in _CACHES:
        return files.is_folder(path) and all(_CACHES[name].fullmatch(item) for item in os.listdir(path))  # noqa: PTH208
    return bool(_FILES.fullmatch(name)) and files.is_plain(path)


def _is_lease(path: Path) -> bool:
    return files.is_folder(path) and (bool(_DRAFT.fullmatch(path.name)) or files.is_plain(path / "owner.lock"))

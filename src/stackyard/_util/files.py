"""
Files and folders that stackyard makes for itself: read, written and removed without following a link.

A name that is expected to be a plain file may turn out to be a link, a folder, a FIFO or a device. None of these is
followed, waited for or changed here: each is an `OSError` that names the path.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEMPLATES: Final = (".example", ".sample", ".dist", ".template")  # how teams name the template of a file
LARGEST: Final = 4_000_000  # bytes that a file of stackyard may have
MAKE_ROOM: Final = "free some space there, or let STACKYARD_STATE_DIR name a folder on another disk"
_SQLITE_FULL: Final = 13
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_KINDS: Final = {"folder": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def is_full(error: BaseException) -> bool:
    """Say whether *error*, of the system or of SQLite, is about a disk or a quota that is full."""
    by_sqlite = getattr(error, "sqlite_errorcode", 0) & 0xFF == _SQLITE_FULL
    return by_sqlite or (isinstance(error, OSError) and error.errno in _FULL)


def refused(place: object, error: Exception) -> str:
    """Say what the disk refused at *place* in the state directory, and if it is full what helps."""
    said = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return f"{place}: {said}{f'; {MAKE_ROOM}' if is_full(error) else ''}"


def exists(path: Path) -> bool:
    """Say whether *path* is there; one that no file can have, as it is too long for example, is not."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises what it does not expect


def fault(folder: Path, name: str) -> str:
    """
    Say why the file *name*, counted from *folder*, cannot be read to its end; empty if it can.

    A pipe or a device might have no end, and a folder has no text. A link to a file is one, and so is /dev/null.
    """
    path = folder / name
    try:
        mode = path.stat().st_mode
    except ValueError:  # a NUL in the name, or half of a character
        return f"no such file in {folder}"
    except OSError as error:
        return f"no such file in {folder}" if error.errno in _ABSENT else f"cannot be read ({error.strerror})"
    if stat.S_ISREG(mode) or path.samefile(os.devnull):
        return ""
    kind = next((noun for noun, is_one in _KINDS.items() if is_one(mode)), "device")
    return f"must be a file, not a {kind}"


def template_of(path: Path, there: Callable[[Path], bool] = exists) -> Path | None:
    """Return the template next to a file, such as ``.env.example``; None without one."""
    return next((found for end in TEMPLATES if there(found := Path(f"{path}{end}"))), None)


def is_plain(path: Path) -> bool:
    """Say whether *path* is a plain file that belongs to this user; a link is not."""
    found = _lstat(path)
    return found is not None and stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def is_folder(path: Path) -> bool:
    """Say whether *path* is a folder that belongs to this user; a link to one is not."""
    found = _lstat(path)
    return found is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def read(path: Path) -> bytes:
    """
    Return the content of a plain file.

    Raises:
        OSError: If it is missing, cannot be read, is larger than `LARGEST` bytes, or is anything but a plain file.
    """
    handle = open_plain(path, os.O_RDONLY)
    try:
        if os.fstat(handle).st_size > LARGEST:
            raise OSError(errno.EFBIG, f"has more than {LARGEST} bytes", str(path))
        return _all(handle)
    finally:
        os.close(handle)


def _all(handle: int) -> bytes:
    """Read to the end, but no further than `LARGEST` bytes: another program may still be writing."""
    parts = [os.read(handle, LARGEST)]
    while parts[-1] and sum(map(len, parts)) < LARGEST:
        parts.append(os.read(handle, LARGEST))
    return b"".join(parts)


def open_plain(path: Path, flags: int) -> int:
    """
    Open a plain file with *flags*, created with mode 0600 if they ask for it; return the descriptor.

    Raises:
        OSError: If it cannot be opened, or is anything but a plain file.
    """
    # a FIFO must not block its reader
    handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is not a plain file", str(path))
    return handle


def write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """
    Write a file in one step, as `replacing` does.

    Raises:
        OSError: If the file cannot be written, or its folder is a link.
    """
    try:
        with replacing(path, mode=mode) as handle, os.fdopen(handle, "wb", closefd=False) as opened:
            opened.write(content)
    except OSError as error:  # a descriptor has no name
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o600) -> Iterator[int]:
    """
    Give a `with` block the descriptor of a new file, which takes the place of *path* at the block's end.

    So a reader finds the old content or the new one, and a link there is replaced, not followed. If the block fails,
    the old file stays.

    Raises:
        OSError: If the file cannot be written, or its folder is a link.
    """
    with folder(path.parent) as place:
        temporary = f".{path.name}.{os.urandom(4).hex()}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=place)
        try:
            try:
                yield handle
            finally:
                os.close(handle)
            _rename(temporary, path, place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=place)
            raise


def _rename(temporary: str, path: Path, place: int) -> None:
    try:
        os.rename(temporary, path.name, src_dir_fd=place, dst_dir_fd=place)
    except OSError as error:  # which would name the temporary file, without its folder
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_text(path: Path, text: str) -> None:
    """
    Write a report as `write` does; its folder is made, and may be a link.

    Raises:
        OSError: If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path.parent.resolve() / path.name, text.encode())


def write_json(path: Path, content: Any) -> None:
    """
    Write *content* as JSON, as `write_text` does.

    Raises:
        OSError: If the file cannot be written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def folder(path: Path) -> Iterator[int]:
    """
    Open a folder for calls that take ``dir_fd``.

    Raises:
        OSError: If it is missing, a link, or no folder.
    """
    handle = os.open(path, _FOLDER)
    try:
        yield handle
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """
    Make a folder with mode 0700 unless it is there.

    Raises:
        OSError: If it cannot be made, or something that is not this user's own folder has its name.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if not is_folder(path):
        raise OSError(errno.ENOTDIR, "is not a folder of yours; move it away", str(path))


def remove_tree(path: Path, *, last: str = "") -> None:
    """
    Remove a folder with all that is in it, as far as possible; links and mounts in it are not followed.

    Args:
        path: The folder. Nothing happens if it is missing or a link.
        last: A name directly in it that goes last, so that a removal that is cut short leaves it.
    """
    with contextlib.suppress(OSError):
        with folder(path) as handle:
            _empty(handle, os.fstat(handle).st_dev, last)
            if last:
                _unlink(last, handle)
        path.rmdir()


def _empty(handle: int, device: int, spared: str = "") -> None:
    with os.scandir(handle) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if entry.name != spared]
    for name, is_a_folder in found:
        if is_a_folder:
            _remove_folder(name, handle, device)
        else:
            _unlink(name, handle)


def _remove_folder(name: str, parent: int, device: int) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(name, _FOLDER, dir_fd=parent)
        try:
            if os.fstat(handle).st_dev != device:
                return  # a mount: what is in it lies elsewhere
            _empty(handle, device)
        finally:
            os.close(handle)
        os.rmdir(name, dir_fd=parent)


def _unlink(name: str, parent: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=parent)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None

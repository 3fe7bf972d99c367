"""The secrets of one stack: made fresh, kept in files that only their containers and their owner can read."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from stackyard._util import files
from stackyard.errors import BookError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

CONTAINER_ID: Final = 10001  # uid and gid that containers run with: files that root makes are for this user alone


SIZE: Final = 32  # bytes of a secret: what a key of HS256 needs, and more than a password does
_SECRET: Final = re.compile(r"[A-Za-z0-9._~-]{8,200}")  # what a URL, a shell and an env file take without quotes
_NEXT: Final = "end the lease and start it again"


def new(names: Iterable[str]) -> dict[str, str]:
    """Make a secret for each of *names*; hexadecimal, so that no URL, shell or env file needs to quote it."""
    # The source that the standard library's `secrets` reads too, without that module's imports.
    return {name: os.urandom(SIZE).hex() for name in names}


def write(directory: Path, secrets: Mapping[str, str]) -> None:
    """
    Write one file for each secret into *directory* (made with mode 0700 if missing), replacing older ones.

    As root the files belong to the containers' user with mode 0400. Without root a process cannot give a file away, so
    they are 0444 and the directory's mode keeps other users out.

    Raises:
        BookError: If a file cannot be written, or the directory is a link.
    """
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        with files.folder(directory) as place:
            for name, value in secrets.items():
                _write_secret(place, name, value)
    except OSError as error:
        raise BookError(f"{directory}: cannot write the secrets: {error.strerror or error}") from None


def read(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """
    Read the secrets *names*, as *write* wrote them.

    Raises:
        BookError: If a file is missing, is no plain file, cannot be read, or holds anything but a secret of ours; the
            text names the file.
    """
    return {name: _read_secret(directory / name) for name in names}


def names(directory: Path) -> list[str]:
    """
    Return the names of the secrets in *directory*.

    Raises:
        BookError: If it cannot be listed.
    """
    try:
        return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise BookError(f"{directory}: cannot read the secrets: {error.strerror or error}; {_NEXT}") from None


def _read_secret(file: Path) -> str:
    try:
        text = files.read(file).decode("ascii", errors="replace")
    except OSError as error:
        raise BookError(f"{file}: cannot read the secret: {error.strerror or error}; {_NEXT}") from None
    if not _SECRET.fullmatch(text):
        raise BookError(f"{file}: must hold one secret of 8 to 200 letters, digits or ._~-; {_NEXT}")
    return text


def ensure(directory: Path, names: Collection[str]) -> dict[str, str]:
    """
    Return the secrets *names* in *directory*; make new ones for all where a file is missing or empty.

    Raises:
        BookError: If the files cannot be read or written.
    """
    if all(_has_content(directory / name) for name in names):
        return read(directory, names)
    made = new(names)
    write(directory, made)
    return made


def _has_content(file: Path) -> bool:
    """Say whether a file is there and not empty; what is not a plain file has content, which *read* then refuses."""
    try:
        found = file.lstat()
    except OSError:
        return False
    return not stat.S_ISREG(found.st_mode) or found.st_size > 0


def _write_secret(place: int, name: str, value: str) -> None:
    """Write one file into the open directory *place*, in one step."""
    temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600, dir_fd=place)
    try:
        os.write(handle, value.encode("ascii"))
        _hand_over(handle)
    except BaseException:
        os.unlink(temporary, dir_fd=place)
        raise
    finally:
        os.close(handle)
    os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)


def _hand_over(handle: int) -> None:
    given = False
    if os.geteuid() == 0:
        # root in a user namespace without that id, or on a share that squashes root, cannot
        with contextlib.suppress(OSError):
            os.fchown(handle, CONTAINER_ID, CONTAINER_ID)
            given = True
    os.fchmod(handle, 0o400 if given else 0o444)

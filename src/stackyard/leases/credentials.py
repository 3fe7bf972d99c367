"""The secrets of one stack: made fresh, kept in files that only their containers and their owner can read."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from stackyard._util import files
from stackyard.errors import BookError

if TYPE_CHECKING:
    from pathlib import Path

CONTAINER_ID: Final = 10001  # uid and gid of every container of the platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """
    Passwords and keys of one stack; hexadecimal, so that no URL, shell or env file needs to quote them.

    Attributes:
        postgres_password: Of the role ``app``, 192 bits.
        redis_password: Of the ACL user ``app``, 192 bits.
        jwt_key: Signs tokens (HS256), 256 bits.
    """

    postgres_password: str = field(repr=False)
    redis_password: str = field(repr=False)
    jwt_key: str = field(repr=False)

    @classmethod
    def new(cls) -> Credentials:
        """Make new credentials."""
        # The source that the standard library's `secrets` reads too, without that module's imports.
        return cls(
            postgres_password=os.urandom(24).hex(),
            redis_password=os.urandom(24).hex(),
            jwt_key=os.urandom(32).hex(),
        )


_SECRET: Final = re.compile(r"[A-Za-z0-9._~-]{8,200}")  # what a URL, a shell and an env file take without quotes
_NEXT: Final = "end the lease and start it again"
NAMES: Final = tuple(item.name for item in fields(Credentials))


def write(directory: Path, credentials: Credentials) -> None:
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
            for name in NAMES:
                _write_secret(place, name, getattr(credentials, name))
    except OSError as error:
        raise BookError(f"{directory}: cannot write the secrets: {error.strerror or error}") from None


def read(directory: Path) -> Credentials:
    """
    Read what *write* wrote.

    Raises:
        BookError: If a file is missing, is no plain file, cannot be read, or holds anything but a secret of ours; the
            text names the file.
    """
    return Credentials(**{name: _read_secret(directory / name) for name in NAMES})


def _read_secret(file: Path) -> str:
    try:
        text = files.read(file).decode("ascii", errors="replace")
    except OSError as error:
        raise BookError(f"{file}: cannot read the secret: {error.strerror or error}; {_NEXT}") from None
    if not _SECRET.fullmatch(text):
        raise BookError(f"{file}: must hold one secret of 8 to 200 letters, digits or ._~-; {_NEXT}")
    return text


def ensure(directory: Path) -> Credentials:
    """
    Return the credentials in *directory*; make new ones where a file is missing or empty.

    Raises:
        BookError: If the files cannot be read or written.
    """
    if all(_has_content(directory / name) for name in NAMES):
        return read(directory)
    credentials = Credentials.new()
    write(directory, credentials)
    return credentials


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

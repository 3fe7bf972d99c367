"""The secrets of one stack: made fresh, kept in files that only their containers and their owner can read."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

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
        jwt_key: Signs the auth service's tokens (HS256), 256 bits.
    """

    postgres_password: str = field(repr=False)
    redis_password: str = field(repr=False)
    jwt_key: str = field(repr=False)

    @classmethod
    def new(cls) -> Credentials:
        """Make credentials nobody has seen."""
        # The source that the standard library's `secrets` reads too, without that module's imports.
        return cls(
            postgres_password=os.urandom(24).hex(),
            redis_password=os.urandom(24).hex(),
            jwt_key=os.urandom(32).hex(),
        )


NAMES: Final = tuple(item.name for item in fields(Credentials))


def write(directory: Path, credentials: Credentials) -> None:
    """
    Write one file for each secret into *directory* (made with mode 0700 if missing), replacing older ones.

    As root the files belong to the containers' user with mode 0400. Without root nobody can give a file away, so
    they are 0444 and the directory's mode keeps other users out.

    Raises:
        BookError: If a file cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in NAMES:
            _write_secret(directory, name, getattr(credentials, name))
    except OSError as error:
        raise BookError(f"{directory}: cannot write the secrets: {error.strerror or error}") from None


def read(directory: Path) -> Credentials:
    """
    Read what *write* wrote.

    Raises:
        BookError: If a file is missing or cannot be read.
    """
    try:
        return Credentials(**{name: (directory / name).read_text(encoding="ascii") for name in NAMES})
    except (OSError, UnicodeDecodeError) as error:
        raise BookError(f"{directory}: cannot read the secrets: {error}") from None


def ensure(directory: Path) -> Credentials:
    """
    Return the credentials in *directory*; make new ones where a file is missing or empty.

    Raises:
        BookError: If the files cannot be read or written.
    """
    if all((directory / name).is_file() and (directory / name).stat().st_size for name in NAMES):
        return read(directory)
    credentials = Credentials.new()
    write(directory, credentials)
    return credentials


def _write_secret(directory: Path, name: str, value: str) -> None:
    temporary = directory / f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, value.encode("ascii"))
        _hand_over(handle)
    except BaseException:
        temporary.unlink()
        raise
    finally:
        os.close(handle)
    temporary.replace(directory / name)


def _hand_over(handle: int) -> None:
    given = False
    if os.geteuid() == 0:
        # root in a user namespace without that id, or on a share that squashes root, cannot
        with contextlib.suppress(OSError):
            os.fchown(handle, CONTAINER_ID, CONTAINER_ID)
            given = True
    os.fchmod(handle, 0o400 if given else 0o444)

"""Reading a configuration file that may be missing, a directory, a FIFO, huge, or not text."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from stackyard.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path, shown: str, *, limit: int) -> str:
    """
    Return the text of a regular UTF-8 file; a byte order mark is dropped and CRLF becomes LF.

    Args:
        path: The file.
        shown: Its name in messages.
        limit: Most bytes it may hold.

    Raises:
        ConfigError: If it cannot be read, is no regular file, is larger than *limit*, or is not plain UTF-8 text.
    """
    data = _read_bytes(path, shown, limit)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = data[error.start : error.start + 1]
        raise ConfigError(shown, f"byte {error.start}", bad, "the file must be UTF-8 text") from None
    return _plain(text.replace("\r\n", "\n"), shown)


def _read_bytes(path: Path, shown: str, limit: int) -> bytes:
    try:
        with open(path, "rb", opener=_open_now) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(shown, "file", str(path), "must be a regular file, not a pipe or device")
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(shown, "file", str(path), f"cannot be read ({reason})") from None
    if len(data) > limit:
        raise ConfigError(shown, "file", str(path), f"must not hold more than {limit} bytes")
    return data


def _open_now(path: str, flags: int) -> int:
    # without O_NONBLOCK, opening a FIFO without a writer would never return
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _plain(text: str, shown: str) -> str:
    for number, line in enumerate(text.split("\n"), start=1):
        for char in line:
            if char < " " and char != "\t":
                raise ConfigError(shown, f"line {number}", char, "control characters are not allowed")
    return text

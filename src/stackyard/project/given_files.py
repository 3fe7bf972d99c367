"""
The files that Compose reads because a caller names them, or because it finds them.

What it could not read to the end is refused before: it would wait for a pipe without a writer until its time is over,
and read a device until memory is full.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from stackyard._util import files
from stackyard.errors import UsageError
from stackyard.project.compose_files import ENV_FILE, FILE, FOLDER, asked_for, home, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STANDARD_INPUT: Final = "-"
_OPEN: Final = re.compile(r"(?:/dev/fd|/proc/self/fd)/([0-9]{1,6})")  # a shell's <(...) is one


def words(folder: Path, compose: Sequence[str], profiles: Sequence[str], env: Sequence[str]) -> tuple[str, ...]:
    """
    Return Compose's options that choose files, profiles and env files; each file can be read more than once.

    Args:
        folder: Where Compose is asked, and the project's folder if its first file is no file of a folder.
        compose: Compose files.
        profiles: Profiles to enable.
        env: Env files.

    Raises:
        UsageError: If an open file cannot be read, or holds too much.
    """
    kept = [_kept(FILE, path) for path in compose]
    options = ((FILE, kept), ("--profile", profiles), (ENV_FILE, [_kept(ENV_FILE, path) for path in env]))
    found = tuple(word for option, values in options for value in values for word in (option, value))
    return found if kept[:1] == [*compose][:1] else (*found, FOLDER, str(folder))


def faults(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """
    Say of each file that Compose would read what is wrong with it, in one line that names the option or variable.

    What has an address is Compose's to fetch.

    Args:
        words: Compose's options.
        folder: Where Compose is asked.
        environment: The caller's environment.
    """
    asked = {option: asked_for(words, option, environment) for option in (FILE, ENV_FILE)}
    for where, path in ((where, path) for where, paths in asked.values() for path in paths):
        if ":" not in path and (fault := files.fault(folder, path)):
            yield f"{where} {path}: {fault}"
    found = [] if asked[FILE][1] else named(words, folder, environment)
    usual = [] if asked[ENV_FILE][1] else [home(words, folder, environment) / ".env"]
    for file in (*found, *usual):
        # Compose does without a folder called .env, and without the file
        if files.exists(file) and not file.is_dir() and (fault := files.fault(file.parent, file.name)):
            yield f"{file}: {fault}"


def _kept(option: str, path: str) -> str:
    """
    Return the name of a copy, in memory, of what an open file of this process holds; another path as it is.

    Compose reads a project several times, and a pipe gives its content once. A shell's ``<(...)`` is such a path, and
    for a Compose file ``-`` is the standard input.

    Args:
        option: The option that names it.
        path: What it names.

    Raises:
        UsageError: If it cannot be read, or holds too much.
    """
    found = _OPEN.fullmatch(path)
    is_input = path == "/dev/stdin" or (option == FILE and path == STANDARD_INPUT)
    if not (is_input or found):
        return path
    try:
        with open(int(found[1]) if found else 0, "rb", closefd=False) as given:
            content = given.read(files.LARGEST + 1) or b""
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be read ({error.strerror})") from None
    if len(content) > files.LARGEST:
        raise UsageError(f"{option} {path}: holds more than {files.LARGEST} bytes")
    handle = os.memfd_create("stackyard")
    with open(handle, "wb", closefd=False) as copy:
        copy.write(content)
    return f"/proc/{os.getpid()}/fd/{handle}"

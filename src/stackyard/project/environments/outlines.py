"""
A cache of the parts of an environment that a lease needs.

Reading and checking the YAML takes half of the time of a command that only leases ports. So the result is kept in the
state directory, and used while its sources are unchanged: the environment's three files, and the code that reads them.
Inode, size and times show a change. If a file was changed in the last moments, nothing is kept, because a second change
within the clock's step would not show. A cache file that is broken or belongs to another user is replaced.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from stackyard._util import files, state_directory
from stackyard.errors import BookError
from stackyard.project.environments.roots import ENVIRONMENTS, project_root

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from stackyard.project.environments.environment import Environment
    from stackyard.settings import Settings

SETTLED: Final = 2_000_000_000  # ns; no file system's clock has coarser steps
MAX_BYTES: Final = 64 * 1024
_CODE: Final = os.path.dirname(__file__)  # noqa: PTH120 - only ever scanned


class Outline(NamedTuple):
    """The parts of an environment that a lease needs; the fields are those of `Environment`."""

    name: str
    data: Literal["tmpfs", "volume"]
    root: Path
    ports: dict[str, int]
    subnet: str
    reserve_mb: int
    variables: dict[str, str]


def outline(name: str, settings: Settings) -> Outline:
    """
    Return the parts of environment *name* that a lease needs.

    Args:
        name: The environment.
        settings: Where the project and the cache are.

    Raises:
        UsageError: If there is no such environment, or no project.
        ConfigError: If a file is wrong.
    """
    root = (settings.root or project_root()).absolute()
    notes = settings.state_dir / "outlines" / f"{name}.json"
    found = _kept(notes, root) if name.replace("-", "").isalnum() else None
    return found or _made(name, root, notes)


def _made(name: str, root: Path, notes: Path) -> Outline:
    from stackyard.project.environments.environment import Environment

    began = time.time_ns()
    loaded = Environment.load(name, root)
    made = Outline(**{key: getattr(loaded, key) for key in Outline._fields})
    with contextlib.suppress(OSError, BookError):
        stamps = {file: _stamp(file) for file in _sources(loaded)}
        if all(began - max(times) > SETTLED for _, _, *times in stamps.values()):
            _keep(notes, {"root": str(root), "stamps": stamps, "outline": made._asdict() | {"root": str(root)}})
    return made


def _sources(environment: Environment) -> list[str]:
    return [*map(str, (environment.root / ENVIRONMENTS, environment.compose_file, environment.env_file)), *_code()]


def _code() -> Iterable[str]:
    with os.scandir(_CODE) as entries:
        return [entry.path for entry in entries if entry.name.endswith(".py")]


def _stamp(file: str) -> list[int]:
    found = os.stat(file)  # noqa: PTH116 - a dozen in each command, and pathlib takes three times as long
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _kept(notes: Path, root: Path) -> Outline | None:
    """Return the cached parts; None if there are none, or a source has changed."""
    import json

    try:
        found = json.loads(_read(notes))
        stamps = found["stamps"]
        if found["root"] == str(root) and stamps.keys() >= set(_code()) and all(map(_is_same, stamps.items())):
            return Outline(**(found["outline"] | {"root": root}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def _is_same(item: tuple[str, Any]) -> bool:
    file, stamp = item
    return bool(_stamp(file) == stamp)


def _read(notes: Path) -> bytes:
    """
    Read a file that belongs to this user.

    Raises:
        OSError: If there is none.
    """
    handle = os.open(notes, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(notes)
        return os.read(handle, MAX_BYTES)
    finally:
        os.close(handle)


def _keep(notes: Path, what: dict[str, Any]) -> None:
    import json

    if state_directory.is_marked(notes.parents[1]):  # reading an environment makes no state directory
        files.make_folder(notes.parent)
        files.write(notes, json.dumps(what).encode())

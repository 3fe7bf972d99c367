"""
Holds on the images of a copied project: no clean-up removes one between its build and the first container that uses it.

A start shares a locked byte of one file with other starts of the project; a clean-up needs the byte alone. The kernel
releases it in whatever way a process ends. Where the file system has no such locks, nothing is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard._util import files, state_directory
from stackyard.leases import fair_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.settings import Settings

FOLDER: Final = "builds"  # in the state directory
FILE: Final = "images.lock"


@dataclass(frozen=True, slots=True)
class Hold:
    """The byte of one project in an open file."""

    handle: int
    number: int

    def share(self) -> None:
        """Wait while a clean-up removes images of the project; then keep every clean-up from it."""
        with contextlib.suppress(OSError):
            fair_lock.share(self.handle, self.number)

    def alone(self) -> bool:
        """Keep every start of the project waiting; False, and nothing has changed, if another one is under way."""
        try:
            return fair_lock.lock(self.handle, self.number)
        except OSError:
            return False


@contextlib.contextmanager
def hold(settings: Settings, project: str) -> Iterator[Hold]:
    """
    Open the byte of *project*; what the block takes of it is released at its end.

    Raises:
        BookError: If the state directory is not stackyard's.
        OSError: If the file cannot be opened.
    """
    state_directory.prepare(settings.state_dir)
    folder = settings.state_dir / FOLDER
    files.make_folder(folder)
    handle = files.open_plain(folder / FILE, os.O_RDWR | os.O_CREAT)
    try:
        yield Hold(handle, int.from_bytes(hashlib.sha256(project.encode()).digest()[:7]))
    finally:
        fair_lock.unlock(handle)
        os.close(handle)

"""
The engine that the stack of a lease is on: a note in the lease's directory.

One book serves all engines of this host, such as Docker Desktop's beside the system's, or a user's own. What another
engine holds is in no list of the one that a command asks, so an empty list there proves nothing.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from stackyard._util import files
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from stackyard.docker.engine import Engine
    from stackyard.leases import Lease

NOTE: Final = "engine"  # in the lease's directory
UNIX: Final = "unix://"


def claim(lease: Lease, engine: Engine) -> None:
    """
    Note that the stack of *lease* is on *engine*.

    Raises:
        UsageError: If it is on another one.
    """
    check(lease, engine)
    with contextlib.suppress(OSError):  # without the note, an empty list counts as proof
        files.write(lease.directory / NOTE, address(engine).encode())


def check(lease: Lease, engine: Engine) -> None:
    """
    Raise if the stack of *lease* is on another engine than *engine*, where nothing of it can be seen.

    Raises:
        UsageError: If it is; the text says on which, and what helps.
    """
    if words := elsewhere(lease, engine):
        raise UsageError(f"stack {lease.title} {words}")


def elsewhere(lease: Lease, engine: Engine) -> str:
    """Say on which engine the stack of *lease* is, and what helps, if it is not *engine*; else return an empty text."""
    try:
        noted = files.read(lease.directory / NOTE).decode()
    except (OSError, ValueError):
        return ""
    if not noted.isprintable() or noted == address(engine):
        return ""
    return (
        f"is on another engine, {noted}, and this command uses {engine.endpoint.where}; "
        f"repeat it with DOCKER_HOST={noted}"
    )


def address(engine: Engine) -> str:
    """Return the address of *engine* by which two commands notice that they use different ones."""
    url = engine.endpoint.url
    return f"{UNIX}{os.path.realpath(url.removeprefix(UNIX))}" if url.startswith(UNIX) else url

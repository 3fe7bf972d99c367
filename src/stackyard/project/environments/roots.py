"""The directory of the project whose environments are used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from stackyard._util import files
from stackyard.errors import UsageError

ENVIRONMENTS: Final = "envs/docker_environments.yaml"


def project_root() -> Path:
    """
    Return the directory that holds `envs/docker_environments.yaml`.

    This is `STACKYARD_ROOT` if it is set, else the nearest one from the working directory upwards, else the checkout
    that this package is installed from.

    Raises:
        UsageError: If there is none.
    """
    named = os.environ.get("STACKYARD_ROOT")
    if named:
        return _named(named)
    checkout = Path(__file__).parents[4]
    here = _working_directory()
    for candidate in (*([here, *here.parents] if here else []), checkout):
        if files.exists(candidate / ENVIRONMENTS):
            return candidate
    raise UsageError(
        f"no {ENVIRONMENTS} in {here or 'the working directory, which is gone,'} or above it; "
        f"change to your project's directory, or set STACKYARD_ROOT to it"
    )


def has_environments(folder: Path) -> bool:
    """Say whether *folder* belongs to a project with environments of its own; a Compose file that is nearer wins."""
    from stackyard.project.compose_files import FILES

    for place in (folder, *folder.parents):
        if any(files.exists(place / name) for name in FILES):
            return False
        if files.exists(place / ENVIRONMENTS):
            return True
    return False


def in_environments() -> bool:
    """Say whether STACKYARD_ROOT, or else the working directory, is of a project with environments of its own."""
    here = _working_directory()
    return bool(os.environ.get("STACKYARD_ROOT") or (here and has_environments(here)))


def _named(text: str) -> Path:
    root = Path(text)
    if not files.exists(root / ENVIRONMENTS):
        raise UsageError(
            f"STACKYARD_ROOT is {text!r}, which holds no {ENVIRONMENTS}; set it to the project's directory"
        )
    return root.resolve()


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None

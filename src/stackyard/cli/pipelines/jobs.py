"""
The jobs of a build server: each nox session tagged `matrix`, as `nox --list-sessions --json` lists them.

The tag `engine` marks a session that needs Docker and the images. The tag `pythons` gives a session a job for each
Python that pyproject.toml names; other sessions run on the oldest of them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import nox.project

from stackyard._util import process
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MATRIX: Final = "matrix"
ENGINE: Final = "engine"
PYTHONS: Final = "pythons"
DEADLINE: Final = 60.0  # seconds for nox to list its sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    One job of a build server.

    Attributes:
        session: The nox session it runs.
        python: Version of Python, such as 3.11.
        engine: Whether it needs a Docker engine and the images.
        minutes: Time limit, after which the build server stops it.
    """

    session: str
    python: str
    engine: bool
    minutes: int

    @property
    def name(self) -> str:
        """The job's unique name."""
        return f"{self.session}-{self.python}"


def jobs(root: Path) -> list[Job]:
    """
    Return the jobs for the noxfile and pyproject.toml of *root*, in the noxfile's order.

    Raises:
        CommandError: If nox cannot read the noxfile.
        UsageError: If no session has the tag.
    """
    noxfile = str(root / "noxfile.py")
    words = [sys.executable, "-m", "nox", "--noxfile", noxfile, "--list-sessions", "--json", "-t", MATRIX]
    sessions = json.loads(process.run(words, deadline=DEADLINE, cwd=root).stdout)
    if not sessions:
        raise UsageError(f"{noxfile}: no session has the tag {MATRIX!r}, so a build server has no jobs")
    pythons = nox.project.python_versions(nox.project.load_toml(root / "pyproject.toml"))
    return [job for each in sessions for job in _jobs(each, pythons)]


def _jobs(session: Mapping[str, Any], pythons: Sequence[str]) -> list[Job]:
    engine, tags = ENGINE in session["tags"], session["tags"]
    wanted = pythons if PYTHONS in tags else pythons[:1]
    # without an engine a session takes seconds; with one, it may have to build the images first
    minutes = 45 if engine else 15
    return [Job(session=session["session"], python=version, engine=engine, minutes=minutes) for version in wanted]


def matrix(found: Sequence[Job]) -> dict[str, list[dict[str, Any]]]:
    """Return *found* as the value of a workflow's `strategy.matrix`."""
    return {"include": [asdict(each) for each in found]}

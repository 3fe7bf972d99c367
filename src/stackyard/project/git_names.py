"""The default name of a copy: that of the git worktree, or of the branch."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from stackyard._util import process
from stackyard.errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE: Final = 5.0  # seconds for one question to git; a usual one takes 3 ms
LONGEST: Final = 40  # characters of a name
DIGEST: Final = 6  # of them, where the text had to be changed


def default_name(folder: Path) -> str | None:
    """
    Return the name for a copy of a project in *folder*; None outside of git, or on no branch.

    In a worktree that `git worktree add` made it is the worktree's folder, which no other worktree of the repository
    has at that place. In the main checkout it is the branch.
    """
    places = _ask(folder, "rev-parse", "--git-dir", "--git-common-dir", "--show-toplevel")
    if len(places) != 3:  # noqa: PLR2004 - as many as were asked for
        return None
    own, common, top = ((folder / place).resolve() for place in places)
    return safe(top.name if own != common else "".join(_ask(folder, "symbolic-ref", "--short", "--quiet", "HEAD")))


def safe(text: str) -> str | None:
    """Return *text* as a name: `feature/login` is `feature-login`; None if nothing is left of it."""
    plain = text.lower().replace("/", "-")
    name = re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")
    if name and (name != plain or len(name) > LONGEST):  # two texts must not give one name
        name = f"{name[: LONGEST - DIGEST - 1]}-{hashlib.sha256(text.encode()).hexdigest()[:DIGEST]}"
    return name or None


def _ask(folder: Path, *words: str) -> list[str]:
    """Return the lines of git's answer; none where there is no git, or git refuses."""
    try:
        done = process.run(["git", "-C", str(folder), *words], deadline=DEADLINE, check=False)
    except CommandError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []

"""Starting the reaper if none runs: one check of a lock, and rarely a new process."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import stackyard
from stackyard._util import process
from stackyard.errors import BookError, CommandError
from stackyard.stacks.reaper_files import Post, code, is_older

if TYPE_CHECKING:
    from stackyard.settings import Settings

log = logging.getLogger("stackyard")


def wake(settings: Settings) -> bool:
    """
    Make sure that the book of *settings* has a reaper that is not older than this stackyard, unless they forbid one.

    The new process has its own session and keeps none of this one's files open. If it cannot be started, this is not
    an error, because the next command does its work.

    Returns:
        Whether one was started.
    """
    if settings.reaper == "off":
        return False
    post = Post(settings.state_dir)
    try:
        if post.is_taken() and not _is_older(post):
            return False
        output = post.open_log()
        try:
            process.detach([sys.executable, "-m", "stackyard.reaper"], output=output, env=_variables(settings))
        finally:
            os.close(output)
    except (OSError, BookError, CommandError) as error:
        log.debug("no reaper: %s", error)
        return False
    return True


def _is_older(post: Post) -> bool:
    notice = post.read()  # None while it starts
    return notice is not None and is_older(notice.code, code())


def _variables(settings: Settings) -> dict[str, str]:
    """Return the variables with which the new process uses the same settings and the same code."""
    return settings.variables() | {"PYTHONPATH": str(Path(stackyard.__file__).parents[1])}

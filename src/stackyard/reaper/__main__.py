"""The reaper's process; `wake` starts it."""

from __future__ import annotations

import logging
import os
import sys

from stackyard.errors import StackyardError
from stackyard.reaper.logs import log_to_stderr
from stackyard.reaper.loop import Reaper
from stackyard.settings import Settings
from stackyard.stacks.reaper_files import Post, code, is_older

log = logging.getLogger("stackyard")

NICENESS = 5  # starts and tests have priority


def main() -> int:
    """Run as the reaper unless one runs already; return the exit code."""
    log_to_stderr()
    os.nice(NICENESS)
    try:
        settings = Settings.load()
        post = Post(settings.state_dir)
        if not _take(post):
            return 0
        log.info("reaper of %s begins, %s", settings.state_dir, code())
        _serve(settings, post)
    except (StackyardError, OSError) as error:
        log.error("reaper ends: %s", error)  # noqa: TRY400 - the text says all there is to say
        return 1
    log.info("reaper ends")
    return 0


def _take(post: Post) -> bool:
    """Become the reaper; replace an older one."""
    if post.take():
        return True
    notice = post.read()
    return notice is not None and is_older(notice.code, code()) and post.dismiss() and post.take()


def _serve(settings: Settings, post: Post) -> None:
    master = Reaper(settings, post)
    master.watch.listen()
    try:
        while True:
            master.serve()
            if not post.is_mine():
                return
            post.notice.unlink(missing_ok=True)
            post.leave()
            # a command that saw the lock held just before this relies on this reaper
            if master.watch.ending or master.idle() or not post.take(patience=0.0):
                return
    finally:
        master.watch.close()


if __name__ == "__main__":
    sys.exit(main())

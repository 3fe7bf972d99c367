"""`invoke reaper.*`: the reaper, the process in the background that removes dead stacks: show its status, end it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from invoke.collection import Collection

from stackyard._util.tables import format_count, format_size
from stackyard.cli.common import answer
from stackyard.cli.task import command
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from stackyard.reaper.status import Status


@command()
def status(json: bool = False) -> None:
    """Show whether the reaper runs, what it watches and what it uses."""
    from stackyard.reaper.status import Status
    from stackyard.settings import Settings
    from stackyard.stacks.reaper_files import Post

    found = Status.read(Post(Settings.load().state_dir))
    answer(asdict(found), _told(found), as_json=json)


def _told(found: Status) -> str:
    if not found.running or found.pid is None or found.since is None:
        return "the reaper is starting" if found.running else "no reaper runs; the next stack starts it"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.since))
    memory = "unknown" if found.rss_bytes is None else format_size(found.rss_bytes)
    return (
        f"pid      {found.pid}, since {since}\nmemory   {memory}\n"
        f"watched  {format_count(len(found.watched), 'lease')}\n"
        f"warm     {format_count(len(found.warm), 'stack')}\ntrouble  {found.trouble or 'none'}"
    )


@command()
def stop(json: bool = False) -> None:
    """End the reaper and remove its warm stacks; the next stack starts it again, unless its pools are ended."""
    from stackyard.settings import Settings
    from stackyard.stacks.reaper_files import Post

    post = Post(Settings.load().state_dir)
    ran = post.is_taken()
    if not post.dismiss():
        raise StackyardError(f"the reaper does not end; see {post.log}")
    answer({"stopped": ran}, "the reaper has ended" if ran else "no reaper was running", as_json=json)


collection = Collection("reaper", status, stop)

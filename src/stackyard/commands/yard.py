"""`invoke yard.*`: look at the yardmaster, end it."""

from __future__ import annotations

import json as jsonlib
import time
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, failing_cleanly

if TYPE_CHECKING:
    from invoke.context import Context

    from stackyard.yardmaster.status import Status


@task(help={"json": JSON_HELP})
@failing_cleanly
def status(_c: Context, json: bool = False) -> None:
    """Show whether a yardmaster runs, what it watches and what it uses."""
    from stackyard.settings import Settings  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.yardmaster.post import Post  # noqa: PLC0415 - as above
    from stackyard.yardmaster.status import Status  # noqa: PLC0415 - as above

    found = Status.read(Post(Settings.load().state_dir))
    print(jsonlib.dumps(found.to_json(), indent=2) if json else _told(found))


def _told(found: Status) -> str:
    if not found.running or found.pid is None or found.since is None:
        return "a yardmaster is just starting" if found.running else "no yardmaster runs; the next stack starts one"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.since))
    from stackyard.report import format_size  # noqa: PLC0415 - keeps `invoke -l` quick

    memory = "unknown" if found.rss_bytes is None else format_size(found.rss_bytes)
    return (
        f"pid      {found.pid}, since {since}\nmemory   {memory}\nwatched  {len(found.watched)} leases\n"
        f"warm     {len(found.warm)} stacks\ntrouble  {found.trouble or 'none'}"
    )


@task(help={"json": JSON_HELP})
@failing_cleanly
def stop(_c: Context, json: bool = False) -> None:
    """End the yardmaster and its warm stacks; the next stack starts another, so end pools with `env.pool` first."""
    from stackyard.settings import Settings  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.yardmaster.post import Post  # noqa: PLC0415 - as above

    post = Post(Settings.load().state_dir)
    ran = post.is_taken()
    if not post.dismiss():
        raise Exit(f"the yardmaster does not end; see {post.log}", code=1)
    print(jsonlib.dumps({"stopped": ran}) if json else "the yardmaster has ended" if ran else "no yardmaster ran")


collection = Collection("yard", status, stop)

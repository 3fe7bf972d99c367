"""A post in a fresh state directory, a reaper at it in this process, and processes that only hold a post."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from lease_records import Clock
from recorded_workers import RecordedWorkers

from stackyard.reaper.loop import Reaper
from stackyard.settings import Settings
from stackyard.stacks.reaper_files import Post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    given = {"STACKYARD_POOL": "11000-11099", "STACKYARD_POOL_SUBNETS": "10.214.0.0/17"}
    return Settings.load(given | {"STACKYARD_STATE_DIR": str(tmp_path / "state")})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorded() -> RecordedWorkers:
    return RecordedWorkers()


@pytest.fixture
def place(settings: Settings) -> Iterator[Post]:
    settings.state_dir.mkdir(mode=0o700)
    made = Post(settings.state_dir)
    assert made.take()
    yield made
    made.leave()


@pytest.fixture
def master(settings: Settings, place: Post, clock: Clock, recorded: RecordedWorkers) -> Iterator[Reaper]:
    made = Reaper(settings, place, clock=clock, start=recorded)
    yield made
    made.watch.close()
    for lease in made.book.leases():
        made.book.release(lease.id)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


HOLDER = """
import json, signal, sys, time
from pathlib import Path
from stackyard.stacks.reaper_files import Notice, Post
from stackyard.leases import Owner
post = Post(Path(sys.argv[1]))
assert post.take()
post.tell(Notice(owner=Owner.current().label(), code=sys.argv[2], since=0.0))
if len(sys.argv) > 3:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("there", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(settings: Settings) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that hold the post and do nothing else."""
    settings.state_dir.mkdir(mode=0o700, exist_ok=True)
    children: list[subprocess.Popen[str]] = []

    def begin(code: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(settings.state_dir), code, *words]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))  # noqa: S603 - our own program
        assert children[-1].stdout is not None
        assert children[-1].stdout.readline() == "there\n"
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.communicate()

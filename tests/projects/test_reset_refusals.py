"""What a reset of a copy does with what somebody else did in the meantime: it refuses before it removes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.projects.expected import BARE

from stackyard._util import process
from stackyard.errors import UsageError
from stackyard.project import Project
from stackyard.running.stack import Stack
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

COMPOSE = """
services:
  files:
    image: {box}
    command: [sh, -c, "[ -e /rows/seed ] || echo seed > /rows/seed; exec httpd -f"]
    volumes: ["rows:/rows"]
  web: {{image: {box}}}
volumes: {{rows: {{}}}}
"""


@pytest.fixture
def stack(box: str, tmp_path: Path, book: LeaseBook, engine: Engine) -> Iterator[Stack]:
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(box=box))
    project = Project.find(tmp_path, environment=BARE)
    made = Stack(lifecycle.start(project, book, engine, CopyRequest(name="mine", resettable=True)))
    yield made
    assert made.down().left == []


def docker(*words: str) -> str:
    return process.run(["docker", *words], deadline=60).stdout.strip()


def names(stack: Stack) -> dict[str, str]:
    """Return the names of the copy's containers, by their ids."""
    listed = docker("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}}", "--filter", f"name={stack.lease.id}")
    return dict(line.split() for line in listed.splitlines())


def is_reset(stack: Stack) -> bool:
    stack.exec("files", "sh", "-c", "rm /rows/seed; echo mine > /rows/mine")
    stack.reset()
    return stack.exec("files", "sh", "-c", "cd /rows && cat *").stdout == "seed\n"


def test_an_archive_that_was_changed_removes_nothing(stack: Stack) -> None:
    before, archive = names(stack), stack.lease.directory / "data-0.tar"
    whole = archive.read_bytes()
    archive.write_bytes(whole.replace(b"seed", b"weed"))

    with pytest.raises(UsageError, match=r"data-0.tar with its kept data is gone or damaged, and nothing was reset"):
        stack.reset()

    assert names(stack) == before
    archive.write_bytes(whole)
    assert is_reset(stack)


def test_a_container_that_uses_a_volume_too_is_named_and_nothing_is_removed(stack: Stack, box: str) -> None:
    before, volume, other = names(stack), f"{stack.lease.project}_rows", f"user-of-{stack.lease.id[:6]}"
    docker("run", "-d", "--name", other, "-v", f"{volume}:/x", box, "sleep", "600")
    try:
        with pytest.raises(UsageError, match=rf"container {other} uses volume {volume}, .*'docker rm -f {other}'"):
            stack.reset()
    finally:
        docker("rm", "-f", other)

    assert names(stack) == before
    assert is_reset(stack)


def test_a_volume_that_somebody_else_made_is_not_filled(stack: Stack) -> None:
    volume = f"{stack.lease.project}_rows"
    docker("rm", "-f", f"{stack.lease.project}-files-1")
    docker("volume", "rm", volume)
    docker("volume", "create", volume)

    with pytest.raises(UsageError, match=rf"volume {volume} .*: somebody else made it, .*'docker volume rm {volume}'"):
        stack.reset()

    assert f"{stack.lease.project}-files-1" not in names(stack).values()
    docker("volume", "rm", volume)
    stack.reset()
    assert stack.exec("files", "cat", "/rows/seed").stdout == "seed\n"


def test_containers_that_were_renamed_are_found(stack: Stack) -> None:
    before, project = sorted(names(stack).values()), stack.lease.project
    for service in ("files", "web"):
        docker("rename", f"{project}-{service}-1", f"{project}-old-{service}")

    assert is_reset(stack)
    assert sorted(names(stack).values()) == before

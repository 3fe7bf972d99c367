"""A running stack can be looked into, worked in and removed when the files that it was made from are gone or broken."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from stackyard._util.process import run
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Copy:
    """A checkout of the project's files of its own, and `invoke` in it with a lease book of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        for name in run(["git", "ls-files", "-z"], cwd=project_root(), deadline=120).stdout.split("\0"):
            source = project_root() / name
            if name and source.is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, self.root / name)
        self.env = os.environ | {
            "STACKYARD_STATE_DIR": str(folder / "state"), "STACKYARD_REAPER": "off",
            "STACKYARD_ROOT": str(self.root),
        }  # fmt: skip

    def break_files(self) -> None:
        (self.root / "compose" / "docker-compose.unified.yml").write_text("services: [")
        (self.root / "envs" / "docker_environments.yaml").write_text("environments: {")

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "invoke", "-r", str(self.root), *words]

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own program
            self.words(*words), cwd=self.root, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )

    def follow(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own program
            self.words("env.logs", "--follow", *words), cwd=self.root, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, images: dict[str, str]) -> Iterator[Copy]:
    assert images  # built beforehand, so that no task does
    copy = Copy(tmp_path_factory.mktemp("broken"))
    up = copy.invoke("env.up", "--name", "mine", "--force", "--ttl", "10m")
    assert up.returncode == 0, up.stderr
    copy.break_files()
    yield copy
    assert copy.invoke("cleanup.all", "--yes").returncode == 0


def container(copy: Copy, service: str) -> str:
    lease = copy.invoke("ports.list", "--json").stdout.split('"lease": "')[1].split('"')[0]
    labels = [f"--filter=label=stackyard.lease={lease}", f"--filter=label=com.docker.compose.service={service}"]
    return run(["docker", "ps", "--quiet", *labels], deadline=120).stdout.strip()


def test_every_task_about_it_works(broken: Copy) -> None:
    refused = broken.invoke("env.up", "--name", "other")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)

    assert broken.invoke("env.status", "mine").returncode == 0
    assert " | " in broken.invoke("env.logs").stdout
    done = broken.invoke("env.exec", "redis", "--name", "mine", "--", "redis-cli", "--version")
    assert done.stdout.startswith("redis-cli")
    assert broken.invoke("env.restart", "redis").stdout == "redis restarted\n"
    assert broken.invoke("env.wait").returncode == 0


def test_new_lines_are_followed_through_a_restart_until_ctrl_c(broken: Copy) -> None:
    following = broken.follow("redis", "auth")
    assert following.stdout is not None
    try:
        first = following.stdout.readline()
        assert first.split(" | ")[0].strip() in {"redis", "auth"}
        run(["docker", "restart", container(broken, "redis")], deadline=120)
        starts = 0
        until = time.monotonic() + 240
        while starts < 2 and time.monotonic() < until:  # the start of the stack, and the restart
            starts += "Ready to accept connections" in following.stdout.readline()
        assert starts == 2
    finally:
        following.send_signal(signal.SIGINT)
        _, error = following.communicate(timeout=280)
    assert (following.returncode, error) == (130, "")


def test_following_ends_with_the_last_container_and_the_stack_can_be_removed(broken: Copy) -> None:
    following = broken.follow("--tail", "1", "--timestamps")
    assert following.stdout is not None
    assert following.stdout.readline()
    down = broken.invoke("env.down", "mine")

    out, error = following.communicate(timeout=280)
    assert (down.returncode, following.returncode, error) == (0, 0, "")
    assert all(" | 20" in line for line in out.splitlines())

"""An engine that only ssh reaches: through its context all is as with an engine that is reached over TCP."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil
import pytest
from tests.projects.expected import BARE
from tests.swarm import nodes

from stackyard._util import process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.swarm.nodes import Node

pytestmark = pytest.mark.timeout(300)
SITE: Final = ("--site", "context:builder")
SERVE: Final = """
mkdir -p /run/sshd /root/.ssh && chmod 700 /root/.ssh && cat >/root/.ssh/authorized_keys
ssh-keygen -A >/dev/null && /usr/sbin/sshd -o 'SetEnv=DOCKER_HOST=unix:///node/docker.sock' \\
  -o PerSourcePenalties=no
"""
CONFIG: Final = """
Host builder
  HostName {address}
  User root
  IdentityFile {folder}/key
Host *
  StrictHostKeyChecking accept-new
  UserKnownHostsFile {folder}/known
  IdentitiesOnly yes
"""


@pytest.fixture(scope="module")
def machine(box: str) -> Iterator[Node]:
    nodes.build()
    with nodes.swarm([box], count=1) as (made,):
        yield made


class User(NamedTuple):
    """Somebody for whose ssh `builder` is a name, and for whose docker it is a context."""

    folder: Path
    env: dict[str, str]

    def type(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Type a command of stackyard's in the project's folder, with *given* on its standard input."""
        argv = [sys.executable, "-m", "stackyard", *words]
        return subprocess.run(  # noqa: S603 - ours
            argv, cwd=self.folder, env=self.env, input=given, capture_output=True, text=True, check=False, timeout=120
        )

    @contextlib.contextmanager
    def begin(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Begin a command that goes on, as a terminal does: in a group of its own, which gets Ctrl-C."""
        argv = [sys.executable, "-m", "stackyard", *words]
        with subprocess.Popen(  # noqa: S603 - ours
            argv, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            process_group=0,
        ) as running:  # fmt: skip
            try:
                yield running
            finally:
                running.kill()

    def connections(self) -> list[int]:
        """Return each ssh that still runs, once those that end have had time for it."""
        found: list[int] = []
        for _ in range(50):
            found = [one.pid for one in psutil.process_iter(["cmdline"])
                     if f"{self.folder}/config" in (one.info["cmdline"] or ())]  # fmt: skip
            if not found:
                break
            time.sleep(0.1)
        return found


@pytest.fixture
def user(machine: Node, box: str, tmp_path: Path) -> User:
    """Return a user with a project of one service, which writes a line and then answers."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)  # noqa: S603, S607 - ours
    serve = ["docker", "exec", "--interactive", machine.container, "sh", "-ec", SERVE]
    process.run(serve, deadline=60, stdin=(tmp_path / "key.pub").read_text())
    (tmp_path / "config").write_text(CONFIG.format(address=machine.address, folder=tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/config "$@"\n')
    (tmp_path / "bin" / "ssh").chmod(0o755)
    web = {"image": box, "ports": ["80"], "command": ["sh", "-c", "echo first; exec httpd"]}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))
    env = BARE | {
        "PATH": f"{tmp_path / 'bin'}:{BARE['PATH']}", "DOCKER_CONFIG": str(tmp_path / "docker"),
        "STACKYARD_STATE_DIR": str(tmp_path / "state"),
    }  # fmt: skip
    for name, host in (("builder", "ssh://builder"), ("nobody", f"ssh://nobody@{machine.address}")):
        process.run(["docker", "context", "create", name, "--docker", f"host={host}"], deadline=30, env=env)
    return User(tmp_path, env)


@pytest.fixture
def web(user: User, machine: Node) -> Iterator[User]:
    """Let a copy be up there; it leaves nothing."""
    up = user.type("up", "--name", "mine", *SITE)
    assert up.returncode == 0, up.stderr
    yield user
    down = user.type("down", "mine", *SITE)
    assert down.returncode == 0, down.stderr
    assert machine.docker("ps", "--all", "--quiet") == ""
    assert user.connections() == []


def test_a_copy_runs_there_answers_at_its_address_and_leaves_nothing(user: User, machine: Node) -> None:
    up = user.type("up", "--name", "mine", "--json", *SITE)
    assert up.returncode == 0, up.stderr
    (port,) = json.loads(up.stdout)["ports"]
    with urllib.request.urlopen(port["url"], timeout=20) as reply:  # noqa: S310 - http
        assert reply.read() == b"box"
    inside = user.type("exec", "web", *SITE, "--", "echo", "inside")
    listed = user.type("ps", *SITE, "--json")
    down = user.type("down", "mine", *SITE)

    assert (port["host"], inside.stdout) == (machine.address, "inside\n"), inside.stderr
    assert [one["name"] for one in json.loads(listed.stdout)] == ["mine"]
    assert down.returncode == 0, down.stderr
    assert machine.docker("ps", "--all", "--quiet") == ""


def test_an_ssh_that_is_refused_ends_a_command_with_its_own_words(user: User) -> None:
    refused = user.type("up", "--site", "context:nobody")
    sites = {one["site"]: one for one in json.loads(user.type("site", "--json").stdout)}

    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "Permission denied (publickey" in refused.stderr
    assert "Permission denied (publickey" in sites["context:nobody"]["why"]
    assert (sites["context:builder"]["answers"], sites["context:builder"]["engine"]) == (True, "ssh://builder")


LOUD: Final = "cat; head -c 3000000 /dev/zero; echo wrong >&2; exit 7"


def test_a_command_inside_a_service_has_its_three_streams_and_its_exit_code(web: User) -> None:
    done = web.type("exec", "web", *SITE, "--", "sh", "-c", LOUD, given="given\n")
    told = web.type("exec", "web", *SITE, "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 7")

    assert (done.returncode, done.stdout) == (7, "given\n" + "\0" * 3_000_000)
    assert done.stderr.startswith("wrong\n")
    assert {key: json.loads(told.stdout)[key] for key in ("exit_code", "stdout", "stderr")} == {
        "exit_code": 7, "stdout": "out\n", "stderr": "err\n"
    }  # fmt: skip


def test_a_log_is_followed_until_ctrl_c(web: User) -> None:
    with web.begin("logs", "web", "--follow", *SITE) as following:
        assert following.stdout
        assert following.stdout.readline() == "first\n"
        for word in ("second", "third"):
            web.type("exec", "web", *SITE, "--", "sh", "-c", f"echo {word} >/proc/1/fd/1")
            assert following.stdout.readline() == f"{word}\n"
        os.killpg(following.pid, signal.SIGINT)
        out, err = following.communicate(timeout=20)

    assert (following.returncode, out, err) == (130, "", "")


def test_a_followed_log_ends_with_its_copy(user: User) -> None:
    assert user.type("up", "--name", "mine", *SITE).returncode == 0
    with user.begin("logs", "--follow", *SITE) as following:
        assert following.stdout
        assert following.stdout.readline() == "web | first\n"
        user.type("down", "mine", *SITE)
        out, err = following.communicate(timeout=30)

    assert (following.returncode, out, err) == (0, "", "")


ASK: Final = """
import os, sys, urllib.request
print(sys.stdin.read() + urllib.request.urlopen(os.environ["STACKYARD_WEB_URL"]).read().decode())
print("wrong", file=sys.stderr)
sys.exit(3)
"""


def test_a_command_that_gets_a_copy_there_has_its_own_streams(user: User, machine: Node) -> None:
    done = user.type("run", "--quiet", *SITE, "--", sys.executable, "-c", ASK, given="given ")

    assert (done.returncode, done.stdout, done.stderr) == (3, "given box\n", "wrong\n")
    assert machine.docker("ps", "--all", "--quiet") == ""


def test_ctrl_c_ends_a_command_and_removes_its_copy_there(user: User, machine: Node) -> None:
    waiting = "import time; print('begun', flush=True); time.sleep(600)"
    with user.begin("run", "--quiet", *SITE, "--", sys.executable, "-c", waiting) as running:
        assert running.stdout
        assert running.stdout.readline() == "begun\n"
        os.killpg(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=60)

    assert running.returncode == 130, err
    assert machine.docker("ps", "--all", "--quiet") == ""
    assert user.connections() == []

"""An engine that only ssh reaches: through its context all is as with an engine that is reached over TCP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Final

import pytest
from tests.projects.expected import BARE
from tests.swarm import nodes

from stackyard._util import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.swarm.nodes import Node

    Typed = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.timeout(300)
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


@pytest.fixture
def stackyard(machine: Node, box: str, tmp_path: Path) -> Typed:
    """Give a function that types a command in a project's folder, where `builder` is a name of ssh's and a context."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)  # noqa: S603, S607 - ours
    serve = ["docker", "exec", "--interactive", machine.container, "sh", "-ec", SERVE]
    process.run(serve, deadline=60, stdin=(tmp_path / "key.pub").read_text())
    (tmp_path / "config").write_text(CONFIG.format(address=machine.address, folder=tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/config "$@"\n')
    (tmp_path / "bin" / "ssh").chmod(0o755)
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": {"image": box, "ports": ["80"]}}}))
    env = BARE | {
        "PATH": f"{tmp_path / 'bin'}:{BARE['PATH']}", "DOCKER_CONFIG": str(tmp_path / "docker"),
        "STACKYARD_STATE_DIR": str(tmp_path / "state"),
    }  # fmt: skip
    for name, host in (("builder", "ssh://builder"), ("nobody", f"ssh://nobody@{machine.address}")):
        process.run(["docker", "context", "create", name, "--docker", f"host={host}"], deadline=30, env=env)

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "stackyard", *words]
        return subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 - ours

    return typed


def test_a_copy_runs_there_answers_at_its_address_and_leaves_nothing(stackyard: Typed, machine: Node) -> None:
    site = ("--site", "context:builder")
    up = stackyard("up", "--name", "mine", "--json", *site)
    assert up.returncode == 0, up.stderr
    (port,) = json.loads(up.stdout)["ports"]
    with urllib.request.urlopen(port["url"], timeout=20) as reply:  # noqa: S310 - http
        assert reply.read() == b"box"
    inside = stackyard("exec", "web", *site, "--", "echo", "inside")
    listed = stackyard("ps", *site, "--json")
    down = stackyard("down", "mine", *site)

    assert (port["host"], inside.stdout) == (machine.address, "inside\n"), inside.stderr
    assert [one["name"] for one in json.loads(listed.stdout)] == ["mine"]
    assert down.returncode == 0, down.stderr
    assert machine.docker("ps", "--all", "--quiet") == ""


def test_an_ssh_that_is_refused_ends_a_command_with_its_own_words(stackyard: Typed) -> None:
    refused = stackyard("up", "--site", "context:nobody")
    sites = {one["site"]: one for one in json.loads(stackyard("site", "--json").stdout)}

    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "Permission denied (publickey" in refused.stderr
    assert "Permission denied (publickey" in sites["context:nobody"]["why"]
    assert (sites["context:builder"]["answers"], sites["context:builder"]["engine"]) == (True, "ssh://builder")

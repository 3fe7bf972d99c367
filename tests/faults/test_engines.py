"""Engines and clients that are missing, forbidden, hung or too old, and surroundings that mislead them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.faults.fault_host import CLEAN

from stackyard.docker.compose import Compose
from stackyard.project.environments import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.fault_host import Yard

    from stackyard.stacks.environments.stack import Stack

COMMANDS = {
    "env.up": ("env.up",),
    "env.down": ("env.down",),
    "env.status": ("env.status",),
    "env.logs": ("env.logs", "--service", "redis"),
    "env.restart": ("env.restart", "--service", "redis"),
    "env.exec": ("env.exec", "--service", "redis", "--command", "true"),
    "cleanup.stale": ("cleanup.stale",),
    "ports.gc": ("ports.gc",),
}
HOSTILE = {
    "COMPOSE_PROJECT_NAME": "evil", "COMPOSE_FILE": "/nonexistent.yml", "COMPOSE_PROFILES": "none",
    "COMPOSE_REMOVE_ORPHANS": "1", "COMPOSE_ENV_FILES": "/nonexistent.env", "DOCKER_DEFAULT_PLATFORM": "linux/s390x",
    "PGHOST": "evil.example", "STACKYARD_REDIS_PORT": "1", "STACKYARD_SUBNET": "8.8.8.0/28",
}  # fmt: skip


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """An engine that lets everybody in and never says a word."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen(64)
        yield f"unix://{tmp_path}/silent.sock"


@pytest.mark.core
def test_a_missing_engine_is_one_quick_line_and_takes_no_lease(yard: Yard) -> None:
    code, out, seconds = yard.invoke("env.up", env={"DOCKER_HOST": "unix:///nonexistent"})

    assert code == 3
    assert "no engine answers at unix:///nonexistent (from DOCKER_HOST): there is no such socket" in out
    assert "unset DOCKER_HOST" in out
    assert len(out.strip().splitlines()) == 1
    _, _, control = yard.invoke("ports.list")
    assert seconds < 3 + 3 * control  # it takes what any command takes on this machine
    assert yard.remains() == CLEAN


def test_an_engine_that_may_not_be_asked_is_one_line(yard: Yard, tmp_path: Path, silent: str) -> None:
    path = silent.removeprefix("unix://")
    os.chmod(path, 0)  # noqa: PTH101 - a plain string
    # not another user: that one may be unable to run this very Python
    powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, "-c"]
    connect = "import socket; s = socket.socket(socket.AF_UNIX); s.connect(__import__('sys').argv[1])"
    known = subprocess.run([*powerless, connect, path], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert "PermissionError" in known.stderr, "the premise: this process may not"
    script = "from stackyard.docker import Engine; Engine().version()"
    env = {"DOCKER_HOST": silent, "PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    done = subprocess.run(  # noqa: S603 - our own
        [*powerless, script], env=env, cwd="/", capture_output=True, text=True, check=False
    )

    assert "EngineError: connecting to the Docker engine: no engine answers" in done.stderr
    assert "Permission denied" in done.stderr
    assert yard.remains() == CLEAN


def test_no_command_hangs_with_its_engine(yard: Yard, stack: Stack, silent: str) -> None:
    env = {"DOCKER_HOST": silent, "STACKYARD_ENGINE_TIMEOUT": "22s"}

    def ask(words: tuple[str, ...]) -> tuple[int, str, float]:
        needs = words[0].startswith("env.") and words[0] != "env.up"
        return yard.invoke(*words, *(["--name", stack.lease.id] if needs else []), env=env)

    with ThreadPoolExecutor(4) as pool:
        ends = dict(zip(COMMANDS, pool.map(ask, COMMANDS.values()), strict=True))

    assert {name: end[0] for name, end in ends.items()} == dict.fromkeys(COMMANDS, 3), ends
    assert {name: end[2] for name, end in ends.items() if end[2] > 30} == {}
    assert "Traceback" not in "".join(end[1] for end in ends.values())


@pytest.mark.core
@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("echo 2.5.0; case $* in *version*) exit 0;; esac; exit 1", ("Compose plugin is 2.5.0", "2.20.2 or newer")),
        ("echo \"docker: 'compose' is not a docker command.\" >&2; exit 1", ("has no Compose plugin", "2.20.2")),
    ],
    ids=["old", "missing"],
)
def test_an_unfit_compose_plugin_is_named_with_what_is_needed(
    yard: Yard, tmp_path: Path, plugin: str, words: tuple[str, str]
) -> None:
    shim = tmp_path / "docker"
    shim.write_text(f"#!/bin/sh\n{plugin}\n")
    shim.chmod(0o755)

    # a start that needs no Compose, because the engine makes what a template says, would not notice
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "STACKYARD_START": "compose"}
    code, out, _ = yard.invoke("env.up", env=env)

    assert code == 3
    assert all(word in out for word in words), out
    assert yard.remains() == CLEAN


@pytest.mark.core
def test_hostile_surroundings_change_nothing_compose_sees(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment.load("test")
    compose = Compose(file=environment.compose_file, env_file=environment.env_file, project="same")
    expected = compose.model()
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("COMPOSE_PROJECT_NAME=stray\nSTACKYARD_REDIS_PORT=2\n")
    monkeypatch.chdir(tmp_path)

    assert compose.model() == expected
    assert yard.remains() == CLEAN


def test_hostile_surroundings_do_not_mislead_a_command(yard: Yard, stack: Stack) -> None:
    command = ("env.exec", "--service", "redis", "--command", "sh -c 'exit 7'", "--name", stack.lease.id)

    code, out, _ = yard.invoke(*command, env=HOSTILE)
    status, said, _ = yard.invoke("env.status", "--json", "--name", stack.lease.id, env=HOSTILE)

    assert code == 7, out
    assert (status, len(json.loads(said)["services"])) == (0, 4)

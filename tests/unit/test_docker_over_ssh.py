"""An engine through ssh: what is typed, what joins its socket, and whose words a failure has."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from stackyard.docker import Engine, over_ssh
from stackyard.docker.endpoint import Endpoint
from stackyard.errors import EngineError

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from fake_engine import FakeEngine

# an `ssh` that joins its own two streams to a socket of this machine
BRIDGE = """
import os, socket, sys, threading
engine = socket.socket(socket.AF_UNIX)
engine.connect({path!r})
def pass_on():
    while piece := os.read(0, 65536):
        engine.sendall(piece)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=pass_on, daemon=True).start()
while piece := engine.recv(65536):
    os.write(1, piece)
"""


def install(folder: Path, script: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\necho "$@" >>{folder}/typed\n{script}\n')
    (folder / "bin" / "ssh").chmod(0o755)


@pytest.fixture
def there(fake_engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Let the engine be one that only ssh reaches."""
    (tmp_path / "bridge.py").write_text(BRIDGE.format(path=str(tmp_path / "docker.sock")))
    install(tmp_path, f"exec {sys.executable} {tmp_path}/bridge.py")
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@build:2222")
    return fake_engine


def test_every_request_goes_through_ssh(there: FakeEngine, tmp_path: Path) -> None:
    there.container("web")
    with Engine(deadline=20) as engine:
        assert (engine.version(), [item.name for item in engine.containers([])]) == ("26.1.5", ["web-l1"])
    assert Endpoint.find().ping(deadline=20).version == "26.1.5"

    typed = set((tmp_path / "typed").read_text().splitlines())
    assert typed == {"-o BatchMode=yes -l me -p 2222 -- build docker system dial-stdio"}


def test_a_failure_has_ssh_s_own_last_words(there: FakeEngine, tmp_path: Path) -> None:
    del there
    install(tmp_path, "echo 'me@build: Permission denied (publickey).' >&2; exit 255")

    with (
        Engine(deadline=20) as engine,
        pytest.raises(EngineError, match=r"denied \(publickey\)\.; start it"),
    ):
        engine.version()
    ping = Endpoint.find().ping(deadline=20)
    assert (ping.state, ping.detail) == (
        "unreachable", "ssh://me@build:2222 me@build: Permission denied (publickey)."
    )  # fmt: skip


def test_connections_that_begin_at_once_take_no_file_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def plug(_words: list[str], *, line: int, errors: int) -> None:
        before = os.fstat(line), os.fstat(errors)
        time.sleep(0.001)
        assert before == (os.fstat(line), os.fstat(errors))

    monkeypatch.setattr("stackyard._util.plugged_process.start", plug)

    with ThreadPoolExecutor(8) as threads:
        for made in threads.map(lambda _: over_ssh.dial("ssh://build", 1), range(40)):
            made.close()


def test_a_connection_outlives_the_thread_that_made_it(there: FakeEngine, tmp_path: Path) -> None:
    del there
    get = b"GET /_ping HTTP/1.1\r\nHost: build\r\n\r\n"

    def dial() -> socket.socket:
        made = over_ssh.dial("ssh://build", 20)
        while not (tmp_path / "typed").exists():  # until it runs
            time.sleep(0.01)
        return made

    with ThreadPoolExecutor(1) as threads:
        made = threads.submit(dial).result()
    time.sleep(0.2)  # an ssh that has been asked to end needs a moment for it

    with made:
        made.sendall(get)
        assert made.recv(100).startswith(b"HTTP/1.1 ")


def test_ports_are_at_the_address_that_ssh_s_configuration_names(
    there: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del there
    install(tmp_path, "printf 'user me\\nhostname 192.0.2.7\\nport 22\\n'")
    over_ssh.hostname.cache_clear()

    assert Endpoint.find().address == "192.0.2.7"

    over_ssh.hostname.cache_clear()
    install(tmp_path, "exit 1")
    monkeypatch.setenv("DOCKER_HOST", "ssh://127.0.0.1")
    assert Endpoint.find().address == "127.0.0.1"
    over_ssh.hostname.cache_clear()


def test_an_address_without_a_host_is_refused() -> None:
    assert "names no host" in Endpoint.find({"DOCKER_HOST": "ssh://"}).fault

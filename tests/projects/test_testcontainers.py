"""testcontainers' DockerCompose with copies, on the real engine: two at once with the user's own, nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from testcontainers.core.exceptions import ContainerIsNotRunning
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy
from tests.projects.test_copies import of_copies, the_user_s_own

from stackyard._util import process
from stackyard.cleanup import removal
from stackyard.errors import NotReadyError
from stackyard.project import Project
from stackyard.testcontainers import DockerCompose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

TWO = """
services:
  web:
    image: box
    command: [sh, -c, "echo web has begun; exec httpd"]
    ports: ["8080:80", "8081:81"]
    volumes: ["rows:/rows"]
    depends_on: [db]
    stop_grace_period: 100ms
  db: {image: box, stop_grace_period: 100ms, command: [sh, -c, "echo db has begun; exec httpd"]}
  other: {image: box, profiles: [more]}
volumes: {rows: {}}
"""


@pytest.fixture
def two(box: str, tmp_path: Path) -> Path:
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "compose.yaml").write_text(TWO.replace("image: box", f"image: {box}"))
    return folder


@pytest.fixture(autouse=True)
def gone(book: LeaseBook, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use the lease book of this test, and look after it: no copy and no lease is left."""
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(book.settings.state_dir))
    yield
    assert of_copies(engine, book) == []
    assert book.leases() == []


def answer(compose: Any, port: int) -> bytes:
    host, mapped = compose.get_service_host_and_port("web", port)
    with urllib.request.urlopen(f"http://{host}:{mapped}", timeout=60) as reply:
        return bytes(reply.read())


def test_two_at_once_beside_the_user_s_own_see_only_their_own(two: Path, engine: Engine, book: LeaseBook) -> None:
    pair = [DockerCompose(two), DockerCompose(two)]
    with (
        the_user_s_own(Project.find(two), possible=True),
        contextlib.ExitStack() as undo,
        ThreadPoolExecutor() as threads,
    ):
        for compose in pair:
            undo.callback(compose.stop)
        [*threads.map(DockerCompose.start, pair)]
        names = [{item.Name for item in compose.get_containers()} for compose in pair]

        assert [len(found) for found in names] == [2, 2]
        assert not names[0] & names[1]
        assert {answer(compose, port) for compose in pair for port in (80, 81)} == {b"box"}
        pair[0].stop()
        assert {item.name for item in of_copies(engine, book) if item.kind == "container"} == names[1]
        assert answer(pair[1], 80) == b"box"


def test_commands_logs_containers_and_configuration_are_the_copy_s(two: Path) -> None:
    with DockerCompose(two) as compose:
        assert compose.exec_in_container(["sh", "-c", "echo hello; echo oh >&2"], "web") == ("hello\n", "oh\n", 0)
        with pytest.raises(subprocess.CalledProcessError):
            compose.exec_in_container(["false"], "web")
        assert "web has begun" in compose.get_logs("web")[0]
        assert "db has begun" not in compose.get_logs("web")[0]
        found = compose.get_container("web")
        info = found.get_container_info()
        assert info is not None
        assert (found.State, info.State and info.State.Running) == ("running", True)
        ports = compose.get_config()["services"]["web"]["ports"]
        assert {port["published"] for port in ports} == {
            str(compose.get_service_port("web", port)) for port in (80, 81)
        }
        url = f"http://{compose.get_service_host('web', 80)}:{compose.get_service_port('web', 80)}"
        assert compose.wait_for(url) is compose
        with pytest.raises(ContainerIsNotRunning):
            compose.get_container("other")


def test_wait_strategies_of_testcontainers_find_the_copy(two: Path) -> None:
    strategies = {
        "web": HttpWaitStrategy(80).for_status_code(200).with_startup_timeout(120),
        "db": LogMessageWaitStrategy("db has begun").with_startup_timeout(120),
    }

    with DockerCompose(two, wait=False).waiting_for(strategies) as compose:
        assert answer(compose, 80) == b"box"


def test_volumes_stay_while_the_copy_is_only_stopped(two: Path) -> None:
    # any program may take the ports of stopped containers
    (two / "compose.override.yaml").write_text("services: {web: {ports: !reset []}}")
    compose = DockerCompose(two, keep_volumes=True)
    with compose:
        compose.exec_in_container(["sh", "-c", "echo 1 >/rows/kept"], "web")
    assert compose.get_containers() == []
    assert {item.State for item in compose.get_containers(include_all=True)} == {"exited"}
    compose.keep_volumes = False
    with compose:
        assert compose.exec_in_container(["cat", "/rows/kept"], "web") == ("1\n", "", 0)
    with compose, pytest.raises(subprocess.CalledProcessError):
        compose.exec_in_container(["cat", "/rows/kept"], "web")


def test_chosen_services_and_profiles_decide_what_starts(two: Path) -> None:
    def services(**options: Any) -> list[str]:
        with DockerCompose(two, **options) as compose:
            return sorted(item.Service or "" for item in compose.get_containers())

    assert services(services=["db"]) == ["db"]
    assert services(services=["web"]) == ["db", "web"]
    assert services(services=["other"]) == ["other"]
    assert services(profiles=["more"]) == ["db", "other", "web"]


def test_a_service_that_fails_is_named_and_nothing_is_left(two: Path) -> None:
    (two / "compose.override.yaml").write_text("services: {db: {command: [sh, -c, 'echo no disk; exit 3']}}")

    with pytest.raises(NotReadyError, match=r"db.*(?s:.)*no disk"), DockerCompose(two):
        pass


def test_an_async_test_may_use_it(two: Path) -> None:
    async def inside() -> bytes:
        with DockerCompose(two) as compose:
            return answer(compose, 80)

    assert asyncio.run(inside()) == b"box"


def test_what_a_killed_process_leaves_is_removed_by_the_next_clean_up(
    two: Path, book: LeaseBook, engine: Engine
) -> None:
    code = (
        "import os, signal; from stackyard.testcontainers import DockerCompose; "
        f"DockerCompose({str(two)!r}).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = {"STACKYARD_STATE_DIR": str(book.settings.state_dir), "STACKYARD_REAPER": "off"}

    done = process.run([sys.executable, "-c", code], deadline=280, env=env, check=False)

    assert done.returncode == -signal.SIGKILL
    assert len(of_copies(engine, book)) >= 4
    assert removal.sweep(book, engine).left == []

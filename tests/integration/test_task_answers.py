"""What tasks print about real stacks has the shape that docs/reference/json.md describes, and what they print works."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest

from stackyard.cli.json_output import SHAPES
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Host:
    """`invoke` as a user runs it, with a lease book of its own."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder = folder
        self.root = root or project_root()
        self.env = os.environ | {
            "STACKYARD_STATE_DIR": str(folder / "state"), "STACKYARD_REAPER": "off", "PYTHONPATH": f"{self.root}/src",
        }  # fmt: skip

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own program
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=600, check=False
        )

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "invoke", "-r", str(self.root), *words)

    def json(self, task: str, *words: str, code: int = 0) -> Any:
        done = self.invoke(task, "--json", *words)
        assert done.returncode == code, f"{done.stderr}{done.stdout[-3000:]}"
        answer = json.loads(done.stdout)
        jsonschema.validate(answer, SHAPES[task])
        return answer


@pytest.fixture
def host(tmp_path: Path, images: dict[str, str]) -> Iterator[Host]:
    assert images  # built beforehand, so that no task does
    host = Host(tmp_path)
    yield host
    assert host.invoke("cleanup.all", "--yes").returncode == 0


@pytest.mark.timeout(900)  # 25 commands
def test_the_answers_about_a_stack_have_their_shapes(host: Host) -> None:
    up = host.json("env.up", "--name", "mine", "--force", "--ttl", "10m")
    assert (up["name"], set(up["urls"])) == ("mine", {"postgres", "redis", "auth", "backend", "websocket"})
    assert up["deadline"] - up["created"] > 500

    assert {row["service"] for row in host.json("env.status", "mine")["services"]} >= {
        "postgres",
        "redis",
        "auth",
        "backend",
    }
    assert len(host.json("env.wait")["services"]) == 5
    assert host.json("env.logs", "postgres", "--tail", "5")["services"][0]["service"] == "postgres"
    query = ("psql", "-U", "postgres", "-tAc", "select 'a b'", "app")
    assert host.json("env.exec", "postgres", "--", *query)["stdout"] == "a b\n"
    assert host.json("env.restart", "redis")["service"] == "redis"
    host.json("env.wait", "--timeout", "1m")
    assert host.json("env.reset")["seconds"] > 0
    assert len(host.json("monitor.stats", "--once")["services"]) >= 4
    assert host.json("monitor.export", "--once")
    assert host.json("ports.check")["leases"][0]["bound"]
    assert host.json("images.list")
    assert host.json("images.build", "--flavour", "debian")["images"]
    assert host.json("cleanup.plan")
    assert host.json("verify.stack", "mine")["looks"] > 0
    assert host.json("env.capacity")["stacks"] >= 0
    assert host.json("env.down", "mine")["leases"] == [up["lease"]]


@pytest.fixture
def elsewhere(tmp_path: Path, images: dict[str, str]) -> Iterator[Host]:
    """Tasks of a copy of the checkout, for those that write into it."""
    assert images
    root = tmp_path / "checkout"
    for name in ("src", "compose", "envs", "docs", "scripts"):
        shutil.copytree(project_root() / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tasks.py", "noxfile.py", "noxw", "pyproject.toml", "requirements.lock"):
        shutil.copy(project_root() / name, root)
    host = Host(tmp_path, root)
    yield host
    assert host.invoke("cleanup.all", "--yes").returncode == 0


@pytest.mark.timeout(900)  # 20 s on an idle machine
def test_what_is_verified_has_its_shape(elsewhere: Host) -> None:
    for task in ("verify.dockerfiles", "verify.compose"):
        report = elsewhere.json(task)
        assert (report["looks"] > 0, report["detections"]) == (True, {})
    assert elsewhere.json("verify.docs") == {"files": ["docs/checks.md"]}
    everything = elsewhere.json("verify.all", "--flavour", "debian")
    assert everything["looks"] > 100
    assert any("sbom" in name for name in everything["files"])
    assert len(everything["detections"]["test"]) >= 4


@pytest.mark.timeout(900)  # 10 s on an idle machine
def test_what_is_measured_has_its_shape(elsewhere: Host) -> None:
    run = elsewhere.json("bench.run", "reset", "--quick", "--rounds", "1")
    assert (run["suites"], bool(run["results"])) == (["reset"], True)
    assert [kept["id"] for kept in elsewhere.json("bench.history")] == [run["id"]]
    assert "reports/index.html" in elsewhere.json("bench.report")["files"]


def test_the_lines_that_allocate_prints_start_and_end_a_stack(host: Host) -> None:
    given = host.json("ports.allocate", "--force")
    assert host.run(*shlex.split(given["command"])).returncode == 0

    refused = host.invoke("ports.release")
    assert refused.returncode == 8
    assert f"'{given['end_command']}' removes the stack and the lease" in refused.stderr

    ended = host.invoke(*shlex.split(given["end_command"])[1:])
    assert (ended.returncode, "is down: 5 removed" in ended.stdout) == (0, True), ended.stderr
    assert host.json("ports.list") == []


def test_the_script_writes_what_plain_compose_needs(host: Host) -> None:
    script = str(project_root() / "scripts" / "allocate_test_ports.py")

    assert host.run(sys.executable, script, "--parallel-id", "test-1", "--force").returncode == 0
    compose = ["docker", "compose", "-f", str(project_root() / "compose/docker-compose.unified.yml")]
    assert host.run(*compose, "--env-file", ".env.dynamic", "config", "--quiet").returncode == 0
    assert host.run(sys.executable, script, "--parallel-id", "test-1", "--release").returncode == 0

"""What ``--json`` prints has the shape that docs/reference/json.md describes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest
import tasks
from fake_docker import install_docker
from fake_probes import Answering, replace_probes
from fake_stacks import result, run
from invoke_shell import Shell, shaped

from stackyard.bench.history import History
from stackyard.cli.json_output import SHAPES
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

LEASED = [
    "ports.list", "ports.check", "ports.renew", "env.status", "env.logs", "env.logs redis --timestamps", "env.wait",
    "env.restart redis", "env.capacity", "env.pool", "env.down", "cleanup.plan", "cleanup.stale --dry-run",
    "cleanup.stale", "cleanup.all --yes --dry-run", "cleanup.all --yes", "ports.gc", "monitor.stats --once",
    "monitor.export --once", "doctor", "reaper.status", "reaper.stop", "env.up --name other --force",
]  # fmt: skip


@pytest.fixture
def shell(
    tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("stackyard.images.ensure", lambda *_, **__: {"redis": "stackyard/redis:debian-abc"})
    replace_probes(monkeypatch, Answering)
    install_docker(tmp_path, "echo out; exit 0")
    shell = Shell(capsys)
    lease = shell.json("ports.allocate", "mine", "--force")
    fake_engine.container("redis", lease["lease"])["labels"]["stackyard.host"] = Settings.load().host
    return shell


def test_every_task_has_a_shape_and_every_shape_a_task() -> None:
    assert set(SHAPES) == set(tasks.ns.task_names)
    for schema in SHAPES.values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("words", LEASED)
def test_the_answer_about_a_stack_has_its_shape(shell: Shell, words: str) -> None:
    assert shell.json(*words.split()) is not None


def test_a_command_inside_a_service_and_a_release_have_their_shape(shell: Shell, fake_engine: FakeEngine) -> None:
    done = shaped("env.exec", json.loads(shell.run("env.exec", "redis", "--json", "--", "echo", "a b")[1]))
    assert done["exit_code"] == 0
    fake_engine.containers.clear()
    assert shell.json("ports.release", "mine")["released"] is True


@pytest.mark.parametrize("words", ["bench.history", "bench.compare", "bench.gate --against base00000000"])
def test_runs_have_their_shape(shell: Shell, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = History(file=tmp_path / "reports" / "history.jsonl")
    monkeypatch.setattr(History, "of_project", lambda: kept)
    for identity in ("base00000000", "new000000000"):
        kept.append(
            run(result("startup", "stackyard", 1.0, 1.1), result("startup", "compose-100ms", 2.0), identity=identity)
        )

    assert shell.json(*words.split())


def test_a_wrong_answer_is_noticed() -> None:
    answer: dict[str, Any] = {"stopped": "no"}
    with pytest.raises(jsonschema.ValidationError):
        shaped("reaper.stop", answer)
    with pytest.raises(jsonschema.ValidationError):
        shaped("reaper.stop", {"stopped": True, "more": 1})

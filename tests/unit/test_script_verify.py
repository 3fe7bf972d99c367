"""scripts/verify_alpine_containers.py, called in this process."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from image_archives import chunked, sound_alpine
from scripts import verify_alpine_containers as script

from stackyard import images as yard
from stackyard.checks import running_stacks
from stackyard.checks.composition import Model
from stackyard.docker import Engine, MemoryUse, Resource
from stackyard.docker import images as engine_images
from stackyard.project.environments import project_root
from stackyard.stacks.environments import launch
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class FakeStack:
    """A stack that stands until it is taken down."""

    standing = 0

    def __init__(self, environment: Any, engine: Engine) -> None:
        self.environment, self.engine = environment, engine
        self.labels = ["stackyard.lease=l1"]
        FakeStack.standing += 1

    def down(self) -> FakeStack:
        FakeStack.standing -= 1
        return self

    def check(self) -> None:
        """Nothing is left."""


@pytest.fixture(autouse=True)
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with every image built, on which stacks start at once and all is well."""
    for name in ("envs", "compose"):
        shutil.copytree(project_root() / name, tmp_path / name, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    monkeypatch.setenv("STACKYARD_ROOT", str(tmp_path))
    archive = sound_alpine().archive()
    starts = {"test": iter([9.0, 4.0, 4.4]), "alpine-test": iter([1.0, 2.0, 3.0, 2.5])}

    def references(flavour: str, *_: object, **__: object) -> dict[str, str]:
        return {"auth": f"stackyard/auth:{flavour}-0"}

    def image(flavour: str, size: int) -> yard.Image:
        return yard.Image(
            service="auth", flavour=flavour, reference=f"stackyard/auth:{flavour}-0", size=size, created=0, base="",
            source="packages", id="x",
        )  # fmt: skip

    def started(environment: Any, _book: object, engine: Engine, *_: object) -> tuple[FakeStack, Startup]:
        return FakeStack(environment, engine), Startup(seconds=next(starts[environment.name]))

    def containers(_engine: Engine, labels: Sequence[str]) -> list[Resource]:
        return [Resource(kind="container", id=name, name=name, labels=dict.fromkeys(labels, "")) for name in "ab"]

    monkeypatch.setattr(yard, "references", references)
    monkeypatch.setattr(yard, "ensure", references)
    monkeypatch.setattr(yard, "listing", lambda: [image("debian", 20_000_000), image("alpine", 9_000_000)])
    monkeypatch.setattr(launch, "launch", started)
    monkeypatch.setattr(engine_images, "architecture", lambda _engine: "amd64")
    monkeypatch.setattr(engine_images, "export", lambda _engine, _reference: chunked(archive))
    monkeypatch.setattr(Engine, "containers", containers)
    monkeypatch.setattr(Engine, "memory", lambda _engine, _id: MemoryUse(used=10 << 20, anonymous=0, limit=0))
    monkeypatch.setattr(running_stacks, "look", lambda _stack: running_stacks.Running(containers=[]))
    monkeypatch.setattr(Model, "render", lambda *_: Model(profiles=frozenset(), services={}))


def test_the_flavours_are_compared_by_the_median_of_three_starts(capsys: pytest.CaptureFixture[str]) -> None:
    code = script.main(["--benchmark", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (code, told["findings"], told["fixed"]) == (0, [], [])
    # the first start of the Alpine stack served the checks
    assert told["benchmark"] == [
        {
            "flavour": "debian",
            "images_bytes": 20_000_000,
            "startup_seconds": 4.4,
            "memory_bytes": 20 << 20,
            "starts": 3,
        },
        {"flavour": "alpine", "images_bytes": 9_000_000, "startup_seconds": 2.5, "memory_bytes": 20 << 20, "starts": 3},
    ]
    assert FakeStack.standing == 0


def test_what_can_be_fixed_automatically_is_fixed_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "compose/redis/Dockerfile.alpine"
    sound = file.read_text()
    file.write_text("# syntax=docker/dockerfile:1\n" + sound)

    before = script.main([])
    after = script.main(["--fix"])

    assert (before, after, file.read_text()) == (9, 0, sound)
    out = capsys.readouterr()
    assert "fixed compose/redis/Dockerfile.alpine" in out.out
    assert out.err.startswith("verify_alpine_containers.py: 1 errors of dockerfile-syntax")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--env", "test"], 2, "--env test: its images are debian"),
        (["--env", "nope"], 2, "unknown environment 'nope'"),
    ],
)
def test_a_wrong_environment_is_one_line_and_an_exit_code(
    words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(words) == code
    assert capsys.readouterr().err.startswith(f"verify_alpine_containers.py: {text}")

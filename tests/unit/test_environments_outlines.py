"""What is kept of an environment between commands, and when it is not used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stackyard.project.environments
from stackyard._util import state_directory
from stackyard.errors import ConfigError, UsageError
from stackyard.project.environments import Environment, outline
from stackyard.project.environments import environment as environment_module
from stackyard.project.environments import outlines as module
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a project that may be changed, whose files count as settled at once."""
    project = tmp_path / "project"
    for folder in ("envs", "compose"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    monkeypatch.setattr(module, "SETTLED", -(10**18))
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / state_directory.MARK).touch()
    return Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_ROOT": str(project)})


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The environments that were read in full."""
    found: list[str] = []
    load = Environment.load

    def note(name: str, root: Path | None = None) -> Environment:
        found.append(name)
        return load(name, root)

    monkeypatch.setattr(environment_module.Environment, "load", note)
    return found


def notes(settings: Settings) -> Path:
    return settings.state_dir / "outlines" / "test.json"


def project(settings: Settings) -> Path:
    assert settings.root is not None
    return settings.root


def test_an_outline_says_what_the_environment_says(settings: Settings) -> None:
    made, kept, whole = outline("test", settings), outline("test", settings), Environment.load("test", settings.root)

    assert made == kept
    assert {key: getattr(whole, key) for key in made._fields} == kept._asdict()


def test_what_is_kept_is_not_read_again(settings: Settings, loads: list[str]) -> None:
    outline("test", settings)
    outline("test", settings)

    assert loads == ["test"]
    assert notes(settings).stat().st_mode & 0o777 == 0o600


def reserve_less(settings: Settings) -> None:
    file = project(settings) / "compose/docker-compose.unified.yml"
    file.write_text(file.read_text() + "# another line\n")


def say_more(settings: Settings) -> None:
    file = project(settings) / "envs/.env.test"
    file.write_text(file.read_text() + "# another line\n")


def replace_yaml(settings: Settings) -> None:
    """Put another file of the same size and times in its place."""
    file = project(settings) / "envs/docker_environments.yaml"
    before = file.stat()
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(file)


def break_notes(settings: Settings) -> None:
    notes(settings).write_text("{")


def write_nonsense(settings: Settings) -> None:
    notes(settings).write_text("[1, 2]")


def forget_a_field(settings: Settings) -> None:
    found = json.loads(notes(settings).read_text())
    del found["outline"]["subnet"]
    notes(settings).write_text(json.dumps(found))


def forget_the_code(settings: Settings) -> None:
    found = json.loads(notes(settings).read_text())
    found["stamps"] = {file: stamp for file, stamp in found["stamps"].items() if not file.endswith(".py")}
    notes(settings).write_text(json.dumps(found))


def move_the_project(settings: Settings) -> None:
    found = json.loads(notes(settings).read_text())
    notes(settings).write_text(json.dumps(found | {"root": "/elsewhere"}))


def open_to_others(settings: Settings) -> None:
    notes(settings).chmod(0o622)


def link(settings: Settings) -> None:
    kept = notes(settings).rename(notes(settings).with_name("kept"))
    notes(settings).symlink_to(kept)


def wait_for_ever(settings: Settings) -> None:
    notes(settings).unlink()
    os.mkfifo(notes(settings), 0o600)


@pytest.mark.parametrize(
    "change",
    [
        reserve_less, say_more, replace_yaml, break_notes, write_nonsense, forget_a_field, forget_the_code,
        move_the_project, open_to_others, link, wait_for_ever,
    ],
)  # fmt: skip
def test_what_was_kept_is_made_anew_after_any_change(
    settings: Settings, loads: list[str], change: Callable[[Settings], None]
) -> None:
    before = outline("test", settings)
    change(settings)

    assert outline("test", settings) == before
    assert loads == ["test", "test"]


def test_files_changed_a_moment_ago_are_not_kept(
    settings: Settings, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED", 10**18)
    outline("test", settings)
    outline("test", settings)

    assert loads == ["test", "test"]
    assert not notes(settings).exists()


def test_a_file_that_has_become_wrong_is_an_error_though_it_was_kept(settings: Settings) -> None:
    outline("test", settings)
    (project(settings) / "envs/.env.test").write_text("nonsense\n")

    with pytest.raises(ConfigError, match="must be NAME=value"):
        outline("test", settings)


def test_a_state_directory_that_cannot_be_written_only_costs_time(settings: Settings, loads: list[str]) -> None:
    notes(settings).parent.write_text("in the way")

    assert outline("test", settings) == outline("test", settings)
    assert loads == ["test", "test"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "no-such"])
def test_a_name_that_is_no_environment_is_refused_and_not_looked_for(settings: Settings, name: str) -> None:
    with pytest.raises(UsageError, match="unknown environment"):
        outline(name, settings)

    assert not notes(settings).parent.exists()


def test_a_look_at_an_environment_makes_no_state_directory(settings: Settings, loads: list[str]) -> None:
    shutil.rmtree(settings.state_dir)
    outline("test", settings)
    outline("test", settings)

    assert not settings.state_dir.exists()
    assert loads == ["test", "test"]


def test_notes_are_never_written_through_a_link(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "test.json").write_text("mine")
    notes(settings).parent.symlink_to(tmp_path / "victim")
    outline("test", settings)

    assert [(path.name, path.read_text()) for path in (tmp_path / "victim").iterdir()] == [("test.json", "mine")]


def test_the_package_has_what_it_lists_and_nothing_else() -> None:
    assert all(
        getattr(stackyard.project.environments, name) is not None for name in stackyard.project.environments.__all__
    )
    with pytest.raises(AttributeError, match="no attribute 'Outlaw'"):
        stackyard.project.environments.Outlaw  # noqa: B018 - asked for only to be refused

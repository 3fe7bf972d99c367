"""The scripts, started by any Python, from any folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.py") if not path.name.startswith("_"))
STRANGER = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"  # a Python without stackyard


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_any_python_from_any_folder_runs_it(script: Path, tmp_path: Path) -> None:
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("there is no .venv here to go on in")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("STACKYARD_", "PYTHON"))}

    done = subprocess.run(  # noqa: S603 - our own program
        [STRANGER, script, "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("project_of_scripts", ROOT / "scripts/_project.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HOME", tmp_path / ".venv")
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    monkeypatch.setattr(sys, "argv", ["scripts/some.py", "--help"])
    return module


def test_a_missing_environment_is_made_first(
    project: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[Any] = []

    def run(words: list[str], **_: object) -> SimpleNamespace:
        done.append(words[1:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(project.subprocess, "run", run)
    monkeypatch.setattr(project.os, "execv", lambda program, words: done.append((program, words[1:])))

    project.enter()

    assert done == [
        [str(ROOT / "noxw"), "--no-engine", "--setup-only"],
        (str(project.HOME / "bin/python"), ["scripts/some.py", "--help"]),
    ]
    assert capsys.readouterr().err == "some.py: .venv is missing, so ./noxw makes it first\n"


def test_a_set_up_that_fails_ends_with_its_exit_code(project: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3))

    with pytest.raises(SystemExit) as caught:
        project.enter()

    assert caught.value.code == 3


def test_an_old_python_is_reported_in_one_line(project: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))

    with pytest.raises(SystemExit) as caught:
        project.enter()

    assert (
        caught.value.code
        == "some.py: needs Python 3.11 or newer, and this is 3.9; start it with another, such as python3.11"
    )


def test_an_environment_that_does_not_start_is_one_line(project: ModuleType) -> None:
    (project.HOME / "bin").mkdir(parents=True)
    (project.HOME / "bin/python").write_text("")

    with pytest.raises(SystemExit) as caught:
        project.enter()

    assert str(caught.value.code).startswith(f"some.py: cannot start {project.HOME}/bin/python: ")

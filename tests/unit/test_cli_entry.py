"""What the program `stackyard` does before its modules are imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest
from fake_project import FakeDocker

from stackyard._util import process
from stackyard.cli import entry
from stackyard.project import Project
from stackyard.project.project import render_ahead

if TYPE_CHECKING:
    from fake_engine import FakeEngine

ROOT: Final = Path(__file__).parents[2]
LEAN: Final = """
import sys
from stackyard.cli.entry import lean_invoke
with lean_invoke():
    import invoke.program
    from importlib.metadata import entry_points
present = [name for name in ("unittest.mock", "yaml", "invoke.vendor.yaml.scanner") if name in sys.modules]
from unittest.mock import MagicMock
print(present, len(entry_points()) >= 0, invoke.config.yaml.safe_load("a: [1]"), sys.meta_path[0].__name__)
"""


@pytest.mark.parametrize(
    ("words", "may"),
    [
        (["up"], True),
        (["up", "--name", "mine", "--ttl=2h", "--json"], True),
        (["run", "--name", "mine", "--", "pytest", "--file", "x"], True),
        (["up", "--file", "other.yaml"], False),
        (["up", "--env-file=x"], False),
        (["up", "-p", "debug"], False),
        (["up", "--site", "swarm"], False),
        (["up", "--help"], False),
        (["--list"], False),
        (["down", "mine"], False),
        ([], False),
    ],
)
def test_only_a_start_of_the_folders_own_project_is_read_ahead(words: list[str], may: bool) -> None:
    assert entry.may_render_ahead(words) is may


@pytest.mark.parametrize("place", ["stackyard.project.project.render_ahead", "stackyard.cli.entry.lean_invoke"])
def test_ctrl_c_before_there_is_a_command_is_no_traceback(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stackyard", "up"])
    monkeypatch.setattr("stackyard.project.project.render_ahead", lambda _folder: None)
    monkeypatch.setattr(place, interrupted)

    with pytest.raises(SystemExit) as ended:
        entry.main()

    assert ended.value.code == 130


def test_invoke_is_imported_without_what_no_command_uses_and_can_load_it_later() -> None:
    done = process.run([sys.executable, "-c", LEAN], deadline=240)

    assert done.stdout == "[] True {'a': [1]} BuiltinImporter\n"


@pytest.mark.parametrize("program", ["stackyard", "invoke"])
def test_python_keeps_what_a_command_compiles(program: str, tmp_path: Path) -> None:
    variables = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    words = {"stackyard": ["down", "nope"], "invoke": ["env.status", "--name", "nope"]}[program]

    process.run([sys.executable, "-m", program, *words], deadline=240, env=variables, cwd=ROOT, check=False)

    kept = {path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc")}
    assert {"book", "records"} <= kept


@pytest.fixture
def docker(tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    made = FakeDocker(fake_engine)
    made.install(monkeypatch)
    (tmp_path / "compose.yaml").touch()
    return made


def test_renderings_that_were_begun_ahead_are_used_once(tmp_path: Path, docker: FakeDocker) -> None:
    render_ahead(tmp_path)

    first = Project.find(tmp_path)
    assert [first.model()["name"], first.model(name="mine")["name"]] == ["shop", "mine"]
    assert len(docker.calls) == 3
    assert Project.find(tmp_path).model(name="mine") == first.model(name="mine")
    assert len(docker.calls) == 6


def test_renderings_of_another_environment_are_not_used(
    tmp_path: Path, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_ahead(tmp_path)
    monkeypatch.setenv("WEB_PORT", "81")

    found = Project.find(tmp_path)
    found.model(name="mine")

    assert found.environment["WEB_PORT"] == "81"
    assert len(docker.calls) == 6


def test_renderings_ahead_have_the_env_files_of_the_configuration(tmp_path: Path, docker: FakeDocker) -> None:
    (tmp_path / "stackyard.toml").write_text('env_files = ["ci.env"]')
    (tmp_path / "ci.env").touch()
    render_ahead(tmp_path)

    found = Project.find(tmp_path)
    found.model(), found.model(name="mine")

    assert found.words == ("--env-file", f"{tmp_path}/ci.env")
    assert len(docker.calls) == 3

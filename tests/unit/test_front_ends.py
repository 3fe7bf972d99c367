"""What other projects' noxfile.py and tasks.py import."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import stackyard.invoke
import stackyard.nox
from stackyard._util import process
from stackyard.errors import NotReadyError
from stackyard.running import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    import nox

INVOKE = str(Path(sys.executable).with_name("invoke"))
TASKS = """
from invoke import Collection, task
import stackyard.invoke

@task
def hello(c):
    print("hello")

ns = Collection(hello, stackyard.invoke.collection(), stackyard.invoke.collection("other"))
"""


class Fake(Stack):
    env = {"STACKYARD_WEB_URL": "http://127.0.0.1:9500", "TOWN": "Ulm"}  # noqa: RUF012

    def __init__(self) -> None: ...


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    @contextlib.contextmanager
    def running(environment: str | None, **options: Any) -> Iterator[Any]:
        calls.append((environment, options))
        options["progress"]("waiting for a turn")
        yield Fake() if environment is None else SimpleNamespace(lease=SimpleNamespace(variables=lambda: {"A": "1"}))
        calls.append("removed")

    monkeypatch.setattr(stackyard.nox, "running", running)
    return calls


def test_a_nox_session_knows_the_addresses_while_the_block_runs(asked: list[Any]) -> None:
    said: list[str] = []
    session = SimpleNamespace(env={"TOWN": "Bonn"}, log=said.append)

    with stackyard.nox.stack(cast("nox.Session", session), folder="shop", timeout=5.0) as told:
        assert session.env == told == {"STACKYARD_WEB_URL": "http://127.0.0.1:9500", "TOWN": "Ulm"}

    assert session.env == {"TOWN": "Bonn"}
    assert asked == [(None, {"progress": session.log, "folder": "shop", "timeout": 5.0}), "removed"]
    assert said == ["waiting for a turn"]


def test_a_nox_session_may_name_an_environment(asked: list[Any]) -> None:
    session = SimpleNamespace(env={}, log=lambda _line: None)

    with stackyard.nox.stack(cast("nox.Session", session), "test"):
        assert session.env == {"A": "1"}

    assert asked[0][0] == "test"


def test_a_nox_session_whose_block_fails_forgets_the_addresses(asked: list[Any]) -> None:
    del asked  # in place
    session = SimpleNamespace(env={}, log=lambda _line: None)

    with pytest.raises(NotReadyError), stackyard.nox.stack(cast("nox.Session", session)):
        raise NotReadyError("mine")

    assert session.env == {}


def test_a_nox_session_whose_stack_does_not_start_fails_with_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def error(text: str) -> None:
        raise SystemExit(text)

    def running(*_: object, **__: object) -> Stack:
        raise NotReadyError("shop did not start: web ended with exit code 1")

    monkeypatch.setattr(stackyard.nox, "running", running)
    session = SimpleNamespace(env={}, log=lambda _line: None, error=error)

    with pytest.raises(SystemExit, match=r"^shop did not start: web ended with exit code 1$"):  # noqa: SIM117 - as written
        with stackyard.nox.stack(cast("nox.Session", session)):
            pytest.fail("the block ran")


def test_a_nox_session_with_a_wrong_option_fails_with_a_line_that_names_the_right_one() -> None:
    def error(text: str) -> None:
        raise SystemExit(text)

    session = SimpleNamespace(env={}, log=lambda _line: None, error=error)

    with pytest.raises(SystemExit, match=r"^a copy takes no option 'profile'; did you mean 'profiles'\?"):  # noqa: SIM117 - as written
        with stackyard.nox.stack(cast("nox.Session", session), profile=["tools"]):
            pytest.fail("the block ran")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["hello"], 0, "hello"),
        (["--list"], 0, "stack.up"),
        (["--list"], 0, "other.down"),
        (["stack.up", "--help"], 0, "--name=STRING"),
        (["stack.down", "--name", "mine"], 3, "no engine answers"),
        (["stack.check", "--folder", "/nowhere"], 2, "/nowhere"),
    ],
)
def test_a_project_s_own_tasks_have_ours_beside_them(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    env = {"STACKYARD_STATE_DIR": str(tmp_path / "state"), "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}

    done = process.run([INVOKE, *words], deadline=240, env=env, cwd=tmp_path, check=False)

    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("forbidden", "kept"), [("", {"book", "copies", "records"}), ("1", set())])
def test_python_keeps_what_it_compiles_of_ours_and_leaves_a_team_s_own_modules_to_invoke(
    tmp_path: Path, forbidden: str, kept: set[str]
) -> None:
    (tmp_path / "tasks.py").write_text(f"import own_before\n{TASKS}\nimport own_after\n")
    for name in ("own_before", "own_after"):
        (tmp_path / f"{name}.py").touch()
    variables = {"PYTHONPYCACHEPREFIX": str(tmp_path / "kept"), "PYTHONDONTWRITEBYTECODE": forbidden}

    process.run([INVOKE, "stack.down", "--name", "nope"], deadline=240, env=variables, cwd=tmp_path, check=False)

    found = {path.name.partition(".")[0] for path in (tmp_path / "kept").rglob("*.pyc")}
    assert kept <= found
    assert {"own_before", "own_after"}.isdisjoint(found)
    assert bool(found) is bool(kept)


def test_tasks_that_need_words_after_two_dashes_are_left_out() -> None:
    assert {"exec", "run"}.isdisjoint(stackyard.invoke.collection().task_names)

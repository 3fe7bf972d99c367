"""Input from outside that is too long, too deep, or of another shape: one line, and the exit code of its kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from invoke.exceptions import Exit

from stackyard._util import files
from stackyard._util.advice import Action, offer
from stackyard.cli import options
from stackyard.cli.common import failing_cleanly
from stackyard.docker import Engine
from stackyard.docker.endpoint import Endpoint
from stackyard.errors import CommandError, UsageError
from stackyard.plan.missing_files import missing_files
from stackyard.project import configuration, rendering
from stackyard.project.compose_files import FILES, home
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard.project import Project

LONG = "x" * 300


def refusal(folder: Path, error: CommandError, *words: str) -> Exception:
    """Return what a user reads when `docker compose config` ends like this in *folder*."""
    return rendering._refusal(words, folder, {}, error)


def test_a_path_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    assert [files.exists(tmp_path / name) for name in (LONG, "a\0b")] == [False, False]
    assert files.exists(tmp_path)
    assert home((), tmp_path / LONG, {}) == tmp_path / LONG
    (tmp_path / FILES[0]).touch()
    assert home((), tmp_path / LONG, {}) == tmp_path


@pytest.mark.parametrize(
    "service",
    [
        {"env_file": [{"path": f"/{LONG}"}]}, {"build": {"context": f"/{LONG}"}},
        {"volumes": [{"type": "bind", "source": f"/{LONG}", "target": "/x", "read_only": True}]},
    ],
)  # fmt: skip
def test_a_file_with_a_name_that_no_file_can_have_is_a_missing_one(service: dict[str, object]) -> None:
    shop = SimpleNamespace(template={"services": {"web": service}}, enabled=lambda: frozenset({"web"}))

    (found,) = missing_files(cast("Project", shop))

    assert LONG in found.text


def test_a_state_directory_below_a_loop_of_links_has_a_book_of_its_own(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    assert len(Settings.load({"STACKYARD_STATE_DIR": str(loop / "x")}).host) == 12


@pytest.mark.parametrize("text", ["a=" + "[" * 20_000 + "]" * 20_000, "timeout = " + "9" * 6000, "x = ["])
def test_toml_that_python_cannot_read_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / configuration.OWN).write_text(text)

    with pytest.raises(UsageError, match=r"^stackyard.toml is not valid TOML: [^\n]*$"):
        configuration.Configuration.read(tmp_path, {})


@pytest.mark.parametrize(("text", "refused"), [("[]", True), ("[" * 200_000, True), ("{", False), ("{}", False)])
def test_a_config_json_of_docker_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_engine: object, text: str, refused: bool
) -> None:
    del fake_engine  # answers
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(text)

    with Engine() as engine:
        if not refused:
            engine.api.close()
            return
        with pytest.raises(UsageError, match=f"^{tmp_path}/config.json, the docker client's configuration, must be"):
            engine.api.close()


def test_a_project_that_compose_cannot_read_in_time_is_the_user_s_to_change(tmp_path: Path) -> None:
    found = refusal(tmp_path, CommandError(["docker", "compose", "config"], None, ""))

    assert isinstance(found, UsageError)
    assert f"{tmp_path}: Compose has not read the project's files within 25 s" in str(found)


def test_advice_is_that_of_the_program_that_shows_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackyard._util.advice._commands", {})
    found = refusal(tmp_path, CommandError(["docker"], 1, "docker: 'compose' is not a docker command"))
    offer({Action.CHECK_HOST: "yard look"})

    assert "yard look" in str(found)


def test_an_engine_that_a_process_without_free_files_cannot_ask_is_not_said_to_be_down() -> None:
    said = Endpoint.find({}).away(OSError(24, "Too many open files"))

    assert "raise the limit, with 'ulimit -n 1024'" in said
    assert "start it" not in said


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), BlockingIOError(11, "Resource temporarily unavailable")]
)
def test_a_limit_on_processes_is_one_line_that_says_so(error: Exception) -> None:
    @failing_cleanly
    def fail() -> None:
        raise error

    with pytest.raises(Exit, match=r"^this process may start no more processes or threads; end some, or raise") as it:
        fail()

    assert it.value.code == 1


@pytest.mark.parametrize("error", [RuntimeError("x"), BlockingIOError(11, "write could not complete without blocking")])
def test_another_error_is_not_taken_for_a_limit(error: Exception) -> None:
    @failing_cleanly
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        fail()


def test_an_error_moves_no_cursor_and_changes_no_colour() -> None:
    @failing_cleanly
    def fail() -> None:
        raise UsageError("e\x1b[31mvil\r\nnext\tword é")

    with pytest.raises(Exit) as caught:
        fail()

    assert caught.value.message == "e\\x1b[31mvil\\r\nnext\tword é"


@pytest.mark.parametrize("option", ["--file", "--env-file"])
def test_an_option_names_a_file_that_no_file_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"--file": ([LONG], None), "--env-file": (None, [LONG])}[option]

    with pytest.raises(UsageError, match=f"^{option} {LONG}: no such file in {tmp_path}$"):
        options.project(given[0], None, given[1])


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ((), "needs 1 variable that has no value: KEY (from the vault); set it, or write it to .env"),
        ((".env.example",), "set it, or copy .env.example to .env and complete it"),
        ((".env", ".env.example"), "set it, or write it to .env"),
    ],
)
def test_a_missing_variable_says_where_to_write_it(tmp_path: Path, there: tuple[str, ...], said: str) -> None:
    for name in there:
        (tmp_path / name).touch()
    output = "required variable KEY is missing a value: from the vault"

    assert str(refusal(tmp_path, CommandError(["docker"], 1, output))).endswith(said)


def test_a_missing_variable_is_for_the_env_file_that_compose_reads(tmp_path: Path) -> None:
    output = "required variable KEY is missing a value: set KEY"
    (tmp_path / "api").mkdir()
    (tmp_path / "api/.env.example").touch()

    said = [str(refusal(tmp_path, CommandError(["docker"], 1, output), *words)).rpartition(", or ")[2] for words in (
        ("--file", "api/compose.yaml"), ("--file", "compose.yaml"),
        ("--file", "api/compose.yaml", "--env-file", "a.env", "--env-file", "b.env"),
    )]  # fmt: skip

    assert said == ["copy api/.env.example to api/.env and complete it", "write it to .env", "write it to b.env"]


def test_a_refusal_names_the_files_where_compose_does_not_say_which(tmp_path: Path) -> None:
    for name in ("compose.yaml", "compose.override.yaml"):
        (tmp_path / name).touch()

    said = [str(refusal(tmp_path, CommandError(["docker"], 1, text))) for text in (
        "yaml: line 4: could not find expected ':'", f"validating {tmp_path}/compose.yaml: services must be a mapping",
    )]  # fmt: skip

    assert said[0].startswith(f"{tmp_path}: Compose refuses the project of compose.yaml, compose.override.yaml: yaml: ")
    assert said[1].startswith(f"{tmp_path}: Compose refuses the project: validating ")


def test_a_folder_without_a_project_names_those_below_it(tmp_path: Path) -> None:
    none = CommandError(["docker"], 14, "no configuration file provided: not found")
    alone = str(refusal(tmp_path, none))
    for name in ("search/deploy/compose.yml", "api/docker-compose.yml", ".cache/compose.yaml", "a/b/c/d/compose.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()

    assert alone.endswith("change to the project's folder, or name a file")
    assert (
        str(refusal(tmp_path, none)) == f"{alone}; below this folder: api/docker-compose.yml, search/deploy/compose.yml"
    )

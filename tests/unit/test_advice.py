from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import advice
import pytest
import tasks

from stackyard import invoke
from stackyard._util.advice import WITH_SITE, Action, typed
from stackyard.cli import console
from stackyard.cli.commands import COMMANDS
from stackyard.cli.program import Program
from stackyard.cli.sessions import words

if TYPE_CHECKING:
    from pathlib import Path

ADVICE = advice.found()
INVOKE = [item for item in ADVICE if item.text.startswith("invoke ")]
CONSOLE = [item for item in ADVICE if item.text.startswith(f"{console.NAME} ")]
NOX = [item for item in ADVICE if not item.text.startswith(("invoke ", f"{console.NAME} "))]


def ids(item: advice.Advice) -> str:
    return f"{item.where}: {item.text}"


@pytest.mark.parametrize("item", INVOKE, ids=ids)
def test_every_task_that_a_text_names_exists_with_its_options(item: advice.Advice) -> None:
    program = Program(namespace=tasks.ns, version="0")
    program.create_config()
    program.parse_core(shlex.split(item.text))
    program.parse_collection()

    program.parse_tasks()  # raises Exit for a word that no task takes

    assert len(program.tasks) == 1


@pytest.mark.parametrize("item", CONSOLE, ids=ids)
def test_every_command_of_the_program_that_a_text_names_exists_with_its_options(item: advice.Advice) -> None:
    # an option that is only named gets a value
    words = [*shlex.split(item.text), *(["local"] if item.text.endswith("--site") else [])]
    program = console.Console(version="0", namespace=console.namespace(), name=console.NAME)
    program.create_config()
    program.parse_core(words)
    program.parse_collection()

    program.parse_tasks()  # raises Exit for a word that no command takes

    assert len(program.tasks) == 1


@pytest.mark.parametrize(
    ("environments", "action"),
    [*((False, action) for action in console.COMMANDS),
     *((True, action) for action in {**console.COMMANDS, **console.OF_ENVIRONMENTS})],
)  # fmt: skip
def test_the_program_has_what_its_texts_advise_in_each_kind_of_folder(
    environments: bool, action: Action, tmp_path: Path
) -> None:
    if environments:
        (tmp_path / "envs").mkdir()
        (tmp_path / "envs/docker_environments.yaml").touch()
    program = console.Console(version="0", namespace=console.namespace(tmp_path), name=console.NAME)
    program.create_config()
    line = console.commands(tmp_path)[action].format(name="mine", environment="test")
    words, _, inside = line.partition(" -- ")
    program.parse_core([*shlex.split(words), *(["--", inside] if inside else [])])
    program.parse_collection()

    program.parse_tasks()  # raises Exit for a word that no command takes

    assert len(program.tasks) == 1


@pytest.mark.parametrize("action", sorted(WITH_SITE, key=str))
def test_what_is_done_at_the_user_s_site_has_an_option_for_it(action: Action) -> None:
    program = console.Console(version="0", namespace=console.namespace(), name=console.NAME)
    program.create_config()
    program.parse_core([*shlex.split(console.COMMANDS[action]), "--site", "local"])
    program.parse_collection()

    program.parse_tasks()  # raises Exit for an option that the command does not take

    assert len(program.tasks) == 1


@pytest.mark.parametrize("environments", [False, True])
def test_the_program_tells_of_no_task_of_invoke(environments: bool, tmp_path: Path) -> None:
    if environments:
        (tmp_path / "envs").mkdir()
        (tmp_path / "envs/docker_environments.yaml").touch()
    groups = "|".join(tasks.ns.collections)
    pattern = re.compile(rf"invoke [a-z.]+|\b(?:{groups})\.(?!py|json|yaml|toml|md)[a-z]+\b")

    texts = [*advice.told_by(console.namespace(tmp_path)), *console.commands(tmp_path).values()]

    assert len(texts) > 300
    assert [(found[0], text) for text in texts if (found := pattern.search(text))] == []


def test_tasks_of_invoke_tell_of_no_command_of_the_program() -> None:
    # what commands do on a Swarm is in one table
    texts = [*advice.told_by(tasks.ns, without="stackyard.cli.on_swarm"), *COMMANDS.values()]

    assert len(texts) > 300
    named = {found for text in texts for found in re.findall(advice.OF_CONSOLE, text)}
    assert named == {"stackyard site", "stackyard up"}  # no task does that


def test_a_project_s_own_tasks_tell_of_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    invoke.collection()

    assert typed(Action.CLEAN_UP) == "stackyard cleanup"
    assert typed(Action.START_ONE) == Action.START_ONE.value


@pytest.mark.parametrize("item", NOX, ids=ids)
def test_every_session_that_a_text_names_exists_with_its_options(item: advice.Advice) -> None:
    _, typed = words.split(shlex.split(item.text)[1:])

    words.checked(typed, advice.ROOT / "noxfile.py")  # raises UsageError for a word that nox does not take


def test_no_text_tells_to_type_nox_which_is_not_on_the_path() -> None:
    assert [item for item in NOX if not item.text.startswith("./noxw")] == []


def test_texts_name_commands() -> None:
    assert len(INVOKE) > 60
    assert len(NOX) > 20
    assert len(CONSOLE) > 60


def test_the_front_end_knows_a_command_for_every_action() -> None:
    assert set(COMMANDS) == set(Action)
    assert {line.format(name=advice.PLACE) for line in console.COMMANDS.values()} <= {item.text for item in CONSOLE}
    assert {item.text for item in ADVICE if item.where == advice.TABLE} >= {"invoke ports.list", "./noxw -s dev"}


def test_no_library_module_names_a_command() -> None:
    library = advice.ROOT / "src/stackyard"
    # the list of what this project offers is made of its commands, and two benchmarks measure them
    own = {library / name for name in ("report/completion.py", "bench/commands.py", "bench/projects.py")}
    files = [path for path in library.rglob("*.py") if library / "cli" not in path.parents and path not in own]
    pattern = re.compile(rf"{advice.STARTS}\b")

    named = [f"{path.relative_to(library)}: {found}" for path in files for found in pattern.findall(path.read_text())]
    assert len(files) > 200
    assert named == []

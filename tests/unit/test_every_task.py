"""What holds for every task: its help, its options, one name for one thing."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import Final

import pytest
import tasks
from invoke_shell import Shell

from stackyard.cli.task import Command, dashed
from stackyard.project.environments import project_root

TASKS: Final = sorted(tasks.ns.task_names)
LETTERS: Final = {"json": "j", "name": "n", "environment": "e", "follow": "f", "volumes": "v", "yes": "y"}


def command(name: str) -> Command:
    found = tasks.ns[name]
    assert isinstance(found, Command)
    return found


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.mark.parametrize("name", TASKS)
def test_help_comes_before_and_after_the_task_and_among_its_options(shell: Shell, name: str) -> None:
    code, after, error = shell.run(name, "--help")

    assert (code, error) == (0, "")
    assert after.startswith(f"Usage: invoke {name}")
    for words in ([name, "-h"], ["--help", name], [name, "--json", "--help"]):
        assert shell.run(*words) == (0, after, "")


@pytest.mark.parametrize("name", TASKS)
def test_every_option_has_a_help_and_every_task_has_json(name: str) -> None:
    found = command(name)

    assert "json" in found.options
    assert found.__doc__
    for parameter, option in found.options.items():
        assert option.help or option.hidden, parameter
        assert option.help == "" or option.help.endswith((".", ")"))


@pytest.mark.parametrize("name", TASKS)
def test_one_thing_has_one_name_and_one_letter(name: str) -> None:
    old = {"lease", "parallel_id", "env", "wait", "every", "plan", "check_only"}
    for parameter, option in command(name).options.items():
        assert parameter not in old
        assert option.short == LETTERS.get(parameter, option.short) or parameter == "names"


@pytest.mark.parametrize("name", TASKS)
def test_a_wrong_option_is_one_line_with_the_right_ones(shell: Shell, name: str) -> None:
    code, out, error = shell.run(name, "--jsn")

    assert (code, out) == (2, "")
    assert error.startswith(f"{name} has no option '--jsn'; did you mean --json? its options: --")
    assert "\n" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env.lgs"], "no task 'env.lgs'; did you mean env.logs? 'invoke --list' shows all tasks"),
        (["env"], "env is a group of tasks, name one of them: env."),
        (["env.up", "--ttl"], "--ttl of env.up needs a value: --ttl TIME: "),
        (["env.up", "--ttl", "--json"], "--ttl of env.up needs a value"),
        (["env.down", "--name="], "--name of env.down got an empty value: --name NAME: "),
        (["env.down", "--name", ""], "--name of env.down got an empty value"),
        (["env.down", "-n", ""], "-n of env.down got an empty value"),
        (["env.down", ""], "env.down got an empty word; is a variable in the command empty?"),
        (["env.up", "--json=yes"], "--json of env.up takes no value, got 'yes'"),
        (["env.up", "--keeep"], "env.up has no option '--keeep'; did you mean --keep? "),
        (["env.up", "--envi", "x"], "env.up has no option '--envi'; did you mean --environment? "),
        (["env.down", "one", "two"], "env.down takes at most 1 word, got 'two'; its options: --name"),
        (["ports.list", "x"], "ports.list takes no words, got 'x'"),
        (["env.exec", "redis", "true"], "env.exec takes at most 1 word, got 'true'; a command follows '--', as in"),
        (["env.exec", "redis"], "which command? write it after '--'"),
        (["env.down", "--", "x"], "env.down takes no words after '--', got 'x'"),
        (["--nope", "env.up"], "invoke has no option '--nope'"),
        (["--help", "env.nope"], "No idea what 'env.nope' is!"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line_and_exit_code_2(shell: Shell, words: list[str], message: str) -> None:
    code, out, error = shell.run(*words)

    assert (code, out) == (2, "")
    assert error.startswith(message)
    assert "\n" not in error


@pytest.mark.parametrize("value", ["json", "j", "n", "name", "lease"])
def test_a_value_may_be_the_name_of_an_option(shell: Shell, value: str) -> None:
    assert shell.run("env.up", "--environment", value)[2].startswith(f"unknown environment '{value}'")
    assert shell.run("env.up", "-e", value)[2].startswith(f"unknown environment '{value}'")


def test_an_old_name_works_and_says_the_new_one(shell: Shell) -> None:
    code, _, error = shell.run("env.up", "--env", "tset", "--lease=mine")

    assert code == 2
    assert error.splitlines()[:2] == [
        "note: --env is now --environment; the old name goes with the next release",
        "note: --lease is now --name; the old name goes with the next release",
    ]
    assert "unknown environment 'tset'" in error


@pytest.mark.parametrize("name", TASKS)
def test_old_names_are_in_the_help(shell: Shell, name: str) -> None:
    found = command(name)
    shown = " ".join(shell.run(name, "--help")[1].split())

    for parameter, option in found.options.items():
        if option.old:
            assert f"for --{dashed(parameter)}" in shown


def test_the_list_of_tasks_waits_for_nothing_but_the_command_line() -> None:
    code = "import sys, tasks; print({name.split('.')[1] for name in sys.modules if name.startswith('stackyard.')})"

    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", code],
        cwd=project_root(), capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip

    assert ast.literal_eval(done.stdout) == {"_util", "cli", "errors"}


def test_stock_invoke_reads_words_as_we_do() -> None:
    words = [sys.executable, "-m", "invoke", "ports.allocate", "--help"]

    done = subprocess.run(words, cwd=project_root(), capture_output=True, text=True, timeout=240, check=False)  # noqa: S603 - our own command

    assert done.returncode == 0
    assert done.stdout.startswith("Usage: invoke ports.allocate [NAME]")
    assert done.stderr == ""

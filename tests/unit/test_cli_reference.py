"""docs/reference is what the code says."""

from __future__ import annotations

import pytest

from stackyard import settings
from stackyard.cli import reference
from stackyard.cli.json_output import CONSOLE
from stackyard.project.environments import project_root


@pytest.mark.parametrize("name", ["commands.md", "json.md", "settings.md", "stackyard.md"])
def test_a_page_is_what_the_code_says(name: str) -> None:
    file = project_root() / reference.FOLDER / name

    assert file.read_text() == reference.pages()[name], "write it with python -m stackyard.cli.reference"


def test_every_setting_is_on_its_page() -> None:
    page = reference.settings_page()

    assert settings.NAMES
    assert all(f"| `{name}` |" in page for name in settings.NAMES)


def test_sessions_and_tasks_are_all_there() -> None:
    page = reference.commands_page()

    for name in ("alpine_test", "bench", "ci"):
        assert f"| `{name}` |" in page
    for name, task in reference.tasks():
        assert f"### {name}\n" in page
        assert all(f"`{flag}" in page for flag in task.flags())


def test_the_console_program_s_commands_and_options_are_all_there() -> None:
    page = reference.console_page()

    assert {"check", "up", "run", "doctor"} < {name for name, _ in reference.commands()}
    for name, task in reference.commands():
        assert f"### stackyard {name}\n" in page
        assert f"`stackyard {name}{task.pattern()} [options]`" in page
        assert all(f"`{flag}" in page for flag in task.flags())


def test_each_command_of_the_console_program_with_json_has_a_shape() -> None:
    assert {name for name, task in reference.commands() if "--json" in task.flags()} == set(CONSOLE)

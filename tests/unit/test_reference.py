"""docs/reference is what the code says."""

from __future__ import annotations

import re

import pytest

from stackyard.commands import reference
from stackyard.environments import project_root


@pytest.mark.parametrize("name", ["commands.md", "json.md", "settings.md"])
def test_a_page_is_what_the_code_says(name: str) -> None:
    file = project_root() / reference.FOLDER / name

    assert file.read_text() == reference.pages()[name], "write it with python -m stackyard.commands.reference"


def test_every_setting_that_is_read_is_on_its_page() -> None:
    root = project_root() / "src/stackyard"
    read = set(re.findall(r'given\.get\("(STACKYARD_[A-Z_]+)"\)', (root / "settings.py").read_text()))
    others = {"STACKYARD_YARDMASTER", "STACKYARD_PAYLOAD_TIMEOUT", "STACKYARD_ENGINE_TIMEOUT"}

    assert read
    assert read | others <= {name for name, _, _ in reference.SETTINGS}


def test_sessions_and_tasks_are_all_there() -> None:
    page = reference.commands_page()

    for name in ("alpine_test", "bench", "ci"):
        assert f"| `{name}` |" in page
    for name, task in reference.tasks():
        assert f"### {name}\n" in page
        assert all(f"`{flag}" in page for flag in task.flags())

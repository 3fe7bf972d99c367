"""The JSON Schema that editors use says of a file what loading says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest
import yaml

from stackyard.errors import ConfigError
from stackyard.project.environments import schema
from stackyard.project.environments.roots import ENVIRONMENTS
from stackyard.project.environments.yaml_tree import parse_yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ENVIRONMENTS).read_text()


@pytest.fixture(scope="module")
def editor() -> Any:
    """The file in the repository, as an editor uses it."""
    written = json.loads((ROOT / schema.FILE).read_text())
    jsonschema.Draft202012Validator.check_schema(written)
    return jsonschema.Draft202012Validator(written)


def test_the_file_is_what_the_code_says() -> None:
    assert (ROOT / schema.FILE).read_text() == schema.for_editors(), "write it with python -m stackyard.cli.reference"


def test_the_first_line_of_the_environments_leads_an_editor_to_the_schema() -> None:
    first = TEXT.splitlines()[0]

    assert first == f"# yaml-language-server: $schema={Path(schema.FILE).name}"
    assert Path(schema.FILE).parent == Path(ENVIRONMENTS).parent


def test_the_environments_of_this_project_fit(editor: Any) -> None:
    editor.validate(yaml.safe_load(TEXT))
    editor.validate(yaml.safe_load(TEXT.replace("5433", '"5433"')))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "version: 2"), ("version: 1\n", ""), ("profile: dev", "profil: dev"), ("data: volume\n", "\n"),
        ("profile: dev", "profile: [dev]"), ("profile: dev", "profile: Dev"), ("profile: dev", "profile:"),
        ("profile: dev", 'profile: "dev\\n"'), ("profile: dev", f"profile: {'d' * 33}"), ("  dev:\n", "  Dev!:\n"),
        ("flavour: debian", "flavour: ubuntu"), ("data: volume", "data: disk"), (".env.local", "../../x"),
        ("envs/.env.local", "/etc/passwd"), ("postgres: 5433", "postgres: true"),
        ("retries: 10", "retries: 0"), ("retries: 10", "retries: 101"), ("startup: 30s", "startup: 30"),
        ("startup: 30s", "startup: 0s"), ("startup: 30s", "startup: 30h"), ("startup: 30s", 'startup: "30s\\n"'),
        ("memory: 2048MB", "memory: 2gb"), ("memory: 2048MB", "memory: 02GB"), ("10.213.255.0/28", "fd00::/28"),
        ("for daily work, keeps its data and stays up", '" "'), ("ports: {", "ports: 7 #{"),
    ],
)  # fmt: skip
def test_an_editor_and_loading_refuse_the_same(editor: Any, old: str, new: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT

    assert not editor.is_valid(yaml.safe_load(text))
    with pytest.raises(ConfigError):
        schema.read(ENVIRONMENTS, parse_yaml(text, ENVIRONMENTS))


def test_every_value_has_a_rule_that_a_message_can_state() -> None:
    definitions = json.loads(schema.for_editors())["$defs"]
    values = [value for kind in definitions.values() for value in kind["properties"].values() if "$ref" not in value]

    assert len(values) > 20
    assert all(
        value.get("description", "must be").startswith("must be ") or value["type"] == "object" for value in values
    )

"""The optional configuration of a project: where it is, what it contains, and the message about a mistake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest

from stackyard._util.process import Completed
from stackyard.errors import ConfigError, UsageError
from stackyard.project import Project, configuration_schema
from stackyard.project.configuration import Configuration
from stackyard.project.readiness_hints import Hint

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
TEMPLATE: dict[str, Any] = {
    "name": "shop",
    "services": {
        "web": {"image": "w", "networks": {"default": None}, "depends_on": ["db", "ldap"], "profiles": ["all"],
                "environment": {"API_URL": "http://localhost:8080"}},
        "db": {"image": "d", "depends_on": {"ldap": {"condition": "service_healthy"}}},
        "ldap": {"image": "l", "networks": {"directory": None}},
    },
    "networks": {"default": {"name": "shop_default"}, "directory": {"name": "shop_directory"}},
    "volumes": {"cache": {"name": "shop_cache"}},
}  # fmt: skip
WHOLE = """
profiles = ["all"]
env_files = ["ci.env"]
timeout = "3m"
rewrite = ["web.API_URL"]

[share]
networks = ["directory"]
volumes = ["cache"]
services = ["ldap"]

[services.web]
ready = {http = "/healthz"}
[services.db]
ready = "running"
"""


def read(folder: Path, **template: Any) -> Configuration:
    return Configuration.read(folder, TEMPLATE | template)


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Project, list[list[str]]]]:
    """Find the project whose model is TEMPLATE; return it, and the words that Compose was asked with."""
    (tmp_path / "compose.yaml").touch()
    asked: list[list[str]] = []

    def rendered(argv: list[str], **_: Any) -> Completed:
        asked.append(argv)
        return Completed(argv=tuple(argv), returncode=0, stdout=json.dumps(TEMPLATE), stderr="", seconds=0.0)

    def found(environment: dict[str, str] | None = None, **options: Any) -> tuple[Project, list[list[str]]]:
        return Project.find(tmp_path, environment=environment or {}, **options), asked

    monkeypatch.setattr("stackyard._util.process.run", rendered)
    return found


def test_without_a_configuration_every_value_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("this is no TOML and none of our business")

    assert read(tmp_path) == Configuration()


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "stackyard.toml").write_text(WHOLE)
    (tmp_path / "ci.env").touch()

    found = read(tmp_path)

    assert (found.where, found.profiles, found.timeout) == ("stackyard.toml", ("all",), 180.0)
    assert found.env_files == (str(tmp_path / "ci.env"),)
    assert found.rewrite == {"web.API_URL"}
    assert [*found.share.networks, *found.share.volumes, *found.share.services] == ["directory", "cache", "ldap"]
    assert found.ready == {"web": Hint(kind="http", value="/healthz"), "db": Hint(kind="running")}


def test_it_may_stand_in_pyproject_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.stackyard]\ntimeout = "90s"')

    found = read(tmp_path)

    assert (found.where, found.timeout) == ("pyproject.toml (tool.stackyard)", 90.0)


def test_it_may_stand_in_the_compose_file_where_a_dollar_is_written_twice(tmp_path: Path) -> None:
    extension = {"profiles": ["all"], "services": {"web": {"ready": {"log": "ready$$"}}}}

    found = read(tmp_path, **{"x-stackyard": extension})

    assert found.where == "the Compose file (x-stackyard)"
    assert found.ready == {"web": Hint(kind="log", value="ready$")}


def test_two_configurations_are_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "stackyard.toml").touch()
    (tmp_path / "pyproject.toml").write_text("[tool.stackyard]")

    with pytest.raises(
        UsageError, match=r"configured in both stackyard.toml and pyproject.toml \(tool.stackyard\); keep one"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = ", r"^stackyard.toml is not valid TOML: Invalid value"),
        ('profile = ["all"]', "profile: unknown key; did you mean 'profiles'"),
        ('profiles = "all"', "profiles: must be a list of profiles of the Compose file, got 'all'"),
        ('profiles = ["al"]', "profiles: no such profile in the Compose file; did you mean 'all'"),
        ('profiles = ["a b"]', r"profiles\[0\]: must be letters, digits"),
        ("env_files = [1]", r"env_files\[0\]: must be a path, from the Compose file's folder, got 1"),
        ('env_files = ["no.env"]', "env_files: no such file in .*, got 'no.env'"),
        ("timeout = 5", "timeout: must be a time such as 30s, 5m or 1h30m, above 0 and up to 30 d, got 5"),
        ('timeout = "0s"', "timeout: must be a time such as .*, got '0s'"),
        ('timeout = "soon"', "timeout: must be a time such as .*, got 'soon'"),
        ('rewrite = ["API_URL"]', r"rewrite\[0\]: must be SERVICE.VARIABLE, such as web.API_URL, got 'API_URL'"),
        ('rewrite = ["wbe.API_URL"]', "rewrite: no such service in the Compose file; did you mean 'web'"),
        ('share = ["x"]', "share: must be a mapping of keys to values"),
        ('[share]\nnetwork = ["x"]', "share.network: unknown key; did you mean 'networks'"),
        ('[share]\nnetworks = ["dirctory"]', "share.networks: no such network in .*; did you mean 'directory'"),
        ('[share]\nvolumes = ["cash"]', "share.volumes: no such volume in .*; did you mean 'cache'"),
        ('[share]\nservices = ["lap"]', "share.services: no such service in .*; did you mean 'ldap'"),
        ('[share]\nservices = ["ldap"]', "no copy could reach it; add one of its networks .*: directory, got 'ldap'"),
        ('[share]\nservices = ["db"]', "add one of its networks to share.networks: default, got 'db'"),
        ("[services.wbe]", "services: no such service in the Compose file; did you mean 'web'"),
        ("[services.web]\nredy = 1", "services.web.redy: unknown key; did you mean 'ready'"),
        ("[services.web]\nready = 1", r'services.web.ready: must be \{http = "/path"\}, .* or "running", got 1'),
        ('[services.web]\nkind = "postgres"', "web.kind: must be postgresql, .* or none, got 'postgres'"),
        ("[services.web]\nkind = 1", "services.web.kind: must be postgresql, mysql, .* or none, got 1"),
        ('[services.web]\nready = "up"', r'services.web.ready: must be \{http .* or "running", got \'up\''),
        ('[services.web]\nready = {htp = "/"}', "web.ready: must be .*'htp' is none of them; did you mean 'http'"),
        ('[services."we b"]', "services: a name must be letters, digits .*, got 'we b'"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_place_and_what_is_allowed(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "stackyard.toml").write_text(text)

    with pytest.raises(UsageError, match=says) as wrong:
        read(tmp_path)

    assert "\n" not in str(wrong.value)
    assert str(wrong.value).startswith("stackyard.toml")


def test_the_document_shows_mistakes_as_they_are_reported(tmp_path: Path) -> None:
    typed = [
        ("stackyard.toml", 'profile = ["all"]'), ("stackyard.toml", "[services.wbe]"),
        ("pyproject.toml", '[tool.stackyard]\ntimeout = "soon"'),
    ]  # fmt: skip
    reported = []
    for file, text in typed:
        (tmp_path / file).write_text(text)
        with pytest.raises(UsageError) as wrong:
            read(tmp_path)
        (tmp_path / file).unlink()
        reported.append(str(wrong.value))

    document = (ROOT / "docs/configuration.md").read_text()

    assert document.partition("## Mistakes")[2].split("```")[1].strip().splitlines() == reported


def test_a_mistake_below_a_table_is_reported_with_the_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.stackyard.services.web]\nready = 1")

    with pytest.raises(ConfigError, match=r"^pyproject.toml: tool.stackyard.services.web.ready: must be "):
        read(tmp_path)


CHOSEN = {
    "stackyard.toml": 'profiles = ["all"]\nenv_files = ["ci.env"]',
    "pyproject.toml": '[tool.stackyard]\nprofiles = ["all"]\nenv_files = ["ci.env"]',
}


@pytest.mark.parametrize("file", CHOSEN)
def test_profiles_and_env_files_of_the_configuration_cost_no_further_rendering(
    tmp_path: Path, find: Callable[..., tuple[Project, list[list[str]]]], file: str
) -> None:
    (tmp_path / file).write_text(CHOSEN[file])
    (tmp_path / "ci.env").touch()

    project, asked = find()
    project.model(), project.model(name="mine")

    assert project.words == ("--profile", "all", "--env-file", f"{tmp_path}/ci.env")
    assert [words_of(argv) for argv in asked] == [[*project.words]] * 3


@pytest.mark.parametrize(("env_files", "times"), [([], 2), (["ci.env"], 3)])
def test_what_the_compose_file_itself_configures_is_rendered_once_more(
    tmp_path: Path, find: Callable[..., tuple[Project, list[list[str]]]], monkeypatch: pytest.MonkeyPatch,
    env_files: list[str], times: int,
) -> None:  # fmt: skip
    monkeypatch.setitem(TEMPLATE, "x-stackyard", {"profiles": ["all"], "env_files": env_files})
    (tmp_path / "ci.env").touch()

    project, asked = find()
    project.model(), project.model(name="mine")

    assert project.words[:2] == ("--profile", "all")
    assert [words_of(argv) for argv in asked].count([*project.words]) == times
    assert len(asked) == 3 + times


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('profiles = "all"', "profiles: must be a list of profiles"),
        ("profiles = [1]", r"profiles\[0\]"),
        ('env_files = ["gone.env"]', "env_files: no such file in "),
        ("profiles = [", "is not valid TOML"),
    ],
)
def test_a_wrong_choice_is_reported_and_not_given_to_compose(
    tmp_path: Path, find: Callable[..., tuple[Project, list[list[str]]]], text: str, said: str
) -> None:
    (tmp_path / "stackyard.toml").write_text(text)

    with pytest.raises(UsageError, match=said):
        find()


def test_a_pyproject_whose_tools_are_no_table_configures_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool = 'stackyard'")

    assert read(tmp_path) == Configuration()


def words_of(argv: list[str]) -> list[str]:
    """Return the options that choose files, profiles and env files; a copy's project name is left out."""
    words = argv[argv.index("compose") + 1 : argv.index("config")]
    return words[: words.index("--project-name")] if "--project-name" in words else words


@pytest.mark.parametrize(
    ("changed", "times"),
    [({}, 0), ({"words": ("--profile", "x")}, 1), ({"environment": {"A": "1"}}, 1)],
)
@pytest.mark.parametrize("name", [None, "mine"])
def test_the_model_is_rendered_once_more_only_if_compose_would_be_asked_otherwise(
    find: Callable[..., tuple[Project, list[list[str]]]], changed: dict[str, Any], times: int, name: str | None
) -> None:
    project, asked = find()
    project.model(name="joined"), project.model()  # what was begun has ended

    replace(project, **changed).model(name=name)["services"].clear()

    assert len(asked) == 3 + times
    assert replace(project, **changed).model()["services"] == TEMPLATE["services"]


@pytest.mark.parametrize(
    ("environment", "options", "words"),
    [
        ({"COMPOSE_PROFILES": "x", "COMPOSE_ENV_FILES": "y"}, {}, ()),
        ({}, {"profiles": ["x"], "env_files": ["y"]}, ("--profile", "x", "--env-file", "y")),
    ],
)
def test_what_the_caller_chooses_wins(
    tmp_path: Path,
    find: Callable[..., tuple[Project, list[list[str]]]],
    environment: dict[str, str],
    options: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    (tmp_path / "stackyard.toml").write_text('profiles = ["all"]\nenv_files = ["ci.env"]')
    for name in ("ci.env", "y"):
        (tmp_path / name).touch()

    assert find(environment, **options)[0].words == words


def test_a_shared_service_is_in_no_model_and_no_other_waits_for_it(
    tmp_path: Path, find: Callable[..., tuple[Project, list[list[str]]]]
) -> None:
    (tmp_path / "stackyard.toml").write_text('[share]\nnetworks = ["directory"]\nservices = ["ldap"]')

    project = find()[0]

    for model in (project.template, project.model()):
        assert {name: service.get("depends_on") for name, service in model["services"].items()} == {
            "web": ["db"], "db": {}
        }  # fmt: skip


def test_the_schema_in_the_documents_is_what_the_code_says_and_fits() -> None:
    import tomllib

    text = (ROOT / configuration_schema.SCHEMA).read_text()
    assert text == configuration_schema.for_editors(), "write it with python -m stackyard.cli.reference"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    editor = jsonschema.Draft202012Validator(json.loads(text))
    editor.validate(tomllib.loads(WHOLE))
    for wrong in ('profile = ["a"]', "timeout = 5", "[services.web]\nready = {tcp = 0}", '[services.web]\nready = "x"'):
        assert not editor.is_valid(tomllib.loads(wrong))

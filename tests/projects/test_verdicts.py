"""Each folder here is a small Compose project with one habit of real files; Compose itself reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke_shell import ended
from tests.projects.expected import BARE, COPIES

from stackyard.errors import UsageError
from stackyard.plan import Preview
from stackyard.project import Project

HERE = Path(__file__).parent


def found(name: str, *profiles: str, **variables: str) -> Preview:
    return Preview.of(Project.find(HERE / name, profiles=profiles, environment=BARE | variables))


@pytest.mark.parametrize("name", COPIES)
def test_any_number_of_copies_can_run(name: str) -> None:
    ports, kinds = COPIES[name]

    seen = found(name)

    assert seen.plan.verdict == "copies"
    assert seen.ports == ports
    assert {change.kind for change in seen.plan.changes} == kinds


def test_every_project_here_has_its_expectation() -> None:
    others = {"host-network", "missing-files", "required-variables", "only-profiles", "not-a-compose-file"}

    assert {path.name for path in HERE.iterdir() if path.is_dir()} - {"__pycache__", "box", "larger"} == others | {
        name.partition("/")[0] for name in COPIES
    }


def test_the_host_s_network_is_for_one_copy_at_a_time() -> None:
    seen = found("host-network")

    assert seen.plan.verdict == "one at a time"
    assert [concern.place for concern in seen.plan.concerns] == ["services.probe.network_mode"]


def test_all_missing_files_are_named_at_once_with_their_templates() -> None:
    seen = found("missing-files")

    folder = HERE / "missing-files"
    assert seen.plan.verdict == "not possible"
    assert [(concern.text, concern.advice) for concern in seen.plan.concerns] == [
        (f"{folder}/secret.env does not exist", f"copy {folder}/secret.env.example to it"),
        (f"{folder}/conf/a.ini does not exist", "create it"),
    ]


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"needs 2 variables that have no value: .*LEDGER_TOKEN \(from the vault\)"):
        found("required-variables")


def test_variables_of_the_caller_count() -> None:
    assert found("required-variables", LEDGER_TOKEN="t", LEDGER_KEY="k").plan.verdict == "copies"


def test_without_a_profile_the_profiles_are_named() -> None:
    with pytest.raises(UsageError, match="choose a profile: e2e, unit"):
        found("only-profiles")


def test_a_profile_enables_its_services() -> None:
    assert found("profiles").behind_profiles == ("debugger", "e2e")
    assert found("profiles", "debug").ports == 1
    assert found("only-profiles", "unit").running == ("unit",)


def test_what_compose_refuses_is_one_line_with_its_words() -> None:
    with pytest.raises(UsageError) as refused:
        found("not-a-compose-file")

    assert "not-a-compose-file: Compose refuses the project: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_project_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Compose file here or above"):
        Project.find(tmp_path, environment=BARE)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        Project.find(tmp_path / "gone", environment=BARE)


def test_a_project_is_found_from_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text('services: {a: {image: box, ports: ["1234:80"]}}')
    (tmp_path / "deep" / "er").mkdir(parents=True)

    assert Preview.of(Project.find(tmp_path / "deep" / "er", environment=BARE)).ports == 1


def test_one_shots_are_those_that_others_wait_for() -> None:
    assert found("one-shots").one_shots == ("migrate",)


def test_a_variable_of_a_port_takes_its_other_uses_along() -> None:
    service = found("port-from-a-variable").plan.model["services"]["shop"]

    assert service["environment"]["PUBLIC_URL"] == f"http://localhost:{service['ports'][0]['published']}/"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("two-fixed-ports", 0, "any number of copies can run at once"),
        ("host-network", 1, "only one copy can run at a time"),
        ("missing-files", 2, "secret.env.example"),
        ("required-variables", 2, "LEDGER_TOKEN"),
    ],
)
def test_the_command_says_the_verdict_with_its_exit_code(
    name: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = ended("project.check", str(HERE / name))

    shown = capsys.readouterr()
    assert ending == code
    assert said in shown.out + shown.err


def test_the_command_has_a_form_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    ended("project.check", str(HERE / "profiles"), "--profile", "debug", "--json")

    shown = json.loads(capsys.readouterr().out)
    assert (shown["project"], shown["verdict"], shown["ports"]) == ("profiles", "copies", 1)
    assert shown["services"] == {"running": ["db", "debugger"], "one_shot": [], "behind_profiles": ["e2e"]}

"""Profiles that were chosen and that no service has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.plan import oversights
from stackyard.plan.profiles import unknown_profiles
from stackyard.project import Project

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES: dict[str, Any] = {"web": {}, "debugger": {"profiles": ["debug"]}, "browser": {"profiles": ["e2e", "debug"]}}
NEAREST = "warning: profile dbeug: no service has it; did you mean 'debug'? known: debug, e2e"


def project(
    folder: Path = Path("/nowhere"), *, words: tuple[str, ...] = (), environment: Mapping[str, str] | None = None,
    services: Mapping[str, Any] = SERVICES,
) -> Project:  # fmt: skip
    return Project(folder=folder, words=words, environment=environment or {}, template={"services": services})


@pytest.mark.parametrize(
    ("words", "environment", "unknown"),
    [
        ((), {}, []),
        (("--profile", "debug"), {}, []),
        (("--profile", "*"), {}, []),
        (("--profile", "dbeug"), {}, ["dbeug"]),
        (("--profile", "dbeug", "--profile", "e2e", "--profile", "Debug"), {}, ["dbeug", "Debug"]),
        (("--file", "x.yaml", "--profile", "x"), {}, ["x"]),
        ((), {"COMPOSE_PROFILES": "debug, e3e ,,x"}, ["e3e", "x"]),
        (("--profile", "debug"), {"COMPOSE_PROFILES": "x"}, []),
    ],
)
def test_a_profile_that_no_service_has_is_named(
    words: tuple[str, ...], environment: dict[str, str], unknown: list[str]
) -> None:
    found = unknown_profiles(project(words=words, environment=environment))

    assert [item.place for item in found] == [f"profile {name}" for name in unknown]


@pytest.mark.parametrize(
    ("chosen", "enabled"),
    [("", {"web"}), ("debug", {"web", "debugger", "browser"}), ("x,e2e", {"web", "browser"}), ("*", {*SERVICES})],
)
def test_a_project_says_which_services_its_profiles_enable(chosen: str, enabled: set[str]) -> None:
    assert project(environment={"COMPOSE_PROFILES": chosen}).enabled() == enabled


def test_the_line_names_the_nearest_and_all_that_there_are() -> None:
    assert [*oversights.warnings(project(words=("--profile", "dbeug")))] == [NEAREST]
    assert [*oversights.warnings(project(words=("--profile", "x"), services={"web": None}))] == [
        "warning: profile x: no service has it; known: none"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "COMPOSE_PROFILES=x",
        "export COMPOSE_PROFILES = 'x'  # y\r",
        '# no\n  COMPOSE_PROFILES="x"',
        "COMPOSE_PROFILES=e2e\nCOMPOSE_PROFILES=x",
    ],
)
def test_an_env_file_may_choose_profiles(tmp_path: Path, line: str) -> None:
    (tmp_path / "compose.yaml").touch()
    (tmp_path / ".env").write_text(f"A=1\n{line}\nB=2\n")
    (tmp_path / "other").write_text("COMPOSE_PROFILES=y\n")

    assert project(tmp_path).profiles == ("x",)
    assert project(tmp_path, words=("--env-file", "other")).profiles == ("y",)
    assert project(tmp_path, environment={"COMPOSE_ENV_FILES": "other"}).profiles == ("y",)
    assert project(tmp_path, environment={"COMPOSE_PROFILES": "z"}).profiles == ("z",)
    assert project(tmp_path, environment={"COMPOSE_PROFILES": ""}).profiles == ()


@pytest.mark.parametrize(
    ("name", "services"), [("${WHICH}", SERVICES), ("dbeug", {"web": {"profiles": ["${WHICH:-debug}"]}})]
)
def test_nothing_is_said_where_a_variable_names_a_profile(name: str, services: dict[str, Any]) -> None:
    assert unknown_profiles(project(words=("--profile", name), services=services)) == []

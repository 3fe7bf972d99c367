"""What `docker compose config` is asked for, and what a project does when it fails."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fake_docker import install_docker

from stackyard.errors import EngineError, UsageError
from stackyard.plan import oversights
from stackyard.project import Project

if TYPE_CHECKING:
    from pathlib import Path

LACKS = "^docker compose does not work here: "
NONE = "'docker compose config' printed no model but "
SCRIPTS = {
    "printf 'name: sh'; kill -9 $$": "'docker compose config' was ended by signal 9; try again$",
    "echo '[1]'": NONE,
    "echo \"docker: 'compose' is not a docker command.\" >&2; echo help >&2; exit 1": LACKS + "docker: 'compose'",
    "echo unknown flag: --file >&2; echo; echo Usage: docker >&2; exit 125": f"{LACKS}unknown flag: --file; check this",
    "head -c 200000 /dev/zero | tr '\\0' '['": NONE,
    "head -c 300 /dev/urandom": NONE,
}


@pytest.mark.parametrize(("script", "text"), SCRIPTS.items())
def test_a_compose_that_prints_no_model_is_an_error_of_the_engine_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, text: str
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    install_docker(tmp_path, script)
    (tmp_path / "compose.yaml").write_text("services: {}")

    with pytest.raises(EngineError, match=text) as caught:
        Project.find(tmp_path, environment={"PATH": os.environ["PATH"]}).model()

    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_gives_no_project_name_is_refused_with_what_gives_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    install_docker(tmp_path, "echo 'project name must not be empty' >&2; exit 1")
    (tmp_path / "compose.yaml").write_text("services: {}")

    with pytest.raises(UsageError, match=r"write 'name: shop' to the Compose file, or set COMPOSE_PROJECT_NAME$"):
        Project.find(tmp_path, environment={"PATH": os.environ["PATH"]})


@pytest.mark.parametrize(
    ("project", "lease", "name"),
    [
        ("stackyard-shop-8b48b8-3b0ea937", "3b0ea937", "shop"),  # as after eval "$(stackyard env --format shell)"
        ("shop-3b0ea937", "shop-3b0ea937", "shop"),  # on a Swarm
        ("stackyard-shop-8b48b8-3b0ea937", "5dc37011", "stackyard-shop-8b48b8-3b0ea937"),
        ("mine", "3b0ea937", "mine"),
        ("mine-", "", "mine-"),
    ],
)
def test_a_shell_with_the_variables_of_a_copy_means_the_project_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: str, lease: str, name: str
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    install_docker(tmp_path, 'printf \'{"name": "%s", "services": {}}\' "${COMPOSE_PROJECT_NAME:-shop}"')
    (tmp_path / "compose.yaml").write_text("services: {}")
    shell = {"PATH": os.environ["PATH"], "STACKYARD_LEASE": lease, "COMPOSE_PROJECT_NAME": project}

    assert Project.find(tmp_path, environment=shell).name == name


def test_variables_that_compose_takes_as_empty_are_each_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    plain = 'WARN[0000] The "DB_USER" variable is not set. Defaulting to a blank string.'
    quoted = r'time="2026" level=warning msg="The \"DB_NAME\" variable is not set. Defaulting to a blank string."'
    install_docker(tmp_path, f"printf '%s\\n' '{plain}' '{quoted}' '{plain}' >&2; echo '{{\"services\": {{}}}}'")
    (tmp_path / "compose.yaml").write_text("services: {}")

    said = [*oversights.warnings(Project.find(tmp_path, environment={"PATH": os.environ["PATH"]}))]

    assert [line.partition("; ")[0] for line in said] == [
        "warning: variable DB_NAME: has no value, so it is empty",
        "warning: variable DB_USER: has no value, so it is empty",
    ]

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from stackyard.checks import dockerfiles
from stackyard.checks.dockerfiles import Dockerfile, fixed, read_all
from stackyard.checks.records import examine
from stackyard.errors import UsageError
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from pathlib import Path

SOUND = """\
ARG BASE=thing
FROM ${BASE} AS build
RUN apt-get update && apt-get install -y gcc
FROM scratch
COPY --from=build /x /x
USER 10001:10001
HEALTHCHECK CMD ["/x", "health"]
ENTRYPOINT ["/x"]
"""


def found(text: str, *, base: bool = False) -> list[tuple[str, str, int | None]]:
    outcomes = examine(dockerfiles.CHECKS, Dockerfile.parse("compose/x/Dockerfile", text, base=base), "x")
    return [(item.check, item.found, item.line) for outcome in outcomes for item in outcome.findings]


def test_a_sound_dockerfile_passes_every_check() -> None:
    assert found(SOUND) == []


PLANTED = {
    "syntax line": ("ARG BASE", "# syntax=docker/dockerfile:1\nARG BASE", "dockerfile-syntax", 1),
    "fixed base": ("${BASE}", "debian:12", "dockerfile-base", 2),
    "root": ("USER 10001:10001", "USER 0", "dockerfile-user", 6),
    "root by name": ("USER 10001:10001", "USER root", "dockerfile-user", 6),
    "no user": ("USER 10001:10001\n", "", "dockerfile-user", None),
    "shell form": ('ENTRYPOINT ["/x"]', "ENTRYPOINT /x", "dockerfile-exec-form", 8),
    "no health check": ('HEALTHCHECK CMD ["/x", "health"]', "HEALTHCHECK NONE", "dockerfile-health", None),
    "apt's lists": ("USER", "RUN apt-get install -y busybox\nUSER", "dockerfile-cache", 6),
    "apk's cache": ("USER", "RUN apk add busybox\nUSER", "dockerfile-cache", 6),
    "pip's cache": ("USER", "RUN pip install h11\nUSER", "dockerfile-cache", 6),
    "compiler": ("USER", "RUN apk add --no-cache build-base libpq-dev\nUSER", "dockerfile-build-tools", 6),
    "secret argument": ("USER", "ARG GITHUB_TOKEN\nUSER", "dockerfile-secret", 6),
    "secret variable": ("USER", "ENV A=b DB_PASSWORD=x\nUSER", "dockerfile-secret", 6),
}


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_found_by_exactly_its_check_on_its_line(defect: str) -> None:
    old, new, check, line = PLANTED[defect]

    told = found(SOUND.replace(old, new, 1))

    assert [(name, at) for name, _, at in told] == [(check, line)]


def test_a_base_that_never_runs_needs_neither_user_nor_health_check() -> None:
    text = SOUND.replace("USER 10001:10001\n", "").replace('HEALTHCHECK CMD ["/x", "health"]\n', "")

    assert found(text, base=True) == []
    assert {check for check, *_ in found(text)} == {"dockerfile-user", "dockerfile-health"}


def test_fixing_leaves_a_file_that_passes_and_changes_nothing_else() -> None:
    broken = "# syntax=docker/dockerfile:1\n" + SOUND.replace('["/x"]', "/x --port 80").replace(
        "USER", "RUN apk add busybox && pip install h11\nUSER", 1
    )

    text = fixed(Dockerfile.parse("x", broken))

    assert found(text) == []
    assert 'ENTRYPOINT ["/x", "--port", "80"]' in text
    assert "RUN apk add --no-cache busybox && pip install --no-cache-dir h11" in text
    assert fixed(Dockerfile.parse("x", text)) == text
    assert fixed(Dockerfile.parse("x", SOUND)) == SOUND


def test_a_command_that_needs_its_shell_is_left_to_a_person() -> None:
    text = SOUND.replace('ENTRYPOINT ["/x"]', "ENTRYPOINT exec /x $PORT")

    assert fixed(Dockerfile.parse("x", text)) == text


def test_hadolint_s_findings_come_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "compose/x").mkdir(parents=True)
    (tmp_path / "compose/x/Dockerfile").write_text(SOUND.replace("COPY --from=build", "ADD"))

    (file,) = read_all(tmp_path)

    assert [(spot.found[:6], spot.line) for spot in file.lint if spot.line == 5] == [("DL3020", 5)]
    assert file.path == "compose/x/Dockerfile"


def test_the_project_s_own_dockerfiles_pass(tmp_path: Path) -> None:
    shutil.copytree(project_root() / "compose", tmp_path / "compose")

    files = read_all(tmp_path)
    told = [
        (item.target, item.found)
        for file in files
        for outcome in examine(dockerfiles.CHECKS, file, file.path)
        for item in outcome.findings
    ]

    assert len(files) >= 9
    assert told == []


def test_a_file_that_is_no_text_or_not_there_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(b"\xff\xfe")

    with pytest.raises(UsageError, match="cannot be read as a Dockerfile"):
        dockerfiles._read(tmp_path, tmp_path / "Dockerfile", [])
    assert read_all(tmp_path, []) == []

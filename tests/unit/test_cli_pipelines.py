from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nox.project
import pytest
import yaml
from fake_docker import install_docker

from stackyard._util import process
from stackyard.cli import pipelines
from stackyard.errors import CommandError, UsageError
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROOT = project_root()
WORKFLOW, PIPELINE = ".github/workflows/ci.yml", ".gitlab-ci.yml"
NOXFILE = """\
import nox
@nox.session(tags=["matrix", "pythons"])
def quick(session): pass
@nox.session(tags=["gate"], default=False)
def elsewhere(session): pass
@nox.session(tags=["matrix", "engine"], default=False)
def heavy(session): pass
"""
PROJECT = """\
[project]
classifiers = ["Programming Language :: Python :: 3.12", "Programming Language :: Python :: 3.13"]
"""


@pytest.fixture(scope="module")
def found() -> list[pipelines.Job]:
    return pipelines.jobs(ROOT)


def project(folder: Path, noxfile: str = NOXFILE) -> Path:
    (folder / "noxfile.py").write_text(noxfile)
    (folder / "pyproject.toml").write_text(PROJECT)
    return folder


def rows(text: str) -> list[tuple[str, str, bool]]:
    """Return what a GitHub workflow runs: session, Python, and whether it gets the images."""
    return [
        (row["session"], row["python"], "needs" in job)
        for job in yaml.safe_load(text)["jobs"].values()
        for row in job.get("strategy", {}).get("matrix", {}).get("include", [])
    ]


def test_the_workflow_files_are_what_noxs_sessions_make_of_them(found: list[pipelines.Job]) -> None:
    assert {path: (ROOT / path).read_text() for path in pipelines.FILES} == pipelines.render(found)


def test_github_and_gitlab_run_every_session_of_the_matrix_once_for_each_python(found: list[pipelines.Job]) -> None:
    assert sorted(rows((ROOT / WORKFLOW).read_text())) == sorted((job.session, job.python, job.engine) for job in found)
    gitlab = yaml.safe_load((ROOT / PIPELINE).read_text())["session"]["parallel"]["matrix"]
    assert gitlab == [{"SESSION": list(dict.fromkeys(job.session for job in found))}]


def test_what_the_noxfile_runs_by_default_and_its_test_flows_are_in_the_matrix(found: list[pipelines.Job]) -> None:
    words = [sys.executable, "-m", "nox", "--list-sessions", "--json"]
    listed = json.loads(process.run(words, deadline=240, cwd=ROOT).stdout)

    sessions = {job.session for job in found}
    assert {each["session"] for each in listed} | {"test", "alpine_test", "integration", "verify"} <= sessions
    assert sessions & {"dev", "ci", "bench", "matrix"} == set()
    pythons = nox.project.python_versions(nox.project.load_toml(ROOT / "pyproject.toml"))
    assert [job.python for job in found if job.session == "unit"] == pythons


def test_a_session_becomes_jobs_by_its_tags(tmp_path: Path) -> None:
    made = pipelines.jobs(project(tmp_path))

    assert [(job.name, job.engine, job.minutes) for job in made] == [
        ("quick-3.12", False, 15), ("quick-3.13", False, 15), ("heavy-3.12", True, 45),
    ]  # fmt: skip
    assert pipelines.matrix(made[2:]) == {
        "include": [{"session": "heavy", "python": "3.12", "engine": True, "minutes": 45}]
    }


def test_a_new_session_changes_both_files_and_only_when_it_does(tmp_path: Path) -> None:
    made = pipelines.jobs(project(tmp_path))

    assert pipelines.write(made, tmp_path) == [WORKFLOW, PIPELINE]
    assert pipelines.write(made, tmp_path) == []
    assert rows((tmp_path / WORKFLOW).read_text()) == [
        ("quick", "3.12", False), ("quick", "3.13", False), ("heavy", "3.12", True),
    ]  # fmt: skip
    assert (tmp_path / PIPELINE).stat().st_mode & 0o777 == 0o644


def test_a_noxfile_without_a_matrix_or_with_a_mistake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no session has the tag 'matrix'"):
        pipelines.jobs(project(tmp_path, "import nox\n@nox.session\ndef x(session): pass\n"))
    with pytest.raises(CommandError, match="SyntaxError"):
        pipelines.jobs(project(tmp_path, "def\n"))


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_workflow_may_do_no_more_than_it_must() -> None:
    workflow = yaml.safe_load((ROOT / WORKFLOW).read_text())

    writing = {name for name, job in workflow["jobs"].items() if "write" in job["permissions"].values()}
    assert workflow["permissions"] == {}
    assert writing == {"scan"}
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps(workflow) if "uses" in step)
    assert all(
        step["with"] == {"persist-credentials": False} for step in steps(workflow) if "checkout" in step.get("uses", "")
    )
    # a branch may be named so that a shell would run it
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def filled(name: str, row: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda match: row[match[1]], name)


def test_what_is_uploaded_for_scanning_is_what_the_verify_job_stored() -> None:
    workflow = yaml.safe_load((ROOT / WORKFLOW).read_text())
    stored = {
        filled(step["with"]["name"], row)
        for job in workflow["jobs"].values() if "strategy" in job
        for row in job["strategy"]["matrix"]["include"]
        for step in job["steps"] if "upload-artifact" in step.get("uses", "")
    }  # fmt: skip

    (wanted,) = (step["with"]["name"] for step in steps(workflow) if "download-artifact" in step.get("uses", ""))
    assert wanted in stored


def script(name: str, *words: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own script
        [str(ROOT / ".ci" / name), *words], env={"PATH": path}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        (["load", "FILE"], ["load --quiet --input FILE"]),
        (["save", "FILE"], ["image ls --filter reference=stackyard/* --format {{.Repository}}:{{.Tag}}",
                            "save --output FILE stackyard/auth:debian stackyard/redis:alpine"]),
    ],
)  # fmt: skip
def test_images_go_from_one_job_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], calls: Sequence[str]
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    noted = install_docker(
        tmp_path,
        'test "$1" != image || printf "stackyard/auth:debian\\nstackyard/base-debian:1\\nstackyard/redis:alpine\\n"',
    )
    file = tmp_path / "cache/images.tar"
    file.parent.mkdir()
    file.touch()

    done = script("images", *(word.replace("FILE", str(file)) for word in words), path=os.environ["PATH"])

    assert (done.returncode, done.stderr) == (0, "")
    assert noted.read_text().splitlines() == [call.replace("FILE", str(file)) for call in calls]


def test_images_that_were_not_kept_are_no_failure_and_a_wrong_word_is(tmp_path: Path) -> None:
    nothing = script("images", "load", str(tmp_path / "none.tar"), path="/usr/bin:/bin")
    wrong = script("images", "push", "x", path="/usr/bin:/bin")

    assert (nothing.returncode, wrong.returncode) == (0, 2)
    assert "got push" in wrong.stderr

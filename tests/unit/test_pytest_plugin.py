"""The fixtures for other people's suites: what cannot work is said in one line, without a traceback."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from stackyard._util import process
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard._util.process import Completed

SUITE = "def test_one(stack): pass\ndef test_two(stack): pass\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["stackyard.pytest_plugin"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (tmp_path / "test_mine.py").write_text(SUITE)
    return tmp_path


def run(suite: Path, *words: str, root: Path | None = None) -> Completed:
    env = {
        "STACKYARD_ROOT": str(root or project_root()), "STACKYARD_STATE_DIR": str(suite / "state"),
        "STACKYARD_REAPER": "off", "DOCKER_HOST": f"unix://{suite}/no.sock", "PATH": os.environ["PATH"],
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return process.run(command, deadline=60, env=env, cwd=suite, check=False)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "--stack-environment=tset",
            "argument --stack-environment: unknown environment 'tset'; did you mean 'test'? known: ",
        ),
        ("--stack-wait=soon", "argument --stack-wait: the value must be a time such as 30s, 5m or 1h30m, "),
    ],
)
def test_a_wrong_option_ends_pytest_before_any_test(suite: Path, word: str, message: str) -> None:
    done = run(suite, word)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wait", ["600", "5m"])
def test_a_stack_that_cannot_start_fails_each_test_in_one_line(suite: Path, wait: str) -> None:
    done = run(suite, f"--stack-wait={wait}")

    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 errors" in done.stdout
    assert "ERROR test_mine.py::test_two - Failed: stackyard: " in done.stdout
    assert "site-packages" not in done.stdout
    assert "def stack(" not in done.stdout


def test_a_missing_project_is_one_line_too(suite: Path) -> None:
    done = run(suite, root=suite / "nowhere")

    assert f"stackyard: STACKYARD_ROOT is '{suite}/nowhere'" in done.stdout
    assert "def stack(" not in done.stdout

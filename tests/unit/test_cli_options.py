"""The options of `invoke env.*` against hostile words: one clear line, exit code 2 or 5, nothing run."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invoke_shell import ended

from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

NAMES = [
    "",
    "../x",
    "A B",
    "-rf",
    "x" * 300,
    "emoji\N{SNOWMAN}",
    "_x",
    "a/b",
    ".",
    "..",
    "a\nb",
    "\N{ZERO WIDTH SPACE}",
]
SHELL = ["$(touch pwned)", "`touch pwned`", "; touch pwned", "| touch pwned", "&& touch pwned", "\n touch pwned\n"]
COUNTS = ["0", "-1", "nan", "inf", "-inf", "1e9", "08", "1e3", "1_000", " 5", "true", "", "\N{ARABIC-INDIC DIGIT FIVE}"]


@pytest.fixture
def folder(tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    del fake_engine  # DOCKER_HOST names it
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("stackyard.images.ensure", lambda *_, **__: pytest.fail("got past its arguments"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words: str) -> tuple[int, str]:
    """Run `invoke` in this process; return exit code and all it wrote."""
    wrote = io.StringIO()
    with redirect_stdout(wrote), redirect_stderr(wrote):
        code = ended(*words)
    return code, wrote.getvalue()


def refused(*words: str, codes: tuple[int, ...] = (2,)) -> str:
    """Run `invoke` with wrong words; return its one line."""
    code, said = invoke(*words)
    assert code in codes, (code, said)
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("value", [value for value in COUNTS if value])
@pytest.mark.parametrize(
    "command",
    [
        ("env.up", "--ttl"), ("env.up", "--timeout"), ("env.up", "--queue-timeout"), ("env.wait", "--timeout"),
        ("env.logs", "--service=redis", "--tail"),
    ],
    ids="up-ttl up-timeout up-wait wait-timeout logs-tail".split(),
)  # fmt: skip
def test_a_count_that_is_none_is_refused_by_name(folder: Path, command: tuple[str, ...], value: str) -> None:
    del folder
    *words, option = command
    if command[-1] == "--tail" and value == "1e9":
        value = "1000000000"

    said = refused(*words, f"{option}={value}")

    assert said.startswith(f"{option} must be ")
    assert "got " in said


@pytest.mark.parametrize("value", ["-1", "51", "many"])
def test_the_size_of_a_pool_may_be_0_and_the_message_says_so(folder: Path, value: str) -> None:
    del folder

    assert refused("env.pool", f"--size={value}") == f"--size must be a number from 0 to 50, got '{value}'\n"


@pytest.mark.parametrize("name", [*NAMES, *SHELL])
def test_a_hostile_name_is_refused_everywhere(folder: Path, name: str) -> None:
    for command in ("env.down", "env.status", "env.wait"):
        refused(command, f"--name={name}", codes=(2, 5))
    refused("env.up", f"--environment={name}")
    refused("env.logs", f"--service={name}", "--name=none", codes=(2, 5))
    refused("env.exec", f"--service={name}", "--command=true", "--name=none", codes=(2, 5))

    assert not (folder / "pwned").exists()


@given(name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_no_name_outside_the_rule_reaches_the_disk(folder: Path, name: str) -> None:
    from stackyard.leases.names import ID

    if ID.fullmatch(name):
        return
    book = LeaseBook(Settings.load())

    code, said = invoke("ports.allocate", f"--name={name}")

    assert code == 2, said
    assert "Traceback" not in said
    assert book.leases() == []
    assert {path.name for path in folder.iterdir()} <= {"state", "docker.sock"}


@pytest.mark.parametrize("command", SHELL)
def test_execs_words_never_meet_a_shell(folder: Path, fake_engine: FakeEngine, command: str) -> None:
    from fake_docker import install_docker

    calls = install_docker(folder, "exit 0")
    lease = LeaseBook(Settings.load()).acquire(Environment.load("test"), ttl=60)
    fake_engine.container("redis", lease.id)

    code, said = invoke("env.exec", "--service=redis", f"--command=echo {command}", f"--name={lease.id}")

    assert (code, said) in {(0, ""), (2, said)}
    assert not (folder / "pwned").exists()
    assert code == 2 or "pwned" in calls.read_text()

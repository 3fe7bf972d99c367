from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from fake_docker import install_docker

from stackyard.docker.compose import Compose, start_at_once, taken, unmade, up
from stackyard.errors import CommandError, ConfigError, EngineError


def make_project(tmp_path: Path, script: str) -> Compose:
    install_docker(tmp_path, script)
    return Compose(file=Path("c.yml"), env_file=Path("e.env"), project="p", overrides=(Path("o.yml"),))


@pytest.fixture
def _own_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


@pytest.mark.usefixtures("_own_docker")
def test_a_command_names_file_env_file_and_project_explicitly(tmp_path: Path) -> None:
    words = make_project(tmp_path, "").command("ps", "-a")

    assert " ".join(words) == "docker compose -f c.yml -f o.yml --env-file e.env -p p ps -a"


@pytest.mark.usefixtures("_own_docker")
def test_the_model_is_composes_own_rendering(tmp_path: Path) -> None:
    project = make_project(
        tmp_path, """[ "$*" = "${*%config --format json}config --format json" ] && echo '{"name": "p"}'"""
    )

    assert project.model() == {"name": "p"}


@pytest.mark.usefixtures("_own_docker")
def test_up_runs_detached_and_never_builds_or_waits(tmp_path: Path) -> None:
    done = asyncio.run(up(make_project(tmp_path, 'echo "$@"').command(), deadline=120))

    assert done.stdout.split()[-5:] == ["up", "--detach", "--no-build", "--quiet-pull", "--no-color"]


def test_what_compose_began_to_make_and_has_not_seen_made_is_known_from_its_progress() -> None:
    lines = """
 Network p_default  Creating
 Network p_default  Created
 Volume "p_rows"  Creating
 Container p-db-1  Creating
 Container p-web-1 Creating
 Container p-web-1 Created
 Container p-web-1 Starting
 Container p-job-1  Creating
 Container p-job-1  Error
Error response from daemon: Container p-x-1 Creating went wrong
"""

    assert unmade(lines) == [("volume", "p_rows"), ("container", "p-db-1")]
    assert unmade("") == []


@pytest.mark.usefixtures("_own_docker")
def test_what_compose_said_is_known_though_it_is_ended(tmp_path: Path) -> None:
    words, errors = make_project(tmp_path, "echo ' Container a  Creating' >&2; sleep 600").command(), bytearray()

    for deadline in (0.5, 5, 50):  # a busy machine may take longer to start it
        with pytest.raises(CommandError, match="deadline"):
            asyncio.run(up(words, deadline=deadline, errors=errors))
        if errors:
            break

    assert errors == b" Container a  Creating\n"


def test_only_dependent_services_are_freed(tmp_path: Path) -> None:
    file = tmp_path / "c.yml"
    file.write_text("services:\n  a: {image: x}\n  b: {image: x, depends_on: [a]}\n")

    assert start_at_once(file, tmp_path).read_text() == 'services:\n  "b": {depends_on: !reset null}\n'


def test_an_override_replaces_a_link_that_has_its_name(tmp_path: Path) -> None:
    file, foreign = tmp_path / "c.yml", tmp_path / "foreign"
    file.write_text("services: {}\n")
    foreign.write_text("precious")
    (tmp_path / "at-once.yml").symlink_to(foreign)

    assert start_at_once(file, tmp_path).read_text() == "services: {}\n"
    assert foreign.read_text() == "precious"


def test_a_file_without_dependencies_needs_no_change(tmp_path: Path) -> None:
    file = tmp_path / "c.yml"
    file.write_text("services:\n  a: {image: x}\n")

    assert start_at_once(file, tmp_path).read_text() == "services: {}\n"


@pytest.mark.parametrize("text", ["{", "[]", "services: 3", None], ids=["broken", "list", "number", "missing"])
def test_what_is_no_compose_file_is_one_line(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "c.yml"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        start_at_once(file, tmp_path)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Bind for 127.0.0.1:9500 failed: port is already allocated", True),
        ("listen tcp4 127.0.0.1:9500: bind: address already in use", True),
        ("invalid pool request: Pool overlaps with other one on this address space", True),
        ("conflicts with network 16d1 (br-16d1): networks have overlapping IPv4", True),
        ("No such image", False),
    ],
)
def test_stolen_ports_and_subnets_are_not_taken_for_other_failures(output: str, expected: bool) -> None:
    assert bool(taken(CommandError(["docker"], 1, output))) is expected


@pytest.mark.usefixtures("_own_docker")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("case $* in *version*) echo 2.5.0; exit 0;; esac; exit 1", "is 2.5.0; stackyard needs 2.20.2 or newer"),
        ("echo \"docker: 'compose' is not a docker command.\" >&2; exit 1", "has no Compose plugin; stackyard needs"),
    ],
    ids=["old", "missing"],
)
def test_an_unfit_plugin_is_named_when_up_fails(tmp_path: Path, answer: str, words: str) -> None:
    with pytest.raises(EngineError, match=re.escape(words)):
        asyncio.run(up(make_project(tmp_path, answer).command(), deadline=120))


@pytest.mark.usefixtures("_own_docker")
@pytest.mark.parametrize("version", ["2.26.1-4", "dev"])
def test_a_fit_plugins_own_words_are_kept(tmp_path: Path, version: str) -> None:
    script = f"case $* in *version*) echo {version}; exit 0;; esac; echo 'no such image' >&2; exit 1"

    with pytest.raises(CommandError, match="no such image"):
        asyncio.run(up(make_project(tmp_path, script).command(), deadline=120))

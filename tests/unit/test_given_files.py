"""Files that Compose is to read: one without an end is refused, and what a pipe of the shell holds is read."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_project import FakeDocker

from stackyard._util import files, process
from stackyard._util.process import Completed
from stackyard.cli import options
from stackyard.docker.endpoint import Certificates
from stackyard.errors import ConfigError, UsageError
from stackyard.project import Project, rendering
from stackyard.project.configuration import Configuration, named_ahead
from stackyard.project.environments import Environment
from stackyard.project.environments.roots import has_environments
from stackyard.project.project import render_ahead
from stackyard.sites.swarm import files as swarm_files
from stackyard.sites.swarm.files import UnfitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fake_engine import FakeEngine

LONG = "x" * 300
FAULTS = {
    "gone": "no such file in ", LONG: "no such file in ", "a\0b": "no such file in ", "file/below": "no such file in ",
    "a\udc80b\udfff": "no such file in ", "folder": "must be a file, not a folder",
    "pipe": "must be a file, not a pipe",
    "socket": "must be a file, not a socket", "/dev/zero": "must be a file, not a device",
    "link-to-pipe": "must be a file, not a pipe", "loop": "cannot be read (Too many levels of symbolic links)",
}  # fmt: skip
FINE = ("file", "link", "/dev/null", "é.env")

every_fault = pytest.mark.parametrize(("name", "said"), FAULTS.items(), ids=lambda text: ascii(text)[:30])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with everything that a name may lead to."""
    made = tmp_path / "shop"
    (made / "folder").mkdir(parents=True)
    for name in ("file", "é.env", "compose.yaml"):
        (made / name).touch()
    os.mkfifo(made / "pipe")
    for name, target in (("link", "file"), ("link-to-pipe", "pipe"), ("loop", "loop")):
        (made / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(made):
        listener.bind("socket")
        yield made


class Docker:
    """A `docker compose config` that reads the files it is given, as often as it is asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.read: list[list[str]] = []

    def __call__(self, argv: Sequence[str], **_: Any) -> Completed:
        self.calls.append([*argv])
        named = [argv[place + 1] for place, word in enumerate(argv) if word in {"--file", "--env-file"}]
        self.read.append([Path(name).read_text() for name in named])
        return Completed(argv=tuple(argv), returncode=0, stdout='{"name": "x"}', stderr="", seconds=0.0)


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Docker:
    made = Docker()
    monkeypatch.setattr(process, "run", made)
    monkeypatch.setattr(rendering, "AHEAD", [])
    return made


@every_fault
def test_a_file_that_cannot_be_read_to_its_end_has_one_line_that_says_why(place: Path, name: str, said: str) -> None:
    assert files.fault(place, name).startswith(said)


@pytest.mark.parametrize("name", FINE)
def test_a_file_a_link_to_one_and_the_null_device_can_be_read(place: Path, name: str) -> None:
    assert files.fault(place, name) == ""


@every_fault
def test_an_env_file_of_the_configuration_that_cannot_be_read_is_named(place: Path, name: str, said: str) -> None:
    template = {"x-stackyard": {"env_files": [name]}}

    with pytest.raises(ConfigError) as caught:
        Configuration.read(place, template)

    rule = "must be a path, " if "\0" in name else said  # before anything looks for it
    assert caught.value.rule.startswith(rule)
    assert str(caught.value).startswith("the Compose file: x-stackyard.env_files")


@pytest.mark.parametrize("name", ["gone", LONG, "folder", "pipe", "/dev/zero", "loop", "a\\u0000b"])
def test_one_of_a_toml_file_is_named_and_not_given_to_compose(place: Path, docker: Docker, name: str) -> None:
    (place / "stackyard.toml").write_text(f'env_files = ["{name}"]')

    assert named_ahead(place) == ([], [])
    with pytest.raises(ConfigError, match=r"^stackyard\.toml: env_files(\[0\])?: [^\n]*$"):
        Project.find(place, environment={})
    assert not any("--env-file" in call for call in docker.calls)


@pytest.mark.parametrize("option", ["--file", "--env-file"])
@every_fault
@pytest.mark.usefixtures("place")
def test_an_option_that_names_such_a_file_is_refused_before_compose_is_asked(
    docker: Docker, option: str, name: str, said: str
) -> None:
    given = {"--file": ([name], None), "--env-file": (None, [name])}[option]

    with pytest.raises(UsageError) as caught:
        options.project(given[0], None, given[1])

    assert str(caught.value).startswith(f"{option} {name}: {said}")
    assert docker.calls == []


@pytest.mark.parametrize("variable", ["COMPOSE_FILE", "COMPOSE_ENV_FILES"])
@pytest.mark.parametrize("name", ["gone", LONG, "folder", "pipe", "/dev/zero"])
def test_a_variable_that_names_such_a_file_is_refused_before_compose_is_asked(
    place: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch, variable: str, name: str
) -> None:
    monkeypatch.setenv(variable, name)

    render_ahead(place)
    with pytest.raises(UsageError, match=rf"^{variable} {name}: "):
        options.project(None, None, None)

    assert (docker.calls, rendering.AHEAD) == ([], [])


@pytest.mark.parametrize("name", ["compose.yaml", ".env"])
def test_a_pipe_that_compose_would_find_and_wait_for_is_refused(place: Path, docker: Docker, name: str) -> None:
    (place / name).unlink(missing_ok=True)
    os.mkfifo(place / name)

    with pytest.raises(UsageError, match=rf"^{place / name}: must be a file, not a pipe$"):
        options.project(None, None, None)
    assert docker.calls == []


def test_a_pipe_that_compose_would_not_read_is_no_fault(place: Path, docker: Docker) -> None:
    os.mkfifo(place / "docker-compose.yml")
    os.mkfifo(place / ".env")

    options.project(None, None, ["file"])
    (place / ".env").unlink()
    (place / ".env").mkdir()
    options.project(None, None, None)

    assert docker.calls


@pytest.mark.parametrize(
    "name", ["https://example.org/compose.yaml", "oci://example.org/shop", "git@example.org:a.git"]
)
@pytest.mark.usefixtures("place")
def test_a_file_with_an_address_is_left_to_compose(
    monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine, name: str
) -> None:
    compose = FakeDocker(fake_engine)
    compose.install(monkeypatch)

    options.project([name], None, None)

    assert all(call[call.index("--file") + 1] == name for call in compose.calls)


@pytest.fixture
def piped() -> Iterator[Callable[[str], int]]:
    """Return a function that gives the reading end of a pipe, as a shell's ``<(...)`` does."""
    with contextlib.ExitStack() as stack:

        def made(text: str) -> int:
            reading, writing = os.pipe()
            stack.callback(os.close, reading)
            with os.fdopen(writing, "w") as opened:
                opened.write(text)
            return reading

        yield made


@pytest.fixture
def standard_input(piped: Callable[[str], int]) -> Iterator[Callable[[str], None]]:
    """Return a function that lets this process's standard input hold a text."""
    before = os.dup(0)

    def hold(text: str) -> None:
        os.dup2(piped(text), 0)

    yield hold
    os.dup2(before, 0)
    os.close(before)


def test_files_through_a_pipe_are_read_by_every_question_to_compose(
    place: Path, docker: Docker, piped: Callable[[str], int]
) -> None:
    project = options.project(["file", f"/dev/fd/{piped('more')}"], None, [f"/proc/self/fd/{piped('A=1')}"])
    project.model(variables={"A": "2"})

    assert len(docker.calls) > 3
    assert {tuple(texts) for texts in docker.read} == {("", "more", "A=1")}
    assert project.home == place
    assert "--project-directory" not in docker.calls[0]


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_first_compose_file_from_standard_input_belongs_to_the_folder(
    place: Path, docker: Docker, standard_input: Callable[[str], None], name: str
) -> None:
    standard_input("services: {}")

    project = options.project([name], ["p"], None)

    assert {tuple(texts) for texts in docker.read} == {("services: {}",)}
    assert project.home == place
    assert all(call[call.index("--project-directory") + 1] == str(place) for call in docker.calls)
    assert project.chosen("--profile") == ["p"]


@pytest.mark.usefixtures("place", "docker")
def test_a_dash_is_no_env_file() -> None:
    with pytest.raises(UsageError, match=r"^--env-file -: no such file in "):
        options.project(None, None, ["-"])


@pytest.mark.usefixtures("place", "docker")
def test_an_open_file_that_holds_too_much_or_is_closed_is_refused() -> None:
    said = r"^--file /dev/fd/\d+: holds more than 4000000 bytes$"
    with Path("/dev/zero").open("rb") as endless, pytest.raises(UsageError, match=said):
        options.project([f"/dev/fd/{endless.fileno()}"], None, None)
    with pytest.raises(UsageError, match=r"^--file /dev/fd/999999: cannot be read \(Bad file descriptor\)$"):
        options.project(["/dev/fd/999999"], None, None)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path), str])
def test_an_environment_s_files_that_cannot_be_read_are_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    (tmp_path / "envs").mkdir()
    make(tmp_path / "envs/docker_environments.yaml")

    with pytest.raises(ConfigError, match=r"^envs/docker_environments\.yaml: file: ") as caught:
        Environment.load("test", tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_with_a_name_that_none_can_have_has_no_environments(tmp_path: Path) -> None:
    assert not has_environments(tmp_path / LONG / "a\0b")
    assert Configuration.read(tmp_path / LONG, {}) == Configuration()


@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "folder", "gone", LONG])
def test_a_secret_that_has_no_end_does_not_go_to_a_swarm(place: Path, name: str) -> None:
    with pytest.raises(UnfitError, match=r": (must be a file, not a |no such file in )"):
        swarm_files._content({"file": str(place / name)}, {})


def test_a_name_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    for folder, environment in ((tmp_path / "a\0b", {}), (tmp_path, {"A": "a\0b"}), (tmp_path / LONG, {})):
        with pytest.raises(UsageError, match=r"^[^\n]+: (embedded null byte|File name too long)$"):
            rendering.ask((), folder, environment)


def test_certificates_in_a_folder_that_no_folder_can_be_are_not_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")

    for folder in (tmp_path, tmp_path / LONG):
        found = Certificates.of(folder, verify=True)
        assert (found.ca, found.cert, found.key) == (None, None, None)

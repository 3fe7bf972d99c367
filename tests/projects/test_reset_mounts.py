"""What a reset of a copy leaves as it is, inside a volume and instead of one, and that a volume gets nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.projects.expected import BARE

from stackyard._util import process
from stackyard.project import Project
from stackyard.running.stack import Stack
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

INSIDE: Final = """
services:
  files:
    image: {box}
    command: [sh, -c, "[ -e /rows/seed ] || echo seed > /rows/seed; exec httpd -f"]
    volumes: ["rows:/rows", "./src:/rows/src", "theirs:/rows/theirs", "./one.conf:/rows/one.conf:ro"]
volumes:
  rows: {{}}
  theirs: {{external: true, name: {theirs}}}
"""
ELSEWHERE: Final = """
services:
  files:
    image: {box}
    command: [sh, -c, "[ -e /rows/seed ] || echo seed > /rows/seed; exec httpd -f"]
    volumes: ["src:/src", "rows:/rows"]
volumes:
  src: {{driver_opts: {{type: none, o: bind, device: {folder}/src}}}}
  rows: {{}}
"""
# the image has files in this folder, and the service removes them at its first start
FILLED: Final = """
services:
  files:
    image: {box}
    command: [sh, -c, "cd {place}; [ -e done ] || (rm -rf ./*; touch done); exec httpd -f"]
    volumes: ["{volume}{place}"]
volumes: {{rows: {{}}}}
"""
PLACE: Final = "/usr/share/apk"


@pytest.fixture
def start(box: str, tmp_path: Path, book: LeaseBook, engine: Engine) -> Iterator[Callable[..., Stack]]:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("before")
    (tmp_path / "one.conf").write_text("before")
    made: list[Stack] = []

    def begin(compose: str, more: str = "", **words: str) -> Stack:
        (tmp_path / "compose.yaml").write_text(compose.format(box=box, folder=tmp_path, **words))
        (tmp_path / "stackyard.toml").write_text(more)
        project = Project.find(tmp_path, environment=BARE)
        made.append(Stack(lifecycle.start(project, book, engine, CopyRequest(name="mine", resettable=True))))
        return made[-1]

    yield begin
    assert [stack.down().left for stack in made] == [[]]


def shell(stack: Stack, script: str) -> str:
    done = stack.exec("files", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edit(folder: Path) -> None:
    """Do what a user does with files of the project while a copy runs."""
    (folder / "src" / "main.py").write_text("edited")
    (folder / "src" / "new.py").write_text("new")


def edited(folder: Path) -> list[tuple[str, str]]:
    return sorted((path.name, path.read_text()) for path in (folder / "src").iterdir())


def test_folders_files_and_volumes_of_others_inside_a_volume_stay_as_they_are(
    start: Callable[..., Stack], tmp_path: Path
) -> None:
    theirs = f"theirs-{tmp_path.name.replace('_', '-')[-20:]}"
    process.run(["docker", "volume", "create", theirs], deadline=60)
    try:
        stack = start(INSIDE, '[share]\nvolumes = ["theirs"]\n', theirs=theirs)
        shell(stack, "echo kept > /rows/theirs/row; rm /rows/seed; echo mine > /rows/mine")
        edit(tmp_path)
        (tmp_path / "one.conf").write_text("edited")

        stack.reset()

        assert edited(tmp_path) == [("main.py", "edited"), ("new.py", "new")]
        assert (
            shell(stack, "cd /rows; cat seed one.conf theirs/row; ls")
            == "seed\neditedkept\none.conf\nseed\nsrc\ntheirs\n"
        )
        assert stack.down().left == []
    finally:
        process.run(["docker", "volume", "rm", theirs], deadline=60)


def test_a_volume_whose_content_is_a_folder_of_this_host_stays_as_it_is(
    start: Callable[..., Stack], tmp_path: Path
) -> None:
    stack = start(ELSEWHERE)
    shell(stack, "rm /rows/seed")
    edit(tmp_path)

    stack.reset()

    assert edited(tmp_path) == [("main.py", "edited"), ("new.py", "new")]
    assert shell(stack, "cat /rows/seed /src/main.py") == "seed\nedited"


@pytest.mark.parametrize("volume", ["rows:", ""], ids=["named", "anonymous"])
def test_files_of_the_image_that_a_service_has_removed_do_not_come_back(
    start: Callable[..., Stack], volume: str
) -> None:
    stack = start(FILLED, place=PLACE, volume=volume)
    before = shell(stack, f"stat -c '%u %g %a' {PLACE}; ls -A {PLACE}")
    assert before.endswith("\ndone\n")
    shell(stack, f"touch {PLACE}/mine")

    stack.reset()

    assert shell(stack, f"stat -c '%u %g %a' {PLACE}; ls -A {PLACE}") == before

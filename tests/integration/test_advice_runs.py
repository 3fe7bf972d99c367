"""The commands that stackyard's messages advise, run for real."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import TYPE_CHECKING, Final

import advice
import pytest

from stackyard._util import process
from stackyard.project.environments import Environment
from stackyard.stacks.environments.launch import prepare_images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "advised"
# What has tests of its own and takes minutes, removes what other checkouts may need, changes the host, needs a Swarm or
# words of the user's, or is a session of nox.
ELSEWHERE: Final = (
    "invoke verify.all", "invoke bench.run", "invoke cleanup.images", "invoke cleanup.all", "invoke verify.docs",
    "./noxw",
    "stackyard doctor --fix", "stackyard site registry", "stackyard site reaper", "stackyard up --site",
    "stackyard down --site", "stackyard run", "stackyard up",
)  # fmt: skip
LAST: Final = ("invoke env.down", "invoke cleanup.stale", "invoke reaper.stop", "stackyard down")
DEADLINE: Final = 600.0  # seconds for one command
CHOSEN: Final = ("--name", NAME)  # with two stacks, a line without a name answers with the list of names
MORE: Final = {
    "env.up": ("--timeout", "10m"), "env.logs": CHOSEN, "env.wait": (*CHOSEN, "--timeout", "10m"), "env.status": CHOSEN,
}  # fmt: skip


def lines(program: str) -> list[str]:
    """Return each line of a program once: first those that start something, last those that end it."""
    found = {item.text for item in advice.found() if item.where.startswith(("src", "scripts"))}
    typed = [line for line in found if line.startswith(f"{program} ") and not line.startswith(ELSEWHERE)]
    return sorted(typed, key=lambda line: (next((n for n, end in enumerate(LAST, 1) if line.startswith(end)), 0), line))


def filled(line: str) -> list[str]:
    """Return the words of a line; a made-up name becomes that of the test's own stack, or a flavour."""
    words = shlex.split(line)[1:]
    pairs = {"--name": NAME, "--flavour": "debian"}
    return [
        pairs.get(before, NAME if before in {"down", "ps"} else word) if word == advice.PLACE else word
        for before, word in zip(["", *words], words, strict=False)
    ]


@pytest.fixture
def invoke(tmp_path: Path) -> Iterator[list[str]]:
    """Type commands in a state directory of their own; what is left in the end is removed."""
    words = [sys.executable, "-m", "invoke", "-r", str(advice.ROOT)]
    yield words
    dev = ["env.down", "--environment", "dev", "--volumes", "--yes"]  # nothing else removes the data that it keeps
    for end in (["env.pool", "--size", "0"], dev, ["cleanup.all", "--yes"], ["reaper.stop"]):
        process.run([*words, *end], deadline=DEADLINE, env=environment(tmp_path), check=False)


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STACKYARD_")}
    return {**kept, "STACKYARD_STATE_DIR": str(folder / "state"), "STACKYARD_REAPER": "on"}


@pytest.mark.timeout(1200)
def test_every_line_that_a_message_tells_the_user_to_type_works(invoke: list[str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    failed = {}

    for words in (["env.up", "--name", NAME], *map(filled, lines("invoke"))):
        named = [*words, *MORE.get(words[0], ())]
        done = process.run([*invoke, *named], deadline=DEADLINE, env=environment(tmp_path), check=False)
        if done.returncode:
            failed[shlex.join(words)] = f"{done.returncode}: {(done.stderr or done.stdout)[-300:]}"

    assert not failed


def test_so_does_every_line_of_the_console_program(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    image = prepare_images(Environment.load("test"), print)["STACKYARD_IMAGE_REDIS"]
    service = {
        "image": image,
        "entrypoint": ["sleep", "infinity"],
        "volumes": ["data:/kept"],
        "healthcheck": {"disable": True},
    }
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": service}, "volumes": {"data": {}}}))
    stackyard, failed = [sys.executable, "-m", "stackyard"], {}

    def typed(*words: str) -> None:
        done = process.run(
            [*stackyard, *words], deadline=DEADLINE, env=environment(tmp_path), cwd=tmp_path, check=False
        )  # fmt: skip
        if done.returncode:
            failed[shlex.join(words)] = f"{done.returncode}: {(done.stderr or done.stdout)[-300:]}"

    try:
        typed("up", "--name", NAME, "--resettable")
        for line in lines("stackyard"):
            if line.startswith(LAST):  # the line before may have removed the copy
                typed("up", "--name", NAME, "--resettable")
            typed(*filled(line))
    finally:
        typed("down", "--all")

    assert failed == {}


def test_lines_are_found() -> None:
    assert len(lines("invoke")) > 12
    assert len(lines("stackyard")) > 6

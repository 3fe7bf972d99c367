"""Every command that needs the engine, against one that misbehaves at its first request or at a later one."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import engine_cases
import pytest
from fake_docker import install_docker
from unruly_engine import ANSWERS, Answer, http, unruly

from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_engine import FakeEngine

ENGINE: Final = 3  # exit code
PROMISED: Final = 30  # seconds
# what is answered as an engine does, before all else goes wrong
FINE: Final = (
    "",
    "/_ping",
    "/_ping|/containers/json|/networks|/volumes",
    "/_ping|/containers/json|/networks|/volumes|/containers/[^/]+/json",
)
# these cannot do anything without an engine
COMMANDS: Final = [
    "env.status mine", "env.logs redis", "env.logs redis --follow", "env.restart redis", "env.exec redis -- true",
    "env.down mine", "env.up --name mine", "env.up --name other", "env.up dev", "env.capacity",
    "env.down --environment dev --yes --volumes", "cleanup.all --yes", "cleanup.stale", "cleanup.plan",
    "cleanup.images --yes", "monitor.stats --once", "images.list", "images.build --flavour debian",
    "verify.images --flavour debian", "verify.stack", "verify.stack --environment test", "flow test", "flow dev",
    "lost env.status mine", "lost env.up", "lost env.down --environment dev", "lost cleanup.stale",
    "lost monitor.stats --once", "lost flow test",
]  # fmt: skip
SENSIBLE: Final = frozenset({"an empty list", "an empty object"})
WITHOUT: Final = ["ports.allocate other", "ports.release mine", "ports.check", "ports.list"]


def misbehaving(fake: FakeEngine, fine: str, wrong: Answer) -> Callable[[str, str], Answer]:
    """Answer GET requests for the paths *fine* as *fake* does, and all others with *wrong*."""

    def answer(method: str, path: str) -> Answer:
        asked = urlsplit(path)
        if method != "GET" or not re.fullmatch(fine, re.sub(r"^/v[\d.]+", "", asked.path)):
            return wrong
        if asked.path.endswith("/_ping"):
            return http("OK")
        return http(json.dumps(fake.answer(method, asked.path, parse_qs(asked.query))[1]))

    return answer


@pytest.fixture
def state(tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lease book with the lease of a stack of which the engine has two services."""
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(Settings, "host", engine_cases.HOST)
    install_docker(tmp_path, "exit 0")
    with Engine() as engine:
        lease = open_book(None, engine).acquire(Environment.load("test"), ttl=600, parallel_id="mine")
    for service in ("redis", "auth"):
        fake_engine.container(service, lease.id)["labels"]["com.docker.compose.project"] = lease.project
    monkeypatch.setenv("STACKYARD_ENGINE_TIMEOUT", "0.4")
    return tmp_path / "state"


@pytest.mark.timeout(1200)  # two hundred commands
def test_every_command_ends_in_one_line_whatever_the_engine_answers(
    tmp_path: Path, fake_engine: FakeEngine, state: Path
) -> None:
    sockets, planned = {}, []
    with contextlib.ExitStack() as stack:
        answers = itertools.cycle(name for name in ANSWERS if name != "silence")
        for number, words in enumerate([*COMMANDS, *WITHOUT]):
            cases = [(number % len(FINE), "silence"), *((fine, next(answers)) for fine in range(len(FINE)))]
            for fine, name in cases:
                path = tmp_path / f"{fine}-{list(ANSWERS).index(name)}"
                if path not in sockets:
                    sockets[path] = stack.enter_context(
                        unruly(path, misbehaving(fake_engine, FINE[fine], ANSWERS[name]))
                    )
                planned.append((path, words.split()))
        ends = engine_cases.run(planned, state)

    assert len(ends) == len(planned)
    assert [end for end in ends if not sound(end)] == []


def sound(end: engine_cases.End) -> bool:
    """Say whether a command ended as it should."""
    fine, answer = map(int, end.socket.rpartition("/")[2].split("-"))
    words = " ".join(end.words)
    # a later request may be one that a command can do without, a removal may leave something, and no list is a list
    ends = {0, 2, ENGINE, 5, 7, 8} if fine > 1 or words in WITHOUT or list(ANSWERS)[answer] in SENSIBLE else {ENGINE}
    said = end.stderr.splitlines()
    listed = said[1:-1] if re.match(r"\d+ left after the clean-up:$", said[0] if said else "") else []
    lines = 1 if listed and all(line.startswith("  ") for line in listed) else len(said)
    told = lines == bool(end.code) or (words in WITHOUT and lines == 1)  # the latter is a note
    return end.code in ends and told and "Traceback" not in end.stderr and end.seconds < PROMISED

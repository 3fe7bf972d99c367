"""Real processes that start real stacks and have to take turns; all under a lease book of the test's own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackyard._util import state_directory
from stackyard.cleanup import removal
from stackyard.docker import ownership
from stackyard.docker.lease_book import open_book
from stackyard.docker.records import LEASE_LABEL
from stackyard.leases import fair_lock
from stackyard.settings import MOST_STARTS, Settings
from stackyard.stacks.starts.queue import turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

ROOT = Path(__file__).parents[2]
FLOW = "import sys; from stackyard.cli import flows; sys.exit(flows.test('test', ['-q']))"


@dataclass(frozen=True)
class Host:
    """A lease book, the engine, and the processes that use both."""

    book: LeaseBook
    engine: Engine
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, *words], cwd=ROOT, env=os.environ | variables, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self.children.append(child)
        return child

    def up(self, name: str, **variables: str) -> subprocess.Popen[str]:
        """Start a stack in a process of its own, as users do."""
        return self.run("-m", "invoke", "env.up", "--name", name, "--force", "--timeout", "4m", "--json", **variables)

    def in_line(self) -> int:
        with (self.book.settings.state_dir / "turns.lock").open("a+") as onlooker:
            return fair_lock.count(onlooker.fileno(), MOST_STARTS, 1 << 62)

    def wait_for(self, count: int) -> None:
        """Wait until *count* processes wait for a turn."""
        wait_until(lambda: self.in_line() == count)

    def containers(self) -> list[Any]:
        return self.engine.containers([f"{ownership.HOST_LABEL}={self.book.host}"])


@pytest.fixture
def host(tmp_path: Path, engine: Engine, images: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    del images  # built beforehand, so that no child does
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_STARTS_AT_ONCE", "1")
    host = Host(book=open_book(Settings.load(), engine), engine=engine)
    state_directory.prepare(host.book.settings.state_dir)  # a start does so before it waits for its turn
    yield host
    for child in host.children:
        child.kill()
        child.communicate()
    assert removal.remove_all().left == []


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def shown(child: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what `env.up --json` said."""
    out, error = child.communicate(timeout=280)
    assert child.returncode == 0, error
    return dict(json.loads(out))


def test_a_run_killed_in_the_midst_of_its_start_gives_its_turn_to_the_next(host: Host) -> None:
    with turn(Settings.load()):
        dying, living = host.up("dying", STACKYARD_CRASH_AT="create"), host.up("living")
        host.wait_for(2)

    assert dying.wait(120) == -signal.SIGKILL
    assert shown(living)["by"] == "engine"


def test_a_run_killed_while_it_waits_is_forgotten_and_has_made_nothing(host: Host) -> None:
    with turn(Settings.load()):
        dying = host.up("dying")
        host.wait_for(1)
        living = host.up("living")
        host.wait_for(2)
        dying.kill()
        host.wait_for(1)

    answer = shown(living)
    assert {item.labels[LEASE_LABEL] for item in host.containers()} == {answer["lease"]}
    turn_step = {"step": "turn", "begin_seconds": -answer["waited_seconds"], "end_seconds": 0.0}
    assert turn_step in answer["steps"]


def test_stacks_start_in_the_order_in_which_they_were_asked_for(host: Host) -> None:
    children = []
    with turn(Settings.load()):
        for number in range(3):
            children.append(host.up(f"run-{number}"))
            host.wait_for(number + 1)

    leases = [shown(child)["lease"] for child in children]

    began = {lease: begin for lease, begin, _ in making()}
    assert sorted(leases, key=lambda lease: began[lease]) == leases


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_interrupted_while_it_waits_ends_at_once_and_leaves_nothing(
    host: Host, number: signal.Signals, code: int
) -> None:
    with turn(Settings.load()):
        child = host.run("-c", FLOW)
        host.wait_for(1)
        child.send_signal(number)
        child.communicate(timeout=120)

        assert child.returncode in {code, -number}  # a shell says the same of both
        assert host.in_line() == 0
    assert (host.containers(), host.book.leases()) == ([], [])


def test_a_command_interrupted_while_it_waits_ends_at_once_and_leaves_nothing(host: Host) -> None:
    with turn(Settings.load()):
        child = host.up("mine")
        host.wait_for(1)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=120)

    assert child.returncode == 130
    assert (host.containers(), host.book.leases()) == ([], [])


def test_a_wait_of_over_a_second_is_reported(host: Host) -> None:
    with turn(Settings.load()):
        child = host.up("mine")
        assert child.stderr is not None
        assert child.stderr.readline() == "waiting for a turn: 1 stack is starting on this host\n"

    assert shown(child)["waited_seconds"] > 1


def test_a_stack_that_stands_and_a_removal_need_no_turn(host: Host) -> None:
    lease = shown(host.up("mine"))["lease"]

    with turn(Settings.load()):
        assert shown(host.up("mine"))["by"] == "none: it was running already"
        outcome = host.run("-m", "invoke", "env.down", "--name", lease)
        assert outcome.wait(120) == 0


def test_of_eight_processes_no_more_than_two_make_a_stack_at_a_time(host: Host) -> None:
    children = [host.up(f"run-{number}", STACKYARD_STARTS_AT_ONCE="2") for number in range(8)]

    answers = [shown(child) for child in children]

    spans = making()
    assert len({answer["lease"] for answer in answers}) == len(spans) == 8
    # at the moment one begins, it and at most one other are being made
    assert max(sum(begin <= moment < end for _, begin, end in spans) for _, moment, _ in spans) <= 2


def making() -> list[tuple[str, datetime, datetime]]:
    """Return each lease with the engine's times of its first container made and its last one started."""
    ask = ["docker", "ps", "--quiet", "--filter", f"label={ownership.HOST_LABEL}={Settings.load().host}"]
    words = f'{{{{index .Config.Labels "{LEASE_LABEL}"}}}} {{{{.Created}}}} {{{{.State.StartedAt}}}}'
    ids = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603 - our own words
    look = ["docker", "inspect", "--format", words, *ids]
    found: dict[str, tuple[list[datetime], list[datetime]]] = {}
    for line in subprocess.run(look, check=True, capture_output=True, text=True).stdout.splitlines():  # noqa: S603
        lease, created, started = line.split()
        times = found.setdefault(lease, ([], []))
        for place, text in zip(times, (created, started), strict=True):
            place.append(datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", text)))
    return [(lease, min(created), max(started)) for lease, (created, started) in found.items()]

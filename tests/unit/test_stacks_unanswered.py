"""An engine that makes things after it was given up: their lease stays until they have come and gone."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from fake_compose import install_compose, model
from fake_probes import Answering, replace_probes

from stackyard._util.clocks import boottime
from stackyard.cleanup import removal
from stackyard.docker import Engine, unanswered_requests
from stackyard.errors import LeaseNotFoundError, UnansweredError
from stackyard.leases import LeaseBook
from stackyard.leases.owners import start_ticks
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine


@pytest.fixture
def stack(tmp_path: Path, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Return a stack whose network the engine was asked for and did not answer."""
    monkeypatch.setattr(removal, "PAUSE", 0)
    replace_probes(monkeypatch, Answering)
    install_compose(tmp_path, model())
    environment = Environment.load("test")
    book = LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))
    fake_engine.host = book.host
    made = Stack(environment, book.acquire(environment, force=True), book, engine)

    def silent(*_: object) -> None:
        raise UnansweredError("creating the network: no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "create_network", silent)
        with pytest.raises(UnansweredError):
            made.up()
    return made


def test_an_empty_list_does_not_release_the_lease(stack: Stack, fake_engine: FakeEngine) -> None:
    assert fake_engine.containers == fake_engine.networks == {}

    outcome = stack.down()

    name = f"network {stack.lease.project}_platform"
    assert [str(item).split(": ")[0] for item in outcome.left] == [name]
    assert "has not answered, so it may still appear" in str(outcome.left[0])
    assert stack.book.find(stack.lease.id) == stack.lease


def test_what_has_come_late_is_removed_and_releases_the_lease(stack: Stack, fake_engine: FakeEngine) -> None:
    stack.down()
    fake_engine.network(f"{stack.lease.project}_platform", stack.lease.id)

    outcome = stack.down()

    assert (outcome.removed, outcome.left) == ([f"network {stack.lease.project}_platform"], [])
    with pytest.raises(LeaseNotFoundError):
        stack.book.find(stack.lease.id)


def test_something_else_of_ours_does_not_settle_it(stack: Stack, fake_engine: FakeEngine) -> None:
    fake_engine.container("redis", stack.lease.id)

    assert len(stack.down().left) == 1


@pytest.mark.parametrize("change", ["time", "boot"])
def test_nothing_appears_any_more_after_a_long_time_or_a_boot(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    if change == "time":
        later = boottime() + unanswered_requests.PATIENCE
        monkeypatch.setattr("stackyard.docker.unanswered_requests.boottime", lambda: later)
    else:
        monkeypatch.setattr("stackyard.docker.unanswered_requests.boot_id", lambda: "another")

    assert stack.down().leases == [stack.lease.id]


@pytest.mark.parametrize(
    ("before", "now", "left"), [("7:1", "8:9", 0), ("7:1", "7:1", 1), ("7:1", "-", 1), ("-", "8:9", 1)]
)
def test_nothing_appears_any_more_once_the_engine_is_another_process(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, before: str, now: str, left: int
) -> None:
    note = stack.lease.directory / unanswered_requests.NOTE
    *words, _ = note.read_text().split()
    note.write_text(" ".join([*words, before]) + "\n")
    monkeypatch.setattr(unanswered_requests, "process", lambda _engine: now)

    assert len(stack.down().left) == left


def test_the_process_of_an_engine_is_the_one_that_listens(engine: Engine, tmp_path: Path) -> None:
    assert (
        unanswered_requests.process(engine) == f"{os.getpid()}:{start_ticks(os.getpid())}"
    )  # the fake one is in this process

    away = SimpleNamespace(endpoint=SimpleNamespace(url=f"unix://{tmp_path}/nothing"))
    assert unanswered_requests.process(cast("Engine", away)) == "-"


@pytest.mark.parametrize("note", ["", "nonsense", "network x notanumber boot\n", "\0" * 40])
def test_a_damaged_note_says_nothing(stack: Stack, note: str) -> None:
    (stack.lease.directory / unanswered_requests.NOTE).write_text(note)

    assert stack.down().leases == [stack.lease.id]


def test_a_start_that_is_answered_at_last_settles_it(stack: Stack) -> None:
    stack.up()

    assert stack.down().leases == [stack.lease.id]

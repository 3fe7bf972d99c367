"""An engine that makes things after it was given up: their lease stays until they have come and gone."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast
from unittest.mock import Mock

import pytest
from fake_compose import install_compose, model
from fake_docker import install_docker
from fake_probes import Answering, replace_probes

from stackyard._util.clocks import boottime
from stackyard.cleanup import removal
from stackyard.docker import Engine, unanswered_requests
from stackyard.docker.fast_start.records import VolumePlan
from stackyard.errors import CommandError, LeaseNotFoundError, UnansweredError
from stackyard.leases import LeaseBook
from stackyard.leases.owners import start_ticks
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.starts.engine_or_compose import Maker

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
        later = boottime() + unanswered_requests.APPEARS_WITHIN_S
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


# Compose's way of start

CREATING = " Container {0}-redis-1  Creating\n Container {0}-auth-1  Creating\n Container {0}-auth-1  Created\n"


def compose_up(stack: Stack, folder: Path, ending: str) -> None:
    """Let a Compose of our own begin to make two containers; it has seen one made when it ends."""
    lines = CREATING.format(stack.lease.project)
    said = folder / "said"
    install_docker(folder, f"cat >&2 <<'END'\n{lines}END\ntouch '{said}'\n{ending}")
    maker = Maker(stack.lease, stack.engine, stack.book.settings)
    for deadline in (0.7, 7, 70):  # a busy machine may take longer to come as far as the ending
        try:
            asyncio.run(maker.compose(["docker", "compose"], deadline=deadline))
        except CommandError:
            if said.exists():
                raise


@pytest.fixture
def begun(tmp_path: Path, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Return a stack that is about to start; nothing waits long for what comes late."""
    monkeypatch.setattr(removal, "PAUSE", 0)
    monkeypatch.setattr(unanswered_requests, "LATE", 0.2)
    environment = Environment.load("test")
    book = LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))
    fake_engine.host = book.host
    return Stack(environment, book.acquire(environment, force=True), book, engine)


def appear(stack: Stack, fake_engine: FakeEngine, service: str) -> None:
    row = fake_engine.container(service, stack.lease.id)
    name = f"{stack.lease.project}-{service}-1"
    row["labels"]["com.docker.compose.project"] = stack.lease.project
    fake_engine.containers[name] = fake_engine.containers.pop(f"{service}-{stack.lease.id}")


@pytest.mark.parametrize("ending", ["sleep 600", "exit 137", "kill -9 $$"])
def test_what_compose_was_ended_over_may_still_appear_and_keeps_the_lease(
    begun: Stack, tmp_path: Path, ending: str
) -> None:
    with pytest.raises(CommandError):
        compose_up(begun, tmp_path, ending)

    left = begun.down().left

    assert [(item.kind, item.name) for item in left] == [("container", f"{begun.lease.project}-redis-1")]
    assert begun.book.find(begun.lease.id) == begun.lease


@pytest.mark.parametrize("ending", ["sleep 600", "exit 137"])
def test_what_appears_soon_after_compose_was_ended_is_removed_with_the_rest(
    begun: Stack, fake_engine: FakeEngine, tmp_path: Path, ending: str
) -> None:
    appear(begun, fake_engine, "redis")

    with pytest.raises(CommandError):
        compose_up(begun, tmp_path, ending)

    outcome = begun.down()
    assert (outcome.removed, outcome.left) == ([f"container {begun.lease.project}-redis-1"], [])
    assert outcome.leases == [begun.lease.id]


def test_what_the_engine_refused_compose_does_not_keep_the_lease(begun: Stack, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such image"):
        compose_up(begun, tmp_path, "echo 'Error response from daemon: No such image' >&2; exit 1")

    assert begun.down().leases == [begun.lease.id]


@pytest.mark.parametrize(("there", "left"), [((), 2), (("a",), 0), (("a", "b"), 0)])
def test_of_what_compose_left_when_it_failed_only_one_was_refused(
    begun: Stack, fake_engine: FakeEngine, there: tuple[str, ...], left: int
) -> None:
    for service in there:
        appear(begun, fake_engine, service)
    things = [("container", f"{begun.lease.project}-{service}-1") for service in "ab"]

    unanswered_requests.await_late(begun.lease, begun.engine, things, refused=1, sleep=lambda _seconds: None)

    assert len(unanswered_requests.pending(begun.lease)) == left


def test_what_comes_late_is_waited_for(begun: Stack, fake_engine: FakeEngine) -> None:
    things = [("container", f"{begun.lease.project}-redis-1")]

    unanswered_requests.await_late(
        begun.lease, begun.engine, things, sleep=lambda _seconds: appear(begun, fake_engine, "redis")
    )

    assert unanswered_requests.pending(begun.lease) == []


def test_an_engine_that_does_not_list_leaves_all_that_compose_asked_for_noted(
    begun: Stack, fake_engine: FakeEngine
) -> None:
    fake_engine.broken = True

    unanswered_requests.await_late(begun.lease, begun.engine, [("volume", "a"), ("network", "b")])

    assert [(item.kind, item.name) for item in unanswered_requests.pending(begun.lease)] == [
        ("volume", "a"), ("network", "b"),
    ]  # fmt: skip


def test_a_wait_that_is_broken_off_leaves_all_that_compose_asked_for_noted(begun: Stack) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unanswered_requests.await_late(begun.lease, begun.engine, [("volume", "a")], sleep=interrupted)

    assert [item.name for item in unanswered_requests.pending(begun.lease)] == ["a"]


def test_a_note_counts_from_the_moment_that_it_is_written(begun: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unanswered_requests, "boottime", lambda: 100.0006)

    unanswered_requests.note(begun.lease, [("volume", "v")], engine="-")
    unanswered_requests.note(begun.lease, [("volume", "w")], engine="-")

    assert [item.name for item in unanswered_requests.pending(begun.lease)] == ["v", "w"]


def test_whatever_makes_things_for_a_start_notes_what_was_not_answered(
    begun: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "create_volume", Mock(side_effect=UnansweredError("no answer")))
    asking = Maker(begun.lease, begun.engine, begun.book.settings).asking()

    with pytest.raises(UnansweredError):
        asking.create_volume(VolumePlan(name="v", labels={}, driver=None, options={}))

    assert [(item.kind, item.name) for item in unanswered_requests.pending(begun.lease)] == [("volume", "v")]

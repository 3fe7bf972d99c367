"""What a clean-up may take, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.cleanup import removal
from stackyard.cleanup.plan import plan
from stackyard.cleanup.removal import Leftover, Removal
from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.cleanup.plan import Candidate
    from stackyard.docker import Engine
    from stackyard.leases import Lease


@pytest.fixture
def book(tmp_path: Path, fake_engine: FakeEngine) -> LeaseBook:
    made = LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))
    fake_engine.host = made.host
    return made


def expired(book: LeaseBook, name: str = "test") -> Lease:
    lease = book.acquire(Environment.load(name), ttl=60, force=True)
    book.transact(lambda db: db.execute("UPDATE leases SET deadline=1 WHERE id=?", (lease.id,)))
    return book.find(lease.id)


@pytest.mark.parametrize("call", [removal.remove_stale, removal.remove_all])
@pytest.mark.parametrize("words", [{}, {"keep_volumes": False}, {"keep_volumes": True}])
def test_only_the_removal_of_everything_takes_everything_and_volumes_go_only_if_asked(
    monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine, call: Any, words: dict[str, bool]
) -> None:
    del fake_engine  # DOCKER_HOST names it
    settings, opened = Settings.load({}), SimpleNamespace()
    given: list[tuple[object, ...]] = []
    engines: list[object] = []

    def open_book(wanted: object, engine: object) -> object:
        engines.append(engine)
        return opened if wanted is settings else None

    def sweep(book: object, engine: object, *, everything: bool, keep_volumes: bool) -> Removal:
        given.append((book, engine, everything, keep_volumes))
        return Removal()

    monkeypatch.setattr("stackyard.docker.in_use.open_book", open_book)
    monkeypatch.setattr(removal, "sweep", sweep)
    call(settings, **words)

    assert given == [(opened, engines[0], call is removal.remove_all, words.get("keep_volumes", True))]
    assert engines[0] is not None


@pytest.mark.parametrize(
    ("words", "everything", "keep"),
    [({}, False, True), ({"everything": True}, True, True), ({"keep_volumes": False}, False, False)],
)
def test_a_sweep_spares_the_living_and_volumes_unless_told_otherwise(
    book: LeaseBook,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    words: dict[str, bool],
    everything: bool,
    keep: bool,
) -> None:
    given: list[tuple[object, ...]] = []

    def planned(*things: object, everything: bool, keep_volumes: bool) -> list[Candidate]:
        given.append((*things, everything, keep_volumes))
        return []

    def apply(*things: object, keep_volumes: bool) -> Removal:
        given.append((*things, keep_volumes))
        return Removal()

    monkeypatch.setattr(removal, "plan", planned)
    monkeypatch.setattr(removal, "apply", apply)
    removal.sweep(book, engine, **words)

    assert given == [(book, engine, everything, keep), (book, engine, [], keep)]


@pytest.mark.parametrize(
    ("environment", "keep", "left"),
    [("test", False, False), ("test", True, True), ("dev", False, True), ("dev", True, True)],
)
def test_the_data_of_a_swept_lease_goes_only_if_it_is_not_kept_and_volumes_are_asked_for(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, environment: str, keep: bool, left: bool
) -> None:
    lease = expired(book, environment)
    fake_engine.volume("data", lease.id)
    fake_engine.container("redis", lease.id)

    outcome = removal.sweep(book, engine, keep_volumes=keep)

    assert (bool(fake_engine.volumes), outcome.leases, book.leases()) == (left, [lease.id], [])
    assert fake_engine.containers == {}


@pytest.mark.parametrize(
    ("lease", "keep", "left"),
    [("aaaaaaaa", False, False), ("aaaaaaaa", True, True), ("dev-3fa92c", False, True), ("dev-3fa92c", True, True)],
)
def test_the_data_of_a_lost_lease_goes_only_if_it_is_not_kept_and_volumes_are_asked_for(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, lease: str, keep: bool, left: bool
) -> None:
    environment = "dev" if "-" in lease else "test"
    fake_engine.container("redis", lease)
    fake_engine.volume("data", lease)
    fake_engine.container("redis", "bbbbbbbb")

    outcome = removal._remove_lost(book, engine, lease, environment, keep_volumes=keep)

    assert f"container redis-{lease}" in outcome.removed
    assert (bool(fake_engine.volumes), list(fake_engine.containers)) == (left, ["redis-bbbbbbbb"])


def test_what_was_added_to_a_lost_stack_without_labels_goes_with_it(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine
) -> None:
    fake_engine.container("added", "aaaaaaaa")["labels"] = {"com.docker.compose.project": "stackyard-test-aaaaaaaa"}
    fake_engine.container("other", "bbbbbbbb")["labels"] = {"com.docker.compose.project": "stackyard-dev-aaaaaaaa"}

    outcome = removal._remove_lost(book, engine, "aaaaaaaa", "test", keep_volumes=True)

    assert (outcome.removed, list(fake_engine.containers)) == (["container added-aaaaaaaa"], ["other-bbbbbbbb"])


def test_what_the_book_knows_by_now_is_not_lost(book: LeaseBook, engine: Engine, fake_engine: FakeEngine) -> None:
    lease, other = expired(book), expired(book)
    fake_engine.container("redis", lease.id)

    assert removal._remove_lost(book, engine, lease.id, "test", keep_volumes=False) == Removal()
    book.release(other)
    assert removal._remove_lost(book, engine, lease.id, "test", keep_volumes=False) == Removal()
    assert len(fake_engine.containers) == 1


def test_a_lease_is_kept_while_something_may_still_come(
    book: LeaseBook, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = expired(book)
    coming = SimpleNamespace(kind="container", name="late")
    answers: list[Sequence[object]] = [[coming], []]
    monkeypatch.setattr("stackyard.docker.unanswered.settle", lambda *_, **__: answers.pop(0))
    reason = "the engine was asked for it and has not answered, so it may still appear"

    first = removal.remove_lease(book, engine, lease)
    assert first.left == [Leftover(kind="container", name="late", lease=lease.id, reason=reason)]
    assert (first.leases, [known.id for known in book.leases()]) == ([], [lease.id])
    assert removal.remove_lease(book, engine, lease).leases == [lease.id]
    assert book.leases() == []


@pytest.mark.parametrize(
    ("words", "left"), [({}, False), ({"keep_volumes": True}, True), ({"keep_volumes": False}, False)]
)
def test_a_lease_is_removed_with_or_without_its_volumes(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, words: dict[str, bool], left: bool
) -> None:
    lease = expired(book)
    fake_engine.volume("data", lease.id)

    removal.remove_lease(book, engine, lease, **words)

    assert bool(fake_engine.volumes) is left


def test_only_what_the_plan_lists_is_removed(book: LeaseBook, engine: Engine, fake_engine: FakeEngine) -> None:
    first, second = expired(book), expired(book)
    for lease in (first, second):
        fake_engine.container("redis", lease.id)
    planned = [item for item in plan(book, engine) if item.lease == first.id]

    outcome = removal.apply(book, engine, planned)

    assert outcome.leases == [first.id]
    assert [lease.id for lease in book.leases()] == [second.id]
    assert list(fake_engine.containers) == [f"redis-{second.id}"]


def test_a_removal_is_plain_data_and_its_parts_add_up() -> None:
    left = Leftover(kind="network", name="n", lease="l", reason="r")
    parts = [
        Removal(removed=["container a"], leases=["l1"]),
        Removal(removed=["network b"], left=[left], leases=["l2"]),
    ]

    total = removal._total(parts, 2.5)

    assert total == Removal(removed=["container a", "network b"], left=[left], leases=["l1", "l2"], seconds=2.5)
    assert replace(total, removed=[]).to_json() == {
        "removed": [], "left": [{"kind": "network", "name": "n", "lease": "l", "reason": "r"}],
        "leases": ["l1", "l2"], "seconds": 2.5,
    }  # fmt: skip

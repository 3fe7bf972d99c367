"""The lease book and its file, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sqlite3
import stat
import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from lease_records import Clock, Surroundings

from stackyard._util.clocks import Moment
from stackyard.errors import BookError, LeaseNotFoundError, PoolExhaustedError, StillStartingError, UsageError
from stackyard.leases import LeaseBook, Survivor, owners
from stackyard.leases import book as module
from stackyard.leases.database import schema, store
from stackyard.leases.database.header import BrokenError, inode, look
from stackyard.leases.database.store import Transaction
from stackyard.leases.directory import files
from stackyard.leases.grants import queue, waiting
from stackyard.leases.grants.admission import Memory
from stackyard.leases.grants.host_ports import Ground
from stackyard.leases.owners import Owner
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.leases import Lease

    AtCommit = Callable[[BaseException, str], None]

TEST = Surroundings()
DEV = replace(TEST, name="dev", data="volume")
STRANGER = Owner(kind="process", boot=owners.boot_id(), pid=1, ticks=owners.start_ticks(1) or 0, namespace=0)
DEAD = Owner(kind="process", boot="gone", pid=1, ticks=1, namespace=1)


@pytest.fixture(autouse=True)
def _free(free_host: None) -> None:
    del free_host


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Callable[..., LeaseBook]:
    settings = Settings.load({
        "STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "11000-11029",
        "STACKYARD_POOL_SUBNETS": "10.214.0.0/24",
    })  # fmt: skip
    return lambda **words: LeaseBook(settings, clock=clock, sleep=clock.sleep, **words)


@pytest.fixture
def book(make: Callable[..., LeaseBook]) -> LeaseBook:
    return make()


def hand(book: LeaseBook, lease: Lease, owner: Owner, **change: Any) -> Lease:
    changed = replace(lease, owner=owner, **change)
    book.transact(lambda db: module.rows.update(db, changed))  # type: ignore[attr-defined]
    return changed


def read(book: LeaseBook, query: str) -> list[tuple[Any, ...]]:
    return book.transact(lambda db: list(db.execute(query)))


# --- acquire --------------------------------------------------------------------------------------------------------


def test_a_request_is_passed_on_whole(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mock(side_effect=UsageError("stop"))
    monkeypatch.setattr(module, "Request", made)
    needs = module.Needs()  # type: ignore[attr-defined]
    words: dict[str, Any] = {
        "parallel_id": "a", "ttl": 5.0, "fixed": "only", "variables": {"A": "1"}, "needs": needs, "force": True,
        "attached": True, "scattered": True,
    }  # fmt: skip
    own = {"settings": book.settings, "host": book.host, "directory": book.directory, "environment": TEST}

    for given in (words, {}):
        with pytest.raises(UsageError):
            book.acquire(TEST, **given)
    assert made.mock_calls[0].kwargs == own | words
    assert made.mock_calls[1].kwargs == own | {
        "parallel_id": None, "ttl": None, "fixed": "never", "variables": {}, "needs": None, "force": False,
        "attached": False, "scattered": False,
    }  # fmt: skip


def test_a_wait_is_a_time(book: LeaseBook) -> None:
    with pytest.raises(UsageError, match=r"^wait must be"):
        book.acquire(TEST, wait=-1)
    assert not book.settings.state_dir.exists()
    assert book.acquire(TEST, wait=1.5).slot == 0


@pytest.mark.parametrize(("words", "wait"), [({}, 0.0), ({"wait": 5.0}, 5.0)])
def test_a_request_waits_as_long_as_asked_and_may_have_room_made(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, words: Any, wait: float
) -> None:
    attend, strangers, make_room = Mock(), Mock(), Mock()
    monkeypatch.setattr(book._waiting, "attend", attend)

    assert book.acquire(TEST, strangers=strangers, make_room=make_room, **words) is attend.return_value
    assert attend.mock_calls[0].args[2:] == (strangers, wait, make_room)


def test_a_book_keeps_the_files_of_leases_in_one_folder_and_waits_with_the_clock_it_was_given(
    make: Callable[..., LeaseBook], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, before = make(), clock.now
    assert book.directory == book.settings.state_dir / "leases"
    monkeypatch.setattr(book._waiting, "ask", Mock(return_value=(None, 0, FULL)))

    with pytest.raises(PoolExhaustedError, match="full"):
        book.acquire(TEST, wait=5.0)
    assert clock.now == pytest.approx(before + 5.0)


def test_a_lease_leaves_no_draft(book: LeaseBook) -> None:
    lease = book.acquire(TEST)
    assert [path.name for path in book.directory.iterdir()] == [lease.id]
    book.release(lease)
    assert list(book.directory.iterdir()) == []


class Answers:
    """Answers of the book to one request, and what it was asked with."""

    def __init__(self, *answers: tuple[int | None, int, object]) -> None:
        self.answers, self.asked = list(answers), list[tuple[object, bool]]()

    def __call__(self, _request: object, _draft: object, _strangers: object, ticket: object, *, queued: bool) -> object:
        self.asked.append((ticket, queued))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def slept(book: LeaseBook, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(round(seconds, 3))
        clock.sleep(seconds)

    monkeypatch.setattr(book._waiting, "_sleep", sleep)
    return waits


@pytest.fixture
def at_commit(monkeypatch: pytest.MonkeyPatch) -> AtCommit:
    """Let the next commits fail with an error, or be interrupted right after they were made."""

    def make(error: BaseException, when: str) -> None:
        def execute(db: Transaction, statement: str, *values: Any) -> sqlite3.Cursor:
            commits = statement == "COMMIT"
            if commits and when == "before":
                raise error
            found = sqlite3.Connection.execute(db, statement, *values)
            if commits:
                raise error
            return found

        monkeypatch.setattr(Transaction, "execute", execute)

    return make


FULL, STARTING = PoolExhaustedError("full"), StillStartingError("starting")


def test_who_does_not_wait_is_answered_at_once(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    answers = Answers((None, 0, FULL))
    monkeypatch.setattr(book._waiting, "ask", answers)

    with pytest.raises(PoolExhaustedError, match="full"):
        book._waiting.attend(Mock(), Mock(), None, 0.0)
    assert (answers.asked, slept) == ([(None, False)], [])


def test_who_waits_asks_again_with_its_ticket_and_gives_it_back(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    lease = book.acquire(TEST)
    tickets = [book.transact(lambda db: queue.join(db, "pool", None)) for _ in range(2)]
    answers = Answers((tickets[0], 0, FULL), (tickets[0], 3, FULL), (tickets[0], 99, FULL), (tickets[0], 0, lease))
    monkeypatch.setattr(book._waiting, "ask", answers)

    assert book._waiting.attend(Mock(), Mock(), None, 5.0) is lease
    assert answers.asked == [(None, True)] + [(tickets[0], True)] * 3
    assert slept == [0.05, 0.2, 0.5]
    assert read(book, "SELECT ticket FROM queue") == [(tickets[1],)]


def test_a_wait_ends_at_its_time_and_the_ticket_goes(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    ticket = book.transact(lambda db: queue.join(db, "pool", None))
    monkeypatch.setattr(book._waiting, "ask", Answers((ticket, 99, FULL)))

    with pytest.raises(PoolExhaustedError, match="full"):
        book._waiting.attend(Mock(), Mock(), None, 1.2)
    assert slept == [0.5, 0.5, 0.2]
    assert read(book, "SELECT ticket FROM queue") == []


def test_a_stack_of_the_same_name_that_starts_is_waited_for(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    monkeypatch.setattr(book._waiting, "ask", Answers((None, 9, STARTING)))
    with pytest.raises(StillStartingError):
        book._waiting.attend(Mock(), Mock(), None, 0.0)
    assert sum(slept) == pytest.approx(waiting.STARTING)

    slept.clear()
    with pytest.raises(StillStartingError):
        book._waiting.attend(Mock(), Mock(), None, waiting.STARTING + 10)
    assert sum(slept) == pytest.approx(waiting.STARTING + 10)


@pytest.mark.parametrize(
    ("ticket", "makes", "calls", "asked"),
    [
        (None, [True] * 9, waiting.ROOMS, [(None, True)] * waiting.ROOMS + [(None, False)]),
        (None, [True, False], 2, [(None, True)] * 2 + [(None, False)]),
        (7, [False], 1, [(None, True), (7, True)]),
    ],
)
def test_room_is_made_a_few_times_before_a_request_fails(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, slept: list[float], ticket: int | None, makes: list[bool],
    calls: int, asked: list[tuple[int | None, bool]],
) -> None:  # fmt: skip
    answers, make_room = Answers((ticket, 0, FULL)), Mock(side_effect=makes)
    monkeypatch.setattr(book._waiting, "ask", answers)

    with pytest.raises(PoolExhaustedError, match="full"):
        book._waiting.attend(Mock(), Mock(), None, 0.0, make_room)
    assert (answers.asked, make_room.call_count, slept) == (asked, calls, [])


def test_who_waits_looks_at_the_engine_again_after_a_while_and_when_room_was_made(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    ask = Mock(return_value=(None, 4, FULL))
    monkeypatch.setattr(book._waiting, "ask", ask)

    def seen(wait: float, *make_room: object) -> list[object]:
        ask.reset_mock()
        with pytest.raises(PoolExhaustedError, match="full"):
            book._waiting.attend(Mock(), Mock(), Mock(side_effect="abcdefgh"), wait, *make_room)  # type: ignore[arg-type]
        return [call.args[2] for call in ask.mock_calls]

    assert seen(1.2) == ["a", "a", "b", "b", "c", "c"]
    assert slept[:2] == [0.25, 0.25]
    assert seen(0.0, Mock(side_effect=[True, False])) == ["a", "b", "c"]


def test_no_room_is_made_for_a_stack_that_starts_already(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    lease, make_room = book.acquire(TEST), Mock()
    monkeypatch.setattr(book._waiting, "ask", Answers((None, 0, STARTING), (None, 0, lease)))

    assert book._waiting.attend(Mock(), Mock(), None, 0.0, make_room) is lease
    assert (make_room.call_count, slept) == (0, [0.05])


def test_each_question_is_about_the_request_its_draft_and_what_an_engine_has(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, request, draft, look = book.acquire(TEST), Mock(), Mock(), Mock()
    ask = Mock(return_value=(None, 0, lease))
    monkeypatch.setattr(book._waiting, "ask", ask)

    assert book._waiting.attend(request, draft, look, 0.0) is lease
    ask.assert_called_once_with(request, draft, look.return_value, None, queued=False)
    assert book._waiting.attend(request, draft, None, 0.0) is lease
    ask.assert_called_with(request, draft, None, None, queued=False)


@pytest.mark.parametrize("queued", [True, False])
def test_only_who_waits_gets_a_ticket(book: LeaseBook, queued: bool) -> None:
    request: Any = SimpleNamespace(wanted="pool", answer=Mock(side_effect=FULL))
    book.transact(lambda db: queue.join(db, "pool", None))

    ticket, ahead, answer = book._waiting.ask(request, Mock(), None, None, queued=queued)

    assert (ticket is not None, ahead, answer) == (queued, 1, FULL)
    assert len(read(book, "SELECT * FROM queue")) == (2 if queued else 1)
    if ticket is not None:
        assert book._waiting.ask(request, Mock(), None, ticket, queued=True) == (ticket, 1, FULL)


def test_a_request_is_answered_at_the_moment_and_on_the_host_of_the_question(
    book: LeaseBook, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = book.acquire(TEST)
    ground, draft, strangers = Mock(), Mock(), Mock()
    monkeypatch.setattr(waiting, "survey", lambda given: ground if given is strangers else None)
    request: Any = SimpleNamespace(wanted="pool", answer=Mock(return_value=lease))

    assert book._waiting.ask(request, draft, strangers, 7, queued=True) == (7, 0, lease)
    (call,) = request.answer.mock_calls
    assert call.args[1:] == (draft, ground, clock.now, 0)


def test_a_survey_takes_what_an_engine_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    survey = Mock()
    monkeypatch.setattr(waiting, "Ground", SimpleNamespace(survey=survey))
    waiting.survey(SimpleNamespace(ports=[1], subnets=["x"]))
    waiting.survey(None)

    assert [call.args for call in survey.mock_calls] == [([1], ["x"]), ()]


# --- find, renew, take over, release --------------------------------------------------------------------------------


def test_a_lease_is_found_by_id_or_name(book: LeaseBook) -> None:
    first, other = book.acquire(TEST, parallel_id="a"), book.acquire(replace(TEST, name="ci"), parallel_id="a")

    assert book.find(first.id) == first
    assert [book.find("a", environment="test"), book.find("a", environment="ci")] == [first, other]
    with pytest.raises(LeaseNotFoundError, match=r"no lease has the id or name 'b'"):
        book.find("b")
    with pytest.raises(UsageError, match=r"^a lease id must be"):
        book.find("A")


def test_a_renewed_lease_ends_later_and_only_a_detached_one_changes_its_owner(book: LeaseBook, clock: Clock) -> None:
    lease = book.acquire(TEST, variables={"MORE": "1"})

    renewed = book.renew(lease.id, 50.0)
    assert (renewed.deadline, renewed.owner) == (clock.now + 50, lease.owner)
    assert book.leases() == [renewed]
    assert owners.is_held(lease.lock) is True
    endless = book.renew(lease.id, math.inf)
    assert (endless.deadline, book.leases()[0].deadline) == (None, None)

    detached = book.renew(lease.id, 70.0, detach=True)
    assert (detached.owner, detached.deadline) == (Owner.detached(), clock.now + 70)
    assert owners.is_held(lease.lock) is False
    assert detached.variables()["STACKYARD_OWNER"] == Owner.detached().label()
    assert (detached.variables()["MORE"], detached.variables()["STACKYARD_HOST"]) == ("1", book.host)


def test_what_cannot_be_renewed_is_not(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = book.acquire(TEST, parallel_id="a")
    written = Mock()
    monkeypatch.setattr(files, "write", written)
    with pytest.raises(UsageError, match=r"^ttl must be"):
        book.renew("a", -1)
    with pytest.raises(LeaseNotFoundError):
        book.renew("b", 5)
    book.renew("a", 5, detach=True)
    hand(book, lease, STRANGER, removing=True)
    with pytest.raises(LeaseNotFoundError, match="is being removed by"):
        book.renew("a", 5)
    assert written.call_count == 0


def test_a_detached_lease_without_files_can_still_be_renewed(book: LeaseBook) -> None:
    lease = book.acquire(TEST)
    lease.env_file.unlink()

    assert book.renew(lease.id, 5, detach=True).owner.kind == "detached"
    assert not lease.env_file.exists()


def test_only_a_stale_lease_is_taken_over_and_only_once(book: LeaseBook, clock: Clock) -> None:
    lease, living = book.acquire(TEST, ttl=50), book.acquire(TEST, ttl=500)
    clock.now += 50

    taken = book.take_over(lease)

    assert taken is not None
    assert (taken.owner, taken.deadline, taken.removing) == (Owner.current(), None, True)
    assert (book.find(lease.id), owners.is_held(lease.lock)) == (taken, True)
    assert book.take_over(lease) is None
    assert book.take_over(living) is None
    clock.now += 450
    assert book.take_over(replace(living, created=living.created - 1)) is None
    assert book.take_over(replace(living, id="ffffffff")) is None
    assert book.take_over(living) is not None


def test_a_lease_whose_lock_cannot_be_made_is_taken_over_all_the_same(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = hand(book, book.acquire(TEST, ttl=50), DEAD)
    monkeypatch.setattr(owners, "hold", Mock(side_effect=OSError("full")))

    taken = book.take_over(lease)
    assert taken is not None
    assert book.find(lease.id).removing


def test_a_lease_without_a_directory_is_taken_over_with_one(book: LeaseBook) -> None:
    lease = hand(book, book.acquire(TEST, ttl=50), DEAD)
    files.discard(files.remove(lease.directory))

    assert book.take_over(lease) is not None
    assert owners.is_held(lease.lock) is True


def test_the_stale_are_those_whose_deadline_or_owner_is_gone(book: LeaseBook, clock: Clock) -> None:
    first, second, third = book.acquire(TEST, ttl=50), book.acquire(TEST, ttl=500), book.acquire(TEST)
    assert book.stale() == []
    clock.now += 50
    assert [lease.id for lease in book.stale()] == [first.id]
    hand(book, third, DEAD)
    assert {lease.id for lease in book.stale()} == {first.id, third.id}
    assert [book.is_stale(lease) for lease in (first, second)] == [True, False]


def test_a_release_ends_the_lease_that_is_meant_and_no_other(book: LeaseBook) -> None:
    first, other = book.acquire(TEST, parallel_id="a"), book.acquire(TEST)

    assert book.release(replace(first, created=first.created - 1)) is False
    assert book.release(replace(other, owner=STRANGER)) is False
    assert book.release("ffffffff") is False
    assert book.release(replace(first, owner=STRANGER)) is True  # a detached one has no owner to name
    assert ([lease.id for lease in book.leases()], first.directory.exists()) == ([other.id], False)
    assert owners.is_held(other.lock) is True
    assert book.release(other.id) is True
    assert (other.lock in owners._held, list(book.directory.iterdir()), book.leases()) == (False, [], [])


def test_a_release_that_fails_leaves_the_lease_as_it_was(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, at_commit: AtCommit
) -> None:
    lease = book.acquire(TEST)
    at_commit(sqlite3.OperationalError("full"), "before")

    with pytest.raises(BookError, match="full"):
        book.release(lease)
    monkeypatch.undo()
    assert lease.env_file.is_file()
    assert owners.is_held(lease.lock) is True
    assert (list(book.directory.iterdir()), book.leases()) == ([lease.directory], [lease])


def test_a_release_that_is_interrupted_after_its_commit_stays_made(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, at_commit: AtCommit
) -> None:
    lease = book.acquire(TEST)
    at_commit(KeyboardInterrupt(), "after")

    with pytest.raises(KeyboardInterrupt):
        book.release(lease)
    monkeypatch.undo()
    assert (book.leases(), lease.directory.exists(), lease.lock in owners._held) == ([], False, False)


def test_a_move_that_is_interrupted_after_its_commit_has_its_new_files(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, at_commit: AtCommit
) -> None:
    lease = book.acquire(TEST)
    at_commit(KeyboardInterrupt(), "after")

    with pytest.raises(KeyboardInterrupt):
        book.move(lease)
    monkeypatch.undo()
    (moved,) = book.leases()
    assert (moved.slot, moved.variables()["STACKYARD_POSTGRES_PORT"]) == (1, "11010")


def test_a_lease_without_a_directory_can_be_released(book: LeaseBook) -> None:
    lease = book.acquire(TEST, ttl=50)
    lease.directory.rename(book.directory.parent / "moved")
    assert book.release(lease) is True


def test_a_quarantined_slot_rests_after_its_release(book: LeaseBook, clock: Clock) -> None:
    lease = book.acquire(TEST)
    with pytest.raises(UsageError, match=r"^seconds must be"):
        book.quarantine(lease.id, -1)
    with pytest.raises(LeaseNotFoundError):
        book.quarantine("b", 5)
    book.quarantine(lease.id, 60)

    assert read(book, "SELECT rests_until FROM slots WHERE port=11000") == [(clock.now + 60,)]


def test_a_moved_lease_has_another_slot_and_its_old_one_rests(book: LeaseBook, clock: Clock) -> None:
    lease = book.acquire(TEST, variables={"MORE": "1"})
    secrets = lease.secrets()

    moved = book.move(lease, rest=70)

    assert (moved.id, moved.slot, moved.ports["postgres"], moved.spare[0]) == (lease.id, 1, 11010, 11015)
    assert (moved.subnet, book.leases(), moved.secrets()) == ("10.214.0.16/28", [moved], secrets)
    variables = moved.variables()
    assert (variables["STACKYARD_POSTGRES_PORT"], variables["MORE"]) == ("11010", "1")
    assert variables["STACKYARD_HOST"] == book.host
    assert read(book, "SELECT idle, rests_until FROM slots WHERE port=11000") == [(1, clock.now + 70)]
    again = book.move(moved)
    assert again.slot == 2
    assert read(book, "SELECT rests_until FROM slots WHERE port=11010") == [(clock.now + module.REST,)]


def test_a_lease_that_cannot_move_stays(book: LeaseBook, monkeypatch: pytest.MonkeyPatch, at_commit: AtCommit) -> None:
    lease = book.acquire(TEST)
    before = lease.env_file.read_text()
    with pytest.raises(UsageError, match=r"^rest must be"):
        book.move(lease, rest=-1)
    for wrong in (replace(lease, owner=STRANGER), replace(lease, created=0.5), replace(lease, id="ffffffff")):
        with pytest.raises(LeaseNotFoundError, match="has ended or has another owner"):
            book.move(wrong)
    strangers: Any = SimpleNamespace(ports=[11010, 11020], subnets=[])
    with pytest.raises(PoolExhaustedError):
        book.move(lease, strangers=strangers)
    at_commit(sqlite3.OperationalError("full"), "before")
    with pytest.raises(BookError, match="full"):
        book.move(lease)
    assert lease.env_file.read_text() == before
    monkeypatch.undo()
    assert [found.slot for found in book.leases()] == [0]


def test_a_moved_lease_of_an_earlier_version_has_the_ports_of_a_new_one(book: LeaseBook) -> None:
    lease = book.acquire(TEST)
    ports = "postgres:11000,redis:11001,backend:11002,auth:11003,spare:11004-11009"
    book.transact(lambda db: db.execute("UPDATE leases SET ports=?", (ports,)))
    assert "websocket" not in book.leases()[0].ports

    moved = book.move(lease)

    assert (list(moved.ports), moved.spare[0]) == (list(lease.ports), lease.spare[0] + 10)


def test_a_moved_copy_keeps_its_ports_and_networks(book: LeaseBook) -> None:
    lease = book.acquire(TEST, needs=module.Needs(ports=("web_80_tcp",), prefixes=(28, 27)))  # type: ignore[attr-defined]

    moved = book.move(lease)

    assert (dict(moved.ports), moved.prefixes, moved.slot) == ({"web_80_tcp": 11010}, (28, 27), 1)


# --- capacity, check, tidy, restore ---------------------------------------------------------------------------------


def test_capacity_counts_what_is_free_now(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    hungry = replace(TEST, reserve_mb=100)
    book.acquire(hungry)
    ground = Ground(kernel_ports=(), taken_ports=frozenset({11015}), networks=(),
                    memory=Memory(total_mb=1000, available_mb=1000))  # fmt: skip
    survey = Mock(return_value=ground)
    monkeypatch.setattr(module, "survey", survey)
    strangers: Any = object()

    found = book.capacity(hungry, strangers=strangers)

    assert (found.environment, found.slots, found.networks, found.memory) == ("test", 1, 2, 8)
    assert (found.booked_mb, found.reserve_mb, found.total_mb, found.limit) == (100, 100, 1000, "slots")
    survey.assert_called_once_with(strangers)


def test_a_check_says_what_was_fixed(book: LeaseBook) -> None:
    book.acquire(TEST, ttl=50)
    assert book.check() == "ok"
    book.transact(lambda db: db.execute("DELETE FROM claims WHERE kind='project'"))
    assert book.check().startswith("fixed: lease ")
    assert book.check() == "ok"
    other = book.acquire(TEST, ttl=50)
    book.transact(lambda db: db.execute("DELETE FROM claims WHERE kind='project'"))
    fixed = "and its claims differed; its claims were written again"
    found = sorted(lease.id for lease in book.leases())
    assert other.id in found
    assert book.check() == f"fixed: lease {found[0]} {fixed}; lease {found[1]} {fixed}"


def test_only_directories_of_no_lease_are_tidied_and_only_in_a_book_that_is_whole(book: LeaseBook) -> None:
    assert (book.tidy(), book.settings.state_dir.exists()) == (0, False)
    lease = book.acquire(TEST, ttl=50)
    left = book.directory / "00000001"
    left.mkdir()
    (left / "owner.lock").touch()
    book.transact(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES ('recovery', 'done')"))

    assert book.tidy() == 1
    assert list(book.directory.iterdir()) == [lease.directory]


def test_no_directory_is_left_over_until_the_leases_of_a_lost_book_are_back(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.transact(lambda _db: None)
    monkeypatch.setattr("stackyard.leases.recovery.lost_book.is_done", lambda _db: False)
    left = book.directory / "00000001"
    left.mkdir(parents=True)
    (left / "owner.lock").touch()

    assert (book.tidy(), left.is_dir()) == (0, True)
    monkeypatch.undo()
    assert (book.tidy(), left.is_dir()) == (1, False)


SURVIVOR = Survivor(
    id="00000001", environment="test", project="stackyard-test-00000001", subnet="10.214.0.0/28",
    ports=dict(zip(("postgres", "redis", "backend", "auth"), range(11000, 11004), strict=True)),
    spare=(11004,), owner=Owner.detached(), created=1.5,
)  # fmt: skip


def test_a_book_is_restored_from_what_runs(book: LeaseBook) -> None:
    book.acquire(TEST, ttl=50)
    book.release(book.leases()[0])

    leases, known = book.restore([SURVIVOR])
    assert ([lease.id for lease in leases], known) == (["00000001"], {"00000001"})


def test_the_directory_of_a_running_stack_stays_even_if_a_book_from_a_backup_has_no_room_for_it(
    make: Callable[..., LeaseBook],
) -> None:
    book = make()
    taker = book.acquire(TEST, ttl=50)  # has ended since the backup, and the running stack has its ports
    book.transact(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES ('recovery', 'done')"))
    directory = book.directory / SURVIVOR.id
    directory.mkdir()
    (directory / "owner.lock").touch()

    found = book.restore([replace(SURVIVOR, ports=dict(taker.ports), spare=taker.spare)])

    assert found == ([taker], {SURVIVOR.id})
    assert (book.tidy(), directory.is_dir()) == (0, True)
    assert (make().tidy(), directory.is_dir()) == (1, False)


def test_the_book_asks_for_survivors_until_they_could_be_listed(make: Callable[..., LeaseBook]) -> None:
    asked = Mock(return_value=[])
    make().transact(lambda _db: None)
    assert read(make(), "SELECT value FROM meta WHERE key='recovery'") == [("stacks",)]
    book = make(survivors=asked)
    book.leases()
    book.leases()

    assert asked.call_count == 1
    assert read(book, "SELECT value FROM meta WHERE key='recovery'") == [("done",)]


def test_a_book_that_is_only_read_writes_nothing(make: Callable[..., LeaseBook]) -> None:
    book = make(read_only=True)
    assert (book.leases(), book.settings.state_dir.exists()) == ([], False)
    lease = make().acquire(TEST, ttl=50)
    before = {path: path.stat().st_mtime_ns for path in book.settings.state_dir.rglob("*")}

    assert book.leases() == [lease]
    for work in (lambda: book.release(lease), lambda: book.acquire(TEST), lambda: book.transact(lambda _db: None)):
        with pytest.raises(BookError, match="is open for reading only"):
            work()
    assert {path: path.stat().st_mtime_ns for path in book.settings.state_dir.rglob("*")} == before


def test_capacity_a_check_and_a_restored_list_write_nothing_into_a_book_that_is_only_read(
    make: Callable[..., LeaseBook],
) -> None:
    make().acquire(TEST, ttl=50)
    book = make(read_only=True)
    state = book.settings.state_dir
    before = {path: path.stat().st_mtime_ns for path in state.rglob("*")}

    assert (book.capacity(TEST).slots, book.check()) == (2, "ok")
    assert book.find(book.leases()[0].id) == book.leases()[0]
    assert (
        len(book.restore([replace(SURVIVOR, ports={"web_80_tcp": 11010}, spare=(), subnet="10.214.0.32/28")])[0]) == 2
    )
    assert {path: path.stat().st_mtime_ns for path in state.rglob("*")} == before


# --- the file -------------------------------------------------------------------------------------------------------


def file_of(book: LeaseBook) -> Path:
    return book.settings.state_dir / "book.sqlite3"


@pytest.mark.parametrize(
    ("seen", "found", "opened"),
    [
        ((1, 5, 7), (1, 5, 7), False), ((1, 5, 7), (2, 5, 7), True), ((1, 5, 7), (1, 6, 7), True),
        ((1, 5, 7), (1, 6, 8), False), ((1, 5, 7), (1, 5, 8), False),
    ],
)  # fmt: skip
def test_a_file_that_was_replaced_or_changed_by_a_stranger_is_opened_again(
    book: LeaseBook, seen: tuple[int, int, int], found: tuple[int, int, int], opened: bool
) -> None:
    kept: Any = book._store
    assert kept._is_to_be_opened(found) is True
    kept._db, kept._seen = Mock(), seen
    assert kept._is_to_be_opened(found) is opened


def header(*, version: int = schema.VERSION, application: int = schema.APPLICATION_ID, pages: int = 1, size: int = 4096,
           magic: bytes = b"SQLite format 3\0", counter: int = 9) -> bytes:  # fmt: skip
    raw = bytearray(100)
    raw[:16] = magic
    raw[16:18], raw[24:28], raw[28:32] = struct.pack(">H", size), struct.pack(">I", counter), struct.pack(">I", pages)
    raw[60:64], raw[68:72] = struct.pack(">I", version), struct.pack(">I", application)
    return bytes(raw)


@pytest.fixture
def folder(book: LeaseBook) -> Path:
    book.settings.state_dir.mkdir(mode=0o700)
    return book.settings.state_dir


@pytest.mark.parametrize(
    ("raw", "length", "error"),
    [
        (header(), 4096, None), (header(size=1, pages=2), 131072, None), (header(version=1), 4096, None),
        (header(size=32768, pages=2), 65536, None),
        (header(pages=1 << 31), 4096, f"cut off: 4096 bytes of {1 << 43}"),
        (header(), 4097, "cut off: 4097 bytes of 4096"), (header(pages=2), 4096, "cut off: 4096 bytes of 8192"),
        (header(size=1, pages=2), 65536, "cut off: 65536 bytes of 131072"),
        (header()[:99], 99, "not a database"), (b"", 0, "not a database"),
        (header(magic=b"X" * 16), 4096, "not a database"),
        (header(application=5), 4096, "a database, but not a lease book"),
    ],
)  # fmt: skip
def test_only_a_whole_lease_book_is_opened(
    book: LeaseBook, folder: Path, raw: bytes, length: int, error: str | None
) -> None:
    file = file_of(book)
    file.write_bytes(raw.ljust(length, b"\0"))
    if error is None:
        assert book._store._check_header() == (file.stat().st_ino, file.stat().st_mtime_ns, 9)
    else:
        with pytest.raises(BrokenError, match=error):
            book._store._check_header()
    assert folder.is_dir()


@pytest.mark.parametrize("version", [schema.VERSION + 1, 1 << 31])
def test_a_newer_book_is_refused(book: LeaseBook, folder: Path, version: int) -> None:
    (folder / "book.sqlite3").write_bytes(header(version=version).ljust(4096, b"\0"))
    with pytest.raises(BookError, match=rf"newer stackyard \(schema {version}, this one knows up to"):
        book._store._check_header()


@pytest.mark.parametrize("kind", ["folder", "link", "stranger"])
def test_what_is_no_plain_file_of_ours_is_no_book(
    book: LeaseBook, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = folder / "book.sqlite3"
    if kind == "folder":
        file.mkdir()
    elif kind == "link":
        (folder / "target").write_bytes(header().ljust(4096, b"\0"))
        file.symlink_to(folder / "target")
    else:
        file.write_bytes(header().ljust(4096, b"\0"))
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)

    with pytest.raises(BookError, match="must be a plain file that belongs to you; move this one away"):
        book._store._check_header()


@pytest.mark.parametrize(
    ("journal", "half"),
    [(None, False), (b"", False), (b"\0" * 50, False), (b"\xd9\xd5", True), (b"\0x", False), (b"X", True)],
)
def test_a_change_is_half_way_while_its_journal_has_a_beginning(
    book: LeaseBook, folder: Path, journal: bytes | None, half: bool
) -> None:
    if journal is not None:
        (folder / "book.sqlite3-journal").write_bytes(journal)
    assert book._store._is_half_way() is half
    (folder / "book.sqlite3").write_bytes(header(pages=2).ljust(4096, b"\0"))
    if half:
        assert book._store._check_header()[2] == 9
    else:
        with pytest.raises(BrokenError):
            book._store._check_header()


def test_a_new_book_is_private_whole_and_without_an_old_journal(book: LeaseBook, folder: Path) -> None:
    (folder / "book.new").write_text("half")
    (folder / "book.sqlite3-journal").write_bytes(b"\xd9\xd5old")
    book._store._create()

    file = folder / "book.sqlite3"
    assert [path.name for path in folder.iterdir()] == ["book.sqlite3"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert struct.unpack(">I4xI", file.read_bytes()[60:72]) == (schema.VERSION, schema.APPLICATION_ID)
    assert dict(read(book, "SELECT key, value FROM meta"))["schema"] == str(schema.VERSION)


@pytest.mark.parametrize("part", ["connect", "fill"])
def test_a_book_that_cannot_be_made_is_one_clear_error(
    book: LeaseBook, folder: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    broken = Mock(side_effect=sqlite3.OperationalError("disk full"))
    monkeypatch.setattr(sqlite3 if part == "connect" else schema, part, broken)
    with pytest.raises(BookError, match=r"book\.sqlite3: cannot be made: disk full"):
        book._store._create()
    assert not (folder / "book.sqlite3").exists()


@pytest.mark.parametrize(
    ("told", "header_version", "tables", "version"),
    [
        (str(schema.VERSION), schema.VERSION, "warm", schema.VERSION), ("1", 1, "warm", 1), ("x", 3, "warm", 3),
        ("2", 3, "warm", 3), ("0", 0, "warm", 3), ("9", 9, "warm", 3), ("x", 2, "memory_mb", 2), ("x", 2, "leases", 1),
    ],
)  # fmt: skip
def test_a_book_has_the_version_it_names_or_else_the_one_its_tables_show(
    told: str, header_version: int, tables: str, version: int
) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None, factory=Transaction)
    try:
        db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        db.execute("INSERT INTO meta VALUES ('schema', ?), ('other', '7')", (told,))
        db.execute(f"CREATE TABLE leases (id{', memory_mb' if tables == 'memory_mb' else ''})")
        if tables == "warm":
            db.execute("CREATE TABLE warm (lease)")
        db.execute(f"PRAGMA user_version={header_version}")

        assert schema.version(db, told) == version
        assert db.execute("PRAGMA user_version").fetchone()[0] == version
        assert dict(db.execute("SELECT key, value FROM meta")) == {"schema": str(version), "other": "7"}
    finally:
        db.close()


def test_a_change_of_a_book_shows_in_its_counter_of_32_bits(tmp_path: Path) -> None:
    found = tmp_path.stat()
    first, later = (look(found, bytes(24) + number.to_bytes(4, "big")) for number in (1, 1 + (1 << 24)))

    assert (first, later) == tuple((found.st_ino, found.st_mtime_ns, number) for number in (1, 1 + (1 << 24)))


def test_an_error_of_sqlite_is_a_broken_book_or_one_that_cannot_be_used(book: LeaseBook) -> None:
    def explained(code: int | None) -> Exception:
        error = sqlite3.DatabaseError("why")
        if code is not None:
            error.sqlite_errorcode = code
        return book._store._explained(error)

    broken = [type(explained(code)) for code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, 267)]
    assert broken == [BrokenError] * 3
    assert str(explained(sqlite3.SQLITE_CORRUPT)) == "why"
    for code in (sqlite3.SQLITE_BUSY, None, 0):
        assert type(explained(code)) is BookError
        assert str(explained(code)) == f"{file_of(book)}: why"


def test_a_broken_book_is_kept_aside_with_its_journal(
    book: LeaseBook, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(store, "warn", lambda state, text: said.append(text) if state == folder else None)
    book._store._set_aside("gone already")
    (folder / "book.sqlite3").write_text("a")
    (folder / "book.sqlite3-journal").write_bytes(b"\0")
    book._store._set_aside("why")
    assert (folder / "book.sqlite3-journal").exists()
    (folder / "book.sqlite3").write_text("b")
    (folder / "book.sqlite3-journal").write_bytes(b"\xd9")
    book._store._set_aside("why")

    kept = sorted(path.name for path in folder.iterdir() if "corrupt" in path.name)
    assert [name.endswith("-journal") for name in kept].count(True) == 1
    assert len(kept) == 3
    assert all(re.fullmatch(r"book\.sqlite3\.corrupt-20\d{6}T\d{6}Z-[0-9a-f]{4}(-journal)?", name) for name in kept)
    assert said[0].endswith("book.sqlite3: gone already; a new one was made from what is still known")
    assert "why; kept as book.sqlite3.corrupt-20" in said[1]


def test_a_broken_book_is_named_by_universal_time(
    book: LeaseBook, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "book.sqlite3").write_text("a")
    clock = Mock()
    clock.strftime.side_effect = lambda _form, moment: f"at {moment}"
    clock.gmtime.return_value = "noon"
    monkeypatch.setattr(store, "time", clock)
    monkeypatch.setattr(store, "warn", Mock())

    book._store._set_aside("why")
    assert [path.name[:-5] for path in folder.iterdir()] == ["book.sqlite3.corrupt-at noon"]


def test_a_broken_book_that_is_only_read_is_said_to_be_broken_and_stays(
    book: LeaseBook, make: Callable[..., LeaseBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    book.transact(lambda _db: None)
    said, file = Mock(), file_of(book)
    monkeypatch.setattr(store, "warn", said)
    file.write_text("a")

    assert make(read_only=True).leases() == []
    told = f"{file}: not a database; the next command that writes replaces it"
    said.assert_called_once_with(file.parent, told)
    assert file.read_text() == "a"


def test_a_book_that_is_only_read_is_fixed_in_memory_and_says_what_sqlite_says(
    book: LeaseBook, make: Callable[..., LeaseBook]
) -> None:
    lease = book.acquire(TEST, ttl=50)
    book.transact(lambda db: db.execute("DELETE FROM claims WHERE kind='project'"))
    looking = make(read_only=True)

    assert looking.check().startswith(f"fixed: lease {lease.id} and its claims differed")
    assert looking.leases() == [lease]
    with pytest.raises(BookError, match=r"book\.sqlite3: no such table: nowhere$"):
        looking.transact(lambda db: db.execute("SELECT * FROM nowhere"), reading=True)


def test_a_book_is_copied_under_its_lock_if_there_is_one(
    make: Callable[..., LeaseBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    make().transact(lambda _db: None)
    book, locked = make(read_only=True), Mock(side_effect=contextlib.nullcontext)
    monkeypatch.setattr(book._store, "_locked", locked)

    book.leases()
    assert locked.call_count == 1
    (book.settings.state_dir / "book.lock").unlink()
    book.leases()
    assert locked.call_count == 1


def test_a_fork_keeps_what_its_parent_has_open_and_opens_the_book_itself(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []
    monkeypatch.setattr(store, "_inherited", kept)
    monkeypatch.setattr(store, "_stores", [book._store])
    opened = book.transact(lambda db: db)

    store._forget()
    assert (kept, book._store._db) == ([opened], None)
    opened.close()


def test_work_that_fails_is_undone_last_step_first(book: LeaseBook) -> None:
    steps: list[str] = []

    def fail() -> None:
        steps.append("second")
        raise OSError("disk")

    def work(db: Transaction) -> None:
        db.execute("INSERT INTO meta VALUES ('x', 'y')")
        db.undo += [lambda: steps.append("first"), fail, lambda: steps.append("third")]
        raise UsageError("no")

    with pytest.raises(UsageError):
        book.transact(work)
    assert steps == ["third", "second", "first"]
    assert read(book, "SELECT * FROM meta WHERE key='x'") == []
    book.transact(lambda db: db.undo.append(lambda: steps.append("kept")))
    with pytest.raises(UsageError):
        book.transact(Mock(side_effect=UsageError("no")))
    assert steps == ["third", "second", "first"]


def test_a_transaction_knows_its_moment(book: LeaseBook, clock: Clock) -> None:
    moment = book.transact(lambda db: db.moment)
    assert moment == Moment(wall=clock.now, steady=clock.now, boot=owners.boot_id())
    looked = book.transact(lambda db: db.moment, reading=True)
    assert looked == moment


def test_a_new_boot_checks_the_file_and_ends_all_rests(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = book.acquire(TEST, ttl=50)
    book.quarantine(lease.id, 60)
    assert read(book, "SELECT rests_until FROM slots WHERE port=11000")[0][0] > 0
    monkeypatch.setattr(owners, "boot_id", lambda: "b2")

    assert read(book, "SELECT rests_until FROM slots WHERE port=11000") == [(0,)]
    assert read(book, "SELECT value FROM meta WHERE key='boot'") == [("b2",)]


def test_a_text_that_is_not_utf8_stays_bytes() -> None:
    assert [store._text(b"a\xc3\xa4"), store._text(b"\xff")] == ["a\u00e4", b"\xff"]


def test_a_closed_book_is_opened_again(book: LeaseBook) -> None:
    first = book.transact(lambda db: db)
    assert book.transact(lambda db: db) is first
    book._store.close()
    book._store.close()
    assert book.transact(lambda db: db) is not first
    with pytest.raises(sqlite3.ProgrammingError):
        first.execute("SELECT 1")


def test_the_settings_of_an_open_book(book: LeaseBook) -> None:
    def pragma(name: str) -> Any:
        return book.transact(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])

    assert [pragma(name) for name in ("synchronous", "journal_mode", "foreign_keys")] == [0, "persist", 1]


def test_a_strange_path_is_the_same_file_for_sqlite(tmp_path: Path, clock: Clock) -> None:
    settings = Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "a?b#c%41")})
    book = LeaseBook(settings, clock=clock)
    book.transact(lambda _db: None)
    assert (tmp_path / "a?b#c%41" / "book.sqlite3").is_file()


def test_a_journal_that_is_no_plain_file_is_refused(book: LeaseBook) -> None:
    book.transact(lambda _db: None)
    book._store.close()
    journal = file_of(book).with_name("book.sqlite3-journal")
    journal.unlink(missing_ok=True)
    journal.symlink_to(journal.with_name("target"))
    with pytest.raises(BookError, match=r"journal: must be a plain file that belongs to you; move it away"):
        book.transact(lambda _db: None)


def test_the_inode_of_what_is_gone_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert [inode(tmp_path / "a"), inode(tmp_path / "b")] == [(tmp_path / "a").stat().st_ino, 0]
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert inode(tmp_path / "link") == (tmp_path / "link").lstat().st_ino


@pytest.mark.parametrize("missing", sorted(schema.KNOWN - {"meta"}))
def test_a_book_without_one_of_its_tables_is_broken(book: LeaseBook, missing: str) -> None:
    book.transact(lambda _db: None)

    def work(db: Transaction) -> None:
        db.execute(f"DROP TABLE {missing}")
        with pytest.raises(BrokenError, match=f"its table {missing} is missing"):
            book._store._fixed_rows(db)
        raise UsageError("undo")

    with pytest.raises(UsageError):
        book.transact(work)


@pytest.mark.parametrize("missing", sorted(schema.ADDITIONS))
def test_a_table_that_older_versions_lack_is_added(book: LeaseBook, missing: str) -> None:
    book.transact(lambda db: db.execute(f"DROP TABLE {missing}"))
    book._store.close()
    assert read(book, f"SELECT * FROM {missing}") == []  # noqa: S608 - a name of ours

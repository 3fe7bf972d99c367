"""The lease book's file while it is used, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from stackyard._util.clocks import Moment
from stackyard.errors import BookError, UsageError
from stackyard.leases import owners
from stackyard.leases.database import schema, store
from stackyard.leases.database.column_rules import BadRowError
from stackyard.leases.database.header import BrokenError
from stackyard.leases.database.store import Store, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(store, "warn", lambda folder, text: lines.append(text.removeprefix(str(folder))))
    return lines


@pytest.fixture
def recover() -> Mock:
    return Mock()


@pytest.fixture
def book(tmp_path: Path, recover: Mock) -> Store:
    def recovered(db: Transaction, state: str) -> None:
        recover(state)
        db.execute("UPDATE meta SET value='done' WHERE key='recovery'")

    moment = Moment(wall=5.0, steady=6.0, boot=owners.boot_id())
    return Store(tmp_path / "state", recovered, fix=Mock(return_value=[]), now=lambda: moment)


def values(book: Store) -> dict[str, str]:
    return book.run(lambda db: dict(db.execute("SELECT key, value FROM meta")))


def keep(db: Transaction, word: str) -> str:
    db.execute("INSERT OR REPLACE INTO meta VALUES ('word', ?)", (word,))
    return word


def test_a_store_that_was_never_used_has_fixed_nothing(book: Store) -> None:
    assert (book.fixed, book.exists()) == ([], False)


def test_a_book_that_is_broken_each_time_is_given_up_after_a_few(book: Store, said: list[str]) -> None:
    work = Mock(side_effect=BrokenError("odd"))

    with pytest.raises(BookError, match=r"book\.sqlite3: odd, and the new one is too; check the disk"):
        book.run(work)
    kept = [path for path in book.directory.iterdir() if ".corrupt-" in path.name and "journal" not in path.name]
    assert (work.call_count, len(kept), len(said)) == (store.TRIES, store.TRIES - 1, store.TRIES - 1)


def test_a_row_that_is_wrong_each_time_is_an_error_after_a_few_tries(book: Store, said: list[str]) -> None:
    work = Mock(side_effect=BadRowError("a row of x: odd"))

    with pytest.raises(BookError, match=r"book\.sqlite3: a row of x: odd"):
        book.run(work)
    assert (work.call_count, said) == (store.TRIES, [])


@pytest.mark.parametrize("error", [None, sqlite3.DatabaseError("gone"), sqlite3.OperationalError("disk I/O error")])
def test_work_on_a_book_that_is_deleted_meanwhile_is_done_again(
    book: Store, said: list[str], error: sqlite3.DatabaseError | None
) -> None:
    undone: list[str] = []
    words = iter(["first", "second"])

    def work(db: Transaction) -> str:
        word = keep(db, next(words))
        db.undo.append(lambda: undone.append(word))
        if word == "first":
            book.file.unlink()
            if error:
                raise error
        return word

    assert book.run(work) == "second"
    assert (values(book)["word"], undone) == ("second", ["first"])
    assert said == ["/book.sqlite3: deleted while in use; a new one was made from what is still known"]


def test_a_file_that_was_put_in_the_books_place_is_used_from_then_on(book: Store) -> None:
    book.run(lambda db: keep(db, "old"))
    other = book.file.with_name("other")
    other.write_bytes(book.file.read_bytes())
    book.run(lambda db: keep(db, "new"))
    other.rename(book.file)

    assert values(book)["word"] == "old"


def test_an_interrupt_undoes_the_files_unless_the_commit_was_made(book: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[str] = []

    def work(db: Transaction) -> None:
        db.undo += [lambda: undone.append("files"), Mock(side_effect=BookError("no")), Mock(side_effect=OSError("no"))]

    def interrupted(_db: Transaction) -> None:
        work(_db)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        book.run(interrupted)
    assert undone == ["files"]
    monkeypatch.setattr(book, "_log", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        book.run(work)
    assert undone == ["files"]


def test_a_lock_file_that_was_deleted_while_it_was_waited_for_locks_nothing(
    book: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def take(handle: int, path: Path) -> None:
        taken.append(os.fstat(handle).st_ino)
        if len(taken) == 1:
            path.rename(path.with_name("gone"))

    monkeypatch.setattr(store, "take_lock", take)
    book.run(lambda _db: None)

    assert (len(taken), taken[-1]) == (2, (book.directory / "book.lock").stat().st_ino)


def test_the_lock_file_is_private_closed_after_use_and_no_link(book: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    handles: list[int] = []
    monkeypatch.setattr(store, "take_lock", lambda handle, _path: handles.append(handle))
    book.run(lambda _db: None)
    lock = book.directory / "book.lock"

    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handles[0])
    lock.rename(lock.with_name("target"))
    lock.symlink_to(lock.with_name("target"))
    with pytest.raises(BookError, match=r"book\.lock: Too many levels of symbolic links"):
        book.run(lambda _db: None)


def test_a_book_that_was_not_opened_yet_has_seen_nothing_and_knows_no_time(book: Store) -> None:
    assert book._seen == (0, 0, 0)
    with contextlib.closing(sqlite3.connect(":memory:", factory=Transaction)) as db:
        assert db.moment == Moment(wall=0.0, steady=0.0, boot="")


def test_the_state_of_a_file_that_is_gone_is_nothing(book: Store) -> None:
    assert book._look() == (0, 0, 0)
    book.run(lambda _db: None)
    assert book._look()[:2] == (book.file.stat().st_ino, book.file.stat().st_mtime_ns)


def test_sqlite_opens_the_file_that_is_there_and_waits_for_a_moment(
    book: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Mock()
    monkeypatch.setattr(sqlite3, "connect", connect)

    assert book._open() is connect.return_value
    connect.assert_called_once_with(
        f"file:{book.file}?mode=rw", uri=True, timeout=5.0, isolation_level=None, factory=Transaction,
        check_same_thread=False,
    )  # fmt: skip


def test_any_thread_may_use_the_book(book: Store) -> None:
    book.run(lambda db: keep(db, "one"))
    thread = threading.Thread(target=lambda: book.run(lambda db: keep(db, "two")))
    thread.start()
    thread.join()
    assert values(book)["word"] == "two"


@pytest.mark.parametrize(
    ("state", "asked"), [(None, []), ("done", []), ("due", ["due"]), ("stacks", ["stacks"]), ("odd", ["due"])]
)
def test_what_is_lost_is_recovered_until_it_is_done(
    book: Store, recover: Mock, state: str | None, asked: list[str]
) -> None:
    def note(db: Transaction) -> None:
        db.execute("DELETE FROM meta WHERE key='recovery'")
        if state:
            db.execute("INSERT INTO meta VALUES ('recovery', ?)", (state,))

    book.run(note)
    recover.reset_mock()
    book.run(lambda _db: None)

    assert [call.args[0] for call in recover.mock_calls] == asked


def test_a_repair_that_sets_a_lease_aside_has_it_recovered_at_once(book: Store, recover: Mock, said: list[str]) -> None:
    def fix(db: Transaction) -> list[str]:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('recovery', 'due')")
        return ["a row", "another"]

    book.run(lambda _db: None)
    recover.reset_mock()
    book._fix = fix
    book.run(lambda _db: None, fresh=True)

    assert ([call.args[0] for call in recover.mock_calls], book.fixed) == (["due"], ["a row", "another"])
    assert said == ["/book.sqlite3: a row", "/book.sqlite3: another"]
    book.run(lambda _db: None)
    assert book.fixed == []


def test_a_book_without_its_version_is_broken(book: Store, said: list[str]) -> None:
    book.run(lambda db: (keep(db, "old"), db.execute("DELETE FROM meta WHERE key='schema'")))

    assert "word" not in values(book)
    assert "its schema row is missing; kept as" in said[0]


def test_a_book_of_an_earlier_version_is_upgraded_when_it_is_opened(book: Store) -> None:
    def age(db: Transaction) -> None:
        db.execute("UPDATE meta SET value=? WHERE key='schema'", (str(schema.VERSION - 1),))
        db.execute(f"PRAGMA user_version={schema.VERSION - 1}")

    book.run(age)
    moment = Moment(wall=5.0, steady=6.0, boot=owners.boot_id())
    reopened = Store(book.directory, Mock(), fix=Mock(return_value=[]), now=lambda: moment)

    assert values(reopened)["schema"] == str(schema.VERSION)


@pytest.mark.parametrize("found", ["ok", "row 1 missing from index"])
def test_a_file_that_a_new_boot_finds_damaged_is_broken(found: str) -> None:
    db = Mock()
    db.execute.return_value.fetchone.return_value = (found,)

    if found == "ok":
        Store._begin_boot(db)
    else:
        with pytest.raises(BrokenError, match=found):
            Store._begin_boot(db)
    assert db.execute.call_count == (3 if found == "ok" else 1)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (lambda _: OSError(5, "broken", "/a/b"), "/a/b: broken"), (lambda _: OSError("odd"), "{}: odd"),
        (lambda _: OSError(5, "broken"), "{}: broken"),
    ],
)  # fmt: skip
def test_an_error_of_the_disk_names_its_file_or_the_state_directory(
    book: Store, error: Callable[[object], OSError], text: str
) -> None:
    with pytest.raises(BookError) as raised, book.usable():
        raise error(None)
    assert str(raised.value) == text.format(book.directory)


def test_a_book_for_reading_only_is_not_made_usable(book: Store) -> None:
    book.read_only = True
    with pytest.raises(BookError, match=r"book\.sqlite3: is open for reading only"), book.usable():
        pytest.fail("the block ran")
    assert not book.directory.exists()


def test_a_directory_that_may_not_be_written_is_only_looked_at(book: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    book.run(lambda db: keep(db, "word"))
    real: Any = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != book.directory and real(path, mode))
    look = Mock(return_value="looked")
    monkeypatch.setattr(book, "_look_only", look)
    work = Mock()

    assert (book.run(work, reading=True), look.mock_calls[0].args) == ("looked", (work,))
    assert book.run(lambda _db: "written") == "written"


def test_a_book_that_is_read_is_read_from_its_file(book: Store) -> None:
    book.run(lambda db: keep(db, "word"))
    look = Mock(side_effect=UsageError("looked only"))
    book._look_only = look  # type: ignore[method-assign]

    assert book.run(lambda db: dict(db.execute("SELECT key, value FROM meta"))["word"], reading=True) == "word"


@pytest.mark.parametrize("version", [1, 2, 3, schema.VERSION])
def test_a_book_of_an_earlier_version_becomes_one_of_this_version(version: int) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None, factory=Transaction)
    try:
        schema.fill(db)
        new = {"schema": str(schema.VERSION), "recovery": "due"}
        assert dict(db.execute("SELECT key, value FROM meta")) == new
        tables = "SELECT sql FROM sqlite_master WHERE type='table' AND name IN ('warm', 'pools') ORDER BY name"
        made = db.execute(tables).fetchall()
        for statement in ("DROP TABLE warm", "DROP TABLE pools") * (version < 3):
            db.execute(statement)
        for statement in ("ALTER TABLE leases DROP COLUMN memory_mb",) * (version < 2):
            db.execute(statement)
        db.execute("UPDATE meta SET value=? WHERE key='schema'", (str(version),))
        db.execute(f"PRAGMA user_version={version}")

        schema.upgrade(db, version)

        assert dict(db.execute("SELECT key, value FROM meta")) == new
        assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION
        assert db.execute(tables).fetchall() == made
        assert ("memory_mb", 1, "0") in [(row[1], row[3], row[4]) for row in db.execute("PRAGMA table_info(leases)")]
    finally:
        db.close()

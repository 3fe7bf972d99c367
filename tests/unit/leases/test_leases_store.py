"""The book's file: broken, foreign, newer, lost or locked, and what is made of each."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from stackyard._util import state_directory
from stackyard.errors import BookError, EngineError
from stackyard.leases import LeaseBook, Survivor, owners
from stackyard.leases.database import schema, store
from stackyard.leases.database.header import BrokenError
from stackyard.leases.port_format import parse_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lease_records import Clock, MakeBook, Surroundings


@pytest.fixture
def file(book: LeaseBook) -> Path:
    return book.settings.state_dir / "book.sqlite3"


def cut(file: Path) -> None:
    os.truncate(file, 5000)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def overwrite_start(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"garbage!" * 64)


def overwrite_all(file: Path) -> None:
    size = file.stat().st_size
    head = file.read_bytes()[:100]
    file.write_bytes(head + b"\xa5" * (size - 100))


def replace_by_foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()


def empty_tables(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("DELETE FROM meta")
    db.close()


@pytest.mark.parametrize("damage", [cut, empty, overwrite_start, overwrite_all, replace_by_foreign, empty_tables])
def test_a_broken_book_is_kept_aside_and_made_again_with_its_leases(
    damage: Callable[[Path], None],
    book: LeaseBook,
    file: Path,
    environment: Surroundings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mine, named = book.acquire(environment), book.acquire(environment, parallel_id="job-1", fixed="prefer")
    damage(file)
    damaged = file.read_bytes()

    found = {lease.id: lease for lease in book.leases()}

    assert set(found) == {mine.id, named.id}
    assert found[mine.id].ports == mine.ports
    assert found[mine.id].slot == mine.slot
    assert found[named.id].slot is None
    assert found[named.id].deadline is not None
    assert book.find("job-1").id == named.id
    assert book.stale() == []
    assert book.check() == "ok"
    (kept,) = file.parent.glob("book.sqlite3.corrupt-*")
    assert kept.read_bytes() == damaged
    assert sum("kept as" in message for message in caplog.messages) == 1
    assert book.acquire(environment).slot == 1


def test_a_deleted_book_is_rebuilt_and_grants_nothing_twice(
    book: LeaseBook, file: Path, environment: Surroundings
) -> None:
    held = [book.acquire(environment) for _ in range(3)]
    file.unlink()

    assert book.acquire(environment).slot == 3
    assert {lease.id for lease in held} < {lease.id for lease in book.leases()}


def test_work_on_a_book_deleted_under_it_is_undone_and_done_again(
    book: LeaseBook, file: Path, environment: Surroundings
) -> None:
    held = book.acquire(environment)
    undone: list[int] = []
    done: list[int] = []

    def work(db: store.Transaction) -> int:
        done.append(1)
        db.undo.append(lambda: undone.append(1))
        if len(done) == 1:
            file.unlink()
        return len(done)

    assert book._store.run(work) == 2
    assert undone == [1]
    assert book.leases() == [held]


def test_the_open_book_is_not_trusted_once_a_stranger_has_written(
    book: LeaseBook, file: Path, environment: Surroundings
) -> None:
    book.acquire(environment)
    before = book._store._db
    book.leases()
    assert book._store._db is before
    os.utime(file, ns=(1, 1))

    assert len(book.leases()) == 1
    assert book._store._db is not before


def test_a_journal_of_a_lost_book_is_never_played_into_the_new_one(
    book: LeaseBook, file: Path, environment: Surroundings
) -> None:
    book.acquire(environment)
    journal = file.with_name("book.sqlite3-journal")
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\xff" * 2000)
    file.unlink()

    assert len(book.leases()) == 1
    assert book.check() == "ok"
    assert not journal.read_bytes()[:8].strip(b"\0")


def test_a_blank_journal_does_not_excuse_a_book_that_was_cut_off(
    book: LeaseBook, file: Path, environment: Surroundings
) -> None:
    book.acquire(environment)
    cut(file)
    assert file.with_name("book.sqlite3-journal").stat().st_size > 0

    assert len(book.leases()) == 1
    assert [path.name for path in file.parent.glob("*.corrupt-*-journal")] == []
    file.with_name("book.sqlite3-journal").unlink()
    cut(file)
    assert len(book.leases()) == 1


def test_a_broken_book_takes_its_journal_along(book: LeaseBook, file: Path, environment: Surroundings) -> None:
    book.acquire(environment)
    file.with_name("book.sqlite3-journal").write_bytes(b"x" * 600)
    overwrite_start(file)

    assert len(book.leases()) == 1
    assert len(list(file.parent.glob("book.sqlite3.corrupt-*-journal"))) == 1


def test_a_newer_book_is_refused_and_not_touched(book: LeaseBook, file: Path, environment: Surroundings) -> None:
    book.acquire(environment)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version=999")
    db.close()
    before = file.read_bytes()

    with pytest.raises(
        BookError, match=rf"newer stackyard \(schema 999, this one knows up to {schema.VERSION}\)"
    ) as caught:
        book.leases()

    assert caught.value.exit_code == 5
    assert file.read_bytes() == before
    with sqlite3.connect(file) as db:
        db.execute(f"PRAGMA user_version={schema.VERSION}")
    db.close()


def test_an_older_book_is_brought_up_step_by_step(
    book: LeaseBook, file: Path, environment: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = book.acquire(environment)
    version = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", version + 2)
    steps = {version: "CREATE TABLE one (x)", version + 1: "CREATE TABLE two (x); INSERT INTO two VALUES (7)"}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)

    assert book.find(lease.id) == lease

    with sqlite3.connect(file) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version + 2,)
        assert db.execute("SELECT x FROM two").fetchone() == (7,)
        assert db.execute("SELECT value FROM meta WHERE key='schema'").fetchone() == (str(version + 2),)
        db.executescript(f"DROP TABLE one; DROP TABLE two; UPDATE meta SET value='{version}' WHERE key='schema'")  # noqa: S608 - a number
        db.execute(f"PRAGMA user_version={version}")
    db.close()


def test_a_migration_that_fails_changes_nothing(
    book: LeaseBook, file: Path, environment: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.acquire(environment)
    before = file.read_bytes()
    version = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", version + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", {version: "CREATE TABLE one (x); CREATE TABLE one (x)"})

    with pytest.raises(BookError, match="already exists"):
        book.leases()
    monkeypatch.undo()

    assert file.read_bytes() == before


def test_the_first_work_after_a_boot_checks_the_whole_file(
    book: LeaseBook, make_book: MakeBook, file: Path, environment: Surroundings
) -> None:
    lease = book.acquire(environment)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_master SET rootpage=999 WHERE name='claims_of'")
        db.execute("UPDATE meta SET value='another boot' WHERE key='boot'")
    db.close()

    assert [found.id for found in make_book().leases()] == [lease.id]
    assert len(list(file.parent.glob("book.sqlite3.corrupt-*"))) == 1


@pytest.mark.parametrize(("kind", "value"), [("port", "11000"), ("subnet", "10.214.0.0/28"), ("slot", "11000")])
def test_the_database_itself_refuses_a_second_holder(
    book: LeaseBook, environment: Surroundings, kind: str, value: str
) -> None:
    book.acquire(environment)
    other = book.acquire(environment)

    with pytest.raises(BookError, match="UNIQUE constraint failed"):
        book._store.run(lambda db: db.execute("INSERT INTO claims VALUES (?, ?, ?)", (kind, value, other.id)))
    assert book.check() == "ok"


def test_a_claim_that_went_missing_is_found_by_the_check(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)
    book._store.run(lambda db: db.execute("DELETE FROM claims WHERE kind='subnet'"))

    assert book.check() == f"fixed: lease {lease.id} and its claims differed; its claims were written again"
    assert book.check() == "ok"


def test_a_damaged_index_is_found_by_the_check(book: LeaseBook, file: Path, environment: Surroundings) -> None:
    book.acquire(environment)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_master SET sql=replace(sql, '(lease)', '(value)') WHERE name='claims_of'")
    db.close()

    assert "claims_of" in book.check()


def test_a_row_that_no_one_wrote_so_is_set_aside_and_its_lease_found_again(
    book: LeaseBook, environment: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    lease, other = book.acquire(environment), book.acquire(environment)
    book._store.run(lambda db: db.execute("UPDATE leases SET ports='x' WHERE id=?", (lease.id,)))

    assert {found.id: found.ports for found in book.leases()} == {lease.id: lease.ports, other.id: other.ports}
    assert "a row of leases was set aside, see the table set_aside: ports is 'x' and must be ports" in caplog.text
    assert f"lease {lease.id} of test was restored" in caplog.text
    held = book._store.run(lambda db: db.execute("SELECT source, content FROM set_aside").fetchall())
    assert [source for source, _ in held] == ["leases"]
    assert f"id='{lease.id}', parallel_id=NULL, environment='test', slot=0, ports='x'" in held[0][1]
    assert book.check() == "ok"


def test_everything_in_the_state_directory_is_closed_to_others(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)
    root = book.settings.state_dir

    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "leases").stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "book.sqlite3").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "book.lock").stat().st_mode) == 0o600
    assert stat.S_IMODE(lease.lock.stat().st_mode) == 0o600


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Path]:
    """Where a refused book must leave nothing."""
    (tmp_path / "target").mkdir()
    yield tmp_path / "target"
    assert list((tmp_path / "target").iterdir()) == []


def test_a_linked_state_directory_is_refused(make_book: MakeBook, tmp_path: Path, untouched: Path) -> None:
    (tmp_path / "state").symlink_to(untouched)

    with pytest.raises(BookError, match="must be a directory, not a link or file"):
        make_book().leases()


def test_a_state_directory_others_may_write_to_is_refused(make_book: MakeBook, untouched: Path) -> None:
    untouched.chmod(0o777)

    with pytest.raises(BookError, match=r"others may write to the state directory \(mode 0777\); run: chmod 700"):
        make_book(STACKYARD_STATE_DIR=str(untouched)).leases()


def test_another_users_state_directory_is_refused(
    make_book: MakeBook, untouched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)

    with pytest.raises(BookError, match=f"belongs to user {mine}, not to {mine + 1}"):
        make_book(STACKYARD_STATE_DIR=str(untouched)).leases()


@pytest.mark.parametrize("name", ["book.sqlite3", "book.lock", "leases"])
def test_a_link_in_place_of_a_file_is_refused(make_book: MakeBook, tmp_path: Path, untouched: Path, name: str) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / state_directory.MARK).touch()
    (tmp_path / "state" / name).symlink_to(untouched / "victim")

    with pytest.raises(BookError, match=name.replace(".", r"\.")):
        make_book().leases()


def test_a_directory_in_place_of_the_book_is_refused(make_book: MakeBook, tmp_path: Path) -> None:
    (tmp_path / "state" / "book.sqlite3").mkdir(parents=True)
    (tmp_path / "state" / state_directory.MARK).touch()
    (tmp_path / "state").chmod(0o700)

    with pytest.raises(BookError, match="must be a plain file that belongs to you"):
        make_book().leases()


def test_a_file_in_the_way_of_the_state_directory_is_one_clear_error(make_book: MakeBook, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BookError, match="Not a directory"):
        make_book(STACKYARD_STATE_DIR=str(tmp_path / "file" / "state")).leases()


def test_an_open_file_limit_is_one_clear_error(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    book._store.run(lambda _db: None)
    book._store.close()

    def refuse(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.raises(BookError, match="unable to open database file"):
        book.leases()
    (book.settings.state_dir / "book.sqlite3").unlink()
    with pytest.raises(BookError, match="cannot be made: unable to open"):
        book.leases()
    monkeypatch.undo()


def test_a_disk_that_breaks_every_book_is_one_clear_error(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    book._store.run(lambda _db: None)

    def find_broken(*_: object, **__: object) -> None:
        raise BrokenError("unreadable")

    monkeypatch.setattr(store.Store, "_check_content", find_broken)

    with pytest.raises(BookError, match="unreadable, and the new one is too; check the disk"):
        book.leases()
    monkeypatch.undo()


def test_a_file_system_without_locks_is_one_clear_error(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    book._store.run(lambda _db: None)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(BookError, match="Operation not supported"):
        book.leases()
    monkeypatch.undo()


def labels(host: str, **changes: str) -> dict[str, str]:
    return {
        "com.docker.compose.project": "stackyard-test-0000abcd",
        "stackyard.lease": "0000abcd",
        "stackyard.environment": "test",
        "stackyard.host": host,
        "stackyard.owner": owners.Owner.detached().label(),
        "stackyard.created": "1700000000.5",
        "stackyard.ports": "postgres:11010,redis:11011,backend:11012,auth:11013,websocket:11014,spare:11015-11019",
        "stackyard.subnet": "10.214.0.16/28",
    } | changes


def test_a_new_book_takes_over_the_stacks_that_run(
    make_book: MakeBook, environment: Surroundings, clock: Clock
) -> None:
    asked = []

    def survivors() -> list[Survivor]:
        asked.append(1)
        found = Survivor.from_labels(labels(host), host=host)
        assert found is not None
        return [found]

    host = make_book().host
    make_book()._store.run(lambda _db: None)
    book = make_book(survivors)

    (lease,) = book.leases()

    assert (lease.id, lease.slot, lease.project) == ("0000abcd", 1, "stackyard-test-0000abcd")
    assert lease.deadline == clock.now + 3600
    assert [book.acquire(environment).slot for _ in range(3)] == [0, 2, 3]
    assert asked == [1]


def test_a_book_made_without_an_engine_asks_again_and_warns_once(
    make_book: MakeBook, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> list[Survivor]:
        raise EngineError("the engine does not answer")

    host = make_book().host
    make_book(refuse)._store.run(lambda _db: None)
    for _ in range(3):
        assert make_book(refuse).leases() == []
    found = Survivor.from_labels(labels(host), host=host)
    assert found is not None

    assert len(make_book(lambda: [found]).leases()) == 1
    assert sum("does not answer" in message for message in caplog.messages) == 1


def test_a_command_that_looks_often_names_what_it_restored_from_a_lost_book_once(
    make_book: MakeBook, environment: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    lease = make_book().acquire(environment, ttl=60)
    make_book()._store.file.unlink()

    looking = LeaseBook(make_book().settings, list, read_only=True)
    for _ in range(3):
        assert [found.id for found in looking.leases()] == [lease.id]

    assert not looking._store.file.exists()
    assert caplog.messages == [f"lease {lease.id} of test was restored"]


def test_a_survivor_whose_ports_are_leased_meanwhile_is_left_out(
    make_book: MakeBook, environment: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    book = make_book()
    held = [book.acquire(environment) for _ in range(2)]
    found = Survivor.from_labels(labels(book.host), host=book.host)
    assert found is not None

    assert {lease.id for lease in make_book(lambda: [found, found]).leases()} == {lease.id for lease in held}
    assert "lease 0000abcd of test cannot be restored" in caplog.text
    assert book.check() == "ok"


def test_labels_of_another_book_or_of_no_lease_are_ignored() -> None:
    assert Survivor.from_labels(labels("theirs"), host="mine") is None
    assert Survivor.from_labels({}, host="mine") is None
    for change in (
        {"stackyard.owner": "plain"},
        {"stackyard.lease": "../x"},
        {"stackyard.environment": ""},
        {"stackyard.ports": "plain"},
        {"stackyard.ports": "Postgres:5432"},
        {"stackyard.subnet": "everywhere"},
    ):
        assert Survivor.from_labels(labels("mine", **change), host="mine") is None


def test_a_survivor_with_an_unreadable_creation_time_is_just_old() -> None:
    found = Survivor.from_labels(labels("mine", **{"stackyard.created": "plain"}), host="mine")

    assert found is not None
    assert found.created == 0.0


@pytest.mark.parametrize(
    "text",
    ["", "x", "postgres:0", "postgres:65536", "Mail:25", "mail:25,web_80_tcp:26", "spare:1", "spare:1-x", "redis:-1"],
)
def test_ports_that_no_one_wrote_so_are_not_read(text: str) -> None:
    assert parse_ports(text) is None


def test_unreadable_files_of_lost_leases_are_skipped(book: LeaseBook, file: Path, environment: Surroundings) -> None:
    one, two, three = (book.acquire(environment) for _ in range(3))
    one.env_file.write_bytes(b"\xff\xfe")
    two.env_file.write_text("STACKYARD_HOST=theirs\n")
    file.unlink()

    assert [lease.id for lease in book.leases()] == [three.id]


def test_a_book_is_never_left_half_made(make_book: MakeBook, monkeypatch: pytest.MonkeyPatch) -> None:
    book = make_book()
    monkeypatch.setattr(schema, "TABLES", schema.TABLES + "nonsense;")
    with pytest.raises(BookError, match="cannot be made"):
        book._store.run(lambda _db: None)
    monkeypatch.undo()

    assert not (book.settings.state_dir / "book.sqlite3").exists()
    assert book.leases() == []

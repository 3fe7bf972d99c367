"""What counts as the state directory, and that nothing else is ever written to, emptied or followed into."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest
from lease_records import Surroundings

from stackyard._util import state_directory
from stackyard.checks import host
from stackyard.checks.host import HostFacts
from stackyard.cleanup import removal
from stackyard.docker.endpoint import Endpoint, PingResult
from stackyard.errors import BookError, StackyardError
from stackyard.host.machine import Machine
from stackyard.leases import LeaseBook
from stackyard.leases.warm import Pool, WarmStacks
from stackyard.settings import Settings
from stackyard.stacks.reaper_files import Notice, Post
from stackyard.stacks.reaper_launch import wake
from stackyard.stacks.starts.queue import turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def settings_of(directory: Path) -> Settings:
    return Settings.load(
        {
            "STACKYARD_STATE_DIR": str(directory),
            "STACKYARD_POOL": "11000-11039",
            "STACKYARD_POOL_SUBNETS": "10.214.0.0/17",
        }
    )


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in *directory*: its mode, and its content or the place it points to."""
    found = {}
    for path in sorted(directory.rglob("*")):
        text = bytes(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = (path.lstat().st_mode, text)
    return found


def acquire(settings: Settings) -> object:
    return LeaseBook(settings).acquire(Surroundings())


def sweep(settings: Settings) -> object:
    book = LeaseBook(settings)
    return [book.stale(), book.tidy()]


def want(settings: Settings) -> object:
    WarmStacks(LeaseBook(settings)).want(Pool(root=settings.state_dir, environment="test", size=1))
    return None


def take_a_turn(settings: Settings) -> object:
    with turn(settings) as waited:
        return waited


def take_the_post(settings: Settings) -> object:
    return Post(settings.state_dir).take()


def open_the_log(settings: Settings) -> object:
    return Post(settings.state_dir).open_log()


def look(settings: Settings) -> object:
    return [LeaseBook(settings).leases(), WarmStacks(LeaseBook(settings)).inventory()]


WRITERS = [acquire, sweep, want, take_a_turn, take_the_post, open_the_log, look]


def rental(directory: Path) -> None:
    (directory / "leases" / "2025").mkdir(parents=True)
    (directory / "leases" / "2025" / "flat").write_text("contract")


def named_like_a_lease(directory: Path) -> None:
    (directory / "leases" / "deadbeef" / "secrets").mkdir(parents=True)
    (directory / "leases" / "deadbeef" / "secrets" / "diary").write_text("dear diary")


def one_file(directory: Path) -> None:
    (directory / "thesis.txt").write_text("last copy")


def hidden_file(directory: Path) -> None:
    (directory / ".profile").write_text("mine")


def models(directory: Path) -> None:
    (directory / "models").mkdir()
    (directory / "models" / "weights.bin").write_text("a week of training")


def foreign_database(directory: Path) -> None:
    with sqlite3.connect(directory / "book.sqlite3") as db:
        db.execute("CREATE TABLE recipes (x)")
    db.close()


def linked_leases(directory: Path) -> None:
    (directory.parent / "victim" / "photos").mkdir(parents=True)
    (directory.parent / "victim" / "photos" / "one").write_text("wedding")
    (directory / "leases").symlink_to(directory.parent / "victim")


@pytest.mark.parametrize("work", WRITERS)
@pytest.mark.parametrize(
    "fill", [rental, named_like_a_lease, one_file, hidden_file, models, linked_leases, foreign_database]
)
def test_a_directory_that_is_not_stackyards_is_refused_and_stays_as_it_is(
    fill: Callable[[Path], None], work: Callable[[Settings], object], tmp_path: Path
) -> None:
    directory = tmp_path / "theirs"
    directory.mkdir(mode=0o700)
    fill(directory)
    kept = contents(tmp_path)

    with pytest.raises(StackyardError) as caught:
        work(settings_of(directory))

    assert "\n" not in str(caught.value)
    assert str(directory) in str(caught.value)
    assert caught.value.exit_code == 5
    assert contents(tmp_path) == kept


def test_waking_the_background_process_leaves_a_strange_directory_alone(tmp_path: Path) -> None:
    one_file(tmp_path)

    assert not wake(settings_of(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("damage", ["nothing", "book", "book and lock"])
def test_what_an_earlier_version_made_is_accepted_and_marked(tmp_path: Path, damage: str) -> None:
    settings = settings_of(tmp_path / "state")
    book = LeaseBook(settings)
    lease = book.acquire(Surroundings())
    (settings.state_dir / state_directory.MARK).unlink()
    if damage != "nothing":
        (settings.state_dir / "book.sqlite3").unlink()
    if damage == "book and lock":
        (settings.state_dir / "book.lock").unlink()
        (settings.state_dir / "book.sqlite3-journal").unlink()
        (settings.state_dir / "turns.lock").touch()

    assert [found.id for found in book.leases()] == [lease.id]
    assert book.release(lease.id)
    assert (settings.state_dir / state_directory.MARK).is_file()


def test_an_empty_directory_and_a_new_file_system_may_become_the_state_directory(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    tmp_path.chmod(0o700)
    book = LeaseBook(settings_of(tmp_path))

    assert book.release(book.acquire(Surroundings()))


def test_looking_makes_no_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load({"STACKYARD_STATE_DIR": "here"})
    book = LeaseBook(settings)

    assert (book.leases(), book.stale(), book.check(), book.tidy()) == ([], [], "ok", 0)
    assert book.capacity(Surroundings()).slots > 0
    assert not WarmStacks(book).any()
    with pytest.raises(BookError, match="no lease"):
        book.find("mine")
    assert list(tmp_path.iterdir()) == []


def checked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """What doctor's look at leftovers says."""
    monkeypatch.setattr(Settings, "load", lambda: settings)
    facts = HostFacts(machine=Machine(), endpoint=Endpoint.find(), ping=PingResult(state="refused"))
    return next(check for check in host.CHECKS if check.id == "leftovers").run(facts).found


@pytest.mark.parametrize("state", ["a broken book", "no book", "an older book", "an orphan", "a stale lease"])
def test_doctor_changes_nothing_whatever_it_finds(state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path / "state")
    book = LeaseBook(settings)
    lease = book.acquire(Surroundings(), ttl=0.001 if state == "a stale lease" else None)
    file = settings.state_dir / "book.sqlite3"
    if state == "a broken book":
        file.write_bytes(b"x" * 8192)
    elif state == "no book":
        file.unlink()
    elif state == "an older book":
        (settings.state_dir / state_directory.MARK).unlink()
    elif state == "an orphan":
        lease.directory.rename(lease.directory.with_name("deadbeef"))
    before = {path: path.read_bytes() for path in settings.state_dir.rglob("*") if path.is_file()}

    said = checked(settings, monkeypatch)

    assert said.startswith(f"{int(state == 'a stale lease')} stale leases")
    assert {path: path.read_bytes() for path in settings.state_dir.rglob("*") if path.is_file()} == before


def test_a_book_for_reading_only_refuses_to_write(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "state")
    lease = LeaseBook(settings).acquire(Surroundings())
    book = LeaseBook(settings, read_only=True)

    assert book.leases() == [lease]
    for write in (lambda: book.acquire(Surroundings()), lambda: book.release(lease), lambda: book.renew(lease.id, 5)):
        with pytest.raises(BookError, match="for reading only"):
            write()
    LeaseBook(settings).release(lease)


def test_a_book_on_a_read_only_file_system_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path / "state")
    lease = LeaseBook(settings).acquire(Surroundings())
    opened = os.open

    def read_only(path: str | Path, flags: int, *mode: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *mode)

    with monkeypatch.context() as patch:
        patch.setattr("os.open", read_only)
        patch.setattr("os.access", lambda _path, mode: mode != os.W_OK)
        assert LeaseBook(settings).leases() == [lease]
        with pytest.raises(BookError, match=r"book\.lock: Read-only file system"):
            LeaseBook(settings).release(lease)
    LeaseBook(settings).release(lease)


def test_doctor_refuses_a_strange_directory_and_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rental(tmp_path)
    kept = contents(tmp_path)

    assert "neither empty nor stackyard's (it holds 'leases')" in checked(settings_of(tmp_path), monkeypatch)
    assert contents(tmp_path) == kept


STRANGE = {
    "2025/flat": "contract", "deadbeef/notes": "named like a lease", ".new-0123456789ab/notes": "named like a draft",
    ".gone-0123456789ab/notes": "named like a removed one", ".new-1/owner.lock": "", "UPPER/owner.lock": "",
    "notes.txt": "a file", "cafebabe": "a file named like a lease",
}  # fmt: skip


def test_what_somebody_put_among_the_leases_survives_every_sweep(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "state")
    book = LeaseBook(settings)
    lease = book.acquire(Surroundings())
    folder = lease.directory.parent
    for name, text in STRANGE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (tmp_path / "victim" / "secrets").mkdir(parents=True)
    (tmp_path / "victim" / "owner.lock").touch()
    for name in ("0badf00d", ".gone-000000000000", ".new-000000000000"):
        (folder / name).symlink_to(tmp_path / "victim")
    kept = contents(tmp_path / "victim")

    assert book.tidy() == 0
    assert {name: (folder / name).read_text() for name in STRANGE} == STRANGE
    assert (folder / "0badf00d").is_symlink()
    assert contents(tmp_path / "victim") == kept
    assert book.release(lease)


def test_links_in_a_directory_of_ours_are_removed_and_never_followed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "state")
    book = LeaseBook(settings)
    lease = book.acquire(Surroundings())
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "photo").write_text("wedding")
    (lease.directory / "link").symlink_to(tmp_path / "victim")
    (lease.secrets_dir / "link").symlink_to(tmp_path / "victim" / "photo")

    assert book.release(lease)
    assert not lease.directory.exists()
    assert list(lease.directory.parent.iterdir()) == []
    assert (tmp_path / "victim" / "photo").read_text() == "wedding"


@pytest.mark.parametrize("ttl", [None, 0.001])
def test_a_lease_whose_directory_became_a_link_ends_and_the_target_stays(tmp_path: Path, ttl: float | None) -> None:
    settings = settings_of(tmp_path / "state")
    book = LeaseBook(settings)
    lease = book.acquire(Surroundings(), ttl=ttl)
    (tmp_path / "victim").mkdir()
    lease.directory.rename(tmp_path / "victim" / "was")
    lease.directory.symlink_to(tmp_path / "victim")
    (tmp_path / "victim" / "owner.lock").touch()
    kept = contents(tmp_path / "victim")

    ended = book.take_over(lease) if ttl else lease
    assert ended is not None
    assert book.release(ended)
    assert book.leases() == []
    assert contents(tmp_path / "victim") == kept


def test_secrets_are_never_written_through_a_link(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "state")
    book = LeaseBook(settings)
    lease = book.acquire(Surroundings(), parallel_id="mine")
    (tmp_path / "victim").mkdir()
    for path in lease.secrets_dir.iterdir():
        path.unlink()
    lease.secrets_dir.rmdir()
    lease.secrets_dir.symlink_to(tmp_path / "victim")
    lease.env_file.unlink()

    with pytest.raises(BookError, match="secrets: cannot write the secrets: Not a directory"):
        book.acquire(Surroundings(), parallel_id="mine")
    assert list((tmp_path / "victim").iterdir()) == []
    book.release(lease.id)


def test_a_directory_in_the_way_of_a_new_lease_is_reported_and_stays(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "state")
    book = LeaseBook(settings)
    book.tidy()
    dev = Surroundings(name="dev", data="volume")
    directory = book.acquire(dev).directory
    book.release("dev")
    directory.mkdir()
    (directory / "notes").write_text("mine")

    with pytest.raises(BookError, match=r"leases/dev-\w+: something else has this name; move it away"):
        book.acquire(dev)
    assert contents(directory)["notes"][1] == b"mine"
    assert book.leases() == []


def test_the_notice_is_never_written_through_a_link(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    LeaseBook(settings_of(directory)).release(LeaseBook(settings_of(directory)).acquire(Surroundings()))
    (tmp_path / "victim").write_text("mine")
    for name in ("reaper.json", "reaper.lock", "reaper.log", "turns.lock"):
        (directory / name).symlink_to(tmp_path / "victim")

    Post(directory).tell(Notice(owner="x", code="y", since=0.0))
    for attempt in (take_the_post, open_the_log):
        with pytest.raises(OSError, match="symbolic links"):
            attempt(settings_of(directory))
    with pytest.raises(BookError, match=r"turns\.lock"):
        turn(settings_of(directory)).__enter__()
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_sweep_of_a_book_that_is_not_there_makes_none(tmp_path: Path) -> None:
    class Nothing:
        def everything(self, _labels: list[str]) -> list[object]:
            return []

    book = LeaseBook(settings_of(tmp_path / "state"))

    assert removal.sweep(book, Nothing()).leases == []  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_another_process_marks_meanwhile_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state_directory.prepare(state)
    looks = iter([False])  # the first look comes before the other process's mark
    marked = state_directory.is_marked
    monkeypatch.setattr(state_directory, "is_marked", lambda directory: next(looks, None) is None and marked(directory))

    assert state_directory.check(state)

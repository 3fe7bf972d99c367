"""
The lease book's file: one SQLite database in the state directory, checked before every transaction.

Every transaction takes an ``flock`` and then ``BEGIN IMMEDIATE``. The lock makes waiting short and fair, while SQLite's
own busy handler sleeps; the transaction makes a kill at any moment harmless. A process keeps its connection for its
next transaction, which halves the time that others wait for the lock. It closes the connection if the file was
replaced or anything fails; a fork may neither use nor close it. The journal is a rollback journal, because write-ahead
logs of SQLite 3.7.0 to 3.51.2 have a corruption race. The journal file stays between transactions and is blanked,
because ext4 skips every recently freed inode, one by one, when it makes a new file. Nothing is synced to the disk: a
host that loses power loses the containers of the leases too. So the first transaction after a boot checks the whole
file.

SQLite accepts an empty file, and any other program's database. So the header must show our application id and a known
version before SQLite may open the file. A file that does not, or that SQLite finds broken, is kept next to a new book.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stackyard._util import files, state_directory
from stackyard._util.clocks import Moment
from stackyard.errors import BookError
from stackyard.leases import owners
from stackyard.leases.database import header, schema
from stackyard.leases.database.column_rules import BadRowError
from stackyard.leases.database.header import BrokenError, inode
from stackyard.leases.database.schema import ADDITIONS, KNOWN
from stackyard.leases.database.warn_once import warn
from stackyard.leases.fair_lock import take_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.leases.database.header import Look

T = TypeVar("T")

TRIES: Final = 10  # how often one transaction may find the book broken or deleted
_STATES: Final = ("due", "stacks")
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


_stores: Final[weakref.WeakSet[Store]] = weakref.WeakSet()
# in a fork: kept open, because closing one could undo its parent's work
_inherited: Final[list[Transaction | None]] = []


class Transaction(sqlite3.Connection):
    """
    The open book.

    Attributes:
        undo: Steps that undo, last first, what *work* did to files; called if the transaction fails.
        moment: When the transaction began.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.undo: list[Callable[[], object]] = []
        self.moment = Moment(wall=0.0, steady=0.0, boot="")
        self.text_factory = _text


class Store:
    """
    The file and its lock.

    Args:
        directory: The state directory; made with mode 0700 if missing.
        recover: Fills a new book with what is still known. Called in each transaction until the row ``recovery`` of the
            table ``meta``, whose value it gets, is ``done``.
        fix: Sets aside the wrong rows of an opened book, and returns one line for each fix.
        now: Returns the time.
        read_only: Change nothing on the disk.

    Attributes:
        fixed: Faults of rows that the last transaction found and fixed.
    """

    def __init__(
        self,
        directory: Path,
        recover: Callable[[Transaction, str], None],
        *,
        fix: Callable[[Transaction], list[str]],
        now: Callable[[], Moment],
        read_only: bool = False,
    ) -> None:
        self.directory = directory
        self.read_only = read_only
        self._fix = fix
        self._now = now
        self.file = directory / "book.sqlite3"
        self._journal = directory / "book.sqlite3-journal"
        self._recover = recover
        self._db: Transaction | None = None
        self.fixed: list[str] = []
        self._seen: Look = (0, 0, 0)  # the state of the open file after the last transaction
        _stores.add(self)

    def close(self) -> None:
        """Close the file; the next transaction opens it again."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def __del__(self) -> None:
        self.close()

    def exists(self) -> bool:
        """
        Say whether there is a state directory with a book or parts of one; make nothing.

        Raises:
            BookError: If the state directory cannot be used.
        """
        with self._in_plain_words():
            return state_directory.check(self.directory)

    def run(self, work: Callable[[Transaction], T], *, fresh: bool = False, reading: bool = False) -> T:
        """
        Do *work* in one transaction while no other process uses the book.

        If the book is broken, or deleted during the work, a new one replaces it and *work* runs again. If *work* finds
        a row that it cannot use, the row is set aside and *work* runs again.

        Args:
            work: Gets the open book.
            fresh: Open the file again and read everything.
            reading: *work* only reads, so no state directory is made for it.

        Raises:
            BookError: If the state directory or the book cannot be used.
        """
        if self.read_only and not reading:
            raise BookError(f"{self.file}: is open for reading only")
        if reading and (not self.exists() or self.read_only or not os.access(self.directory, os.W_OK)):
            return self._look_only(work)
        with self.usable(), self._locked():
            if fresh:
                self.close()
            for _ in range(TRIES - 1):
                try:
                    return self._transact(work)
                except BrokenError as error:
                    self._set_aside(str(error))
                except BadRowError:
                    continue  # the next opening sets it aside
            try:
                return self._transact(work)
            except BrokenError as error:
                raise BookError(f"{self.file}: {error}, and the new one is too; check the disk") from None
            except BadRowError as error:
                raise BookError(f"{self.file}: {error}") from None

    def _look_only(self, work: Callable[[Transaction], T]) -> T:
        """Do *work* on a copy in memory, migrated or restored there if needed; write nothing to the disk."""
        with self._in_plain_words():
            try:
                if os.path.lexists(self.file):
                    return self._read(self._copy, work)
            except BrokenError as error:
                warn(self.directory, f"{self.file}: {error}; the next command that writes replaces it")
            return self._read(schema.fill, work)

    def _read(self, fill: Callable[[Transaction], None], work: Callable[[Transaction], T]) -> T:
        """Do *work* on a book in memory that *fill* has filled."""
        book = sqlite3.connect(":memory:", isolation_level=None, factory=Transaction)
        try:
            with contextlib.closing(book):
                fill(book)
                book.execute("BEGIN")
                book.moment = self._now()
                self._log(self._check_content(book, opened=True))
                return work(book)
        except BadRowError as error:
            raise BookError(f"{self.file}: {error}") from None
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _copy(self, target: Transaction) -> None:
        """Copy the book, under its lock if there is one; on a read-only file system no process can take it."""
        with contextlib.ExitStack() as held:
            if os.access(self.directory / "book.lock", os.W_OK):
                held.enter_context(self._locked())
            self._check_header()
            held.enter_context(contextlib.closing(self._open())).backup(target)

    @contextlib.contextmanager
    def usable(self) -> Iterator[None]:
        """
        Make or check the state directory, and turn file errors in the block into BookErrors.

        Raises:
            BookError: If the state directory, or a file within the block, cannot be used.
        """
        if self.read_only:
            raise BookError(f"{self.file}: is open for reading only")
        with self._in_plain_words():
            state_directory.prepare(self.directory)
            yield

    @contextlib.contextmanager
    def _in_plain_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BookError(files.refused(error.filename or self.directory, error)) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.directory / "book.lock"
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                take_lock(handle, path)
                # the lock of a file that was deleted in the meantime locks nothing
                if os.fstat(handle).st_ino == inode(path):
                    yield
                    return
            finally:
                os.close(handle)

    def _transact(self, work: Callable[[Transaction], T]) -> T:
        found = self._made()
        try:
            opened = self._is_to_be_opened(found)
            db = self._connection(opened=opened)
            try:
                db.execute("BEGIN IMMEDIATE")
                db.moment = self._now()
                faults = self._check_content(db, opened=opened)
                result = work(db)
                db.execute("COMMIT")
                self._log(faults)
                self._seen = self._look()
                if self._seen[0] != found[0]:
                    raise BrokenError("deleted while in use")  # noqa: TRY301 - undone like any other failure
            except BaseException as error:
                # Ctrl-C may come right after the commit, which then stays, and the files with it
                undone = db.in_transaction or isinstance(error, sqlite3.Error | BrokenError)
                # closing rolls the book back; the files are undone as far as the disk allows
                self.close()
                for step in reversed(db.undo if undone else []):
                    with contextlib.suppress(OSError, BookError):
                        step()
                raise
        except sqlite3.DatabaseError as error:
            if inode(self.file) != found[0]:
                raise BrokenError("deleted while in use") from None
            raise self._explained(error) from error
        return result

    def _explained(self, error: sqlite3.DatabaseError) -> Exception:
        """Return the error to raise: the file is broken, or it just cannot be used now."""
        broken = getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN
        return BrokenError(str(error)) if broken else BookError(files.refused(self.file, error))

    def _is_to_be_opened(self, found: Look) -> bool:
        """Say whether there is no open book, or it is not the file that was found."""
        seen = self._seen
        # a program changed the file without SQLite's change counter, so SQLite's cache would hide the change
        return self._db is None or found[0] != seen[0] or (found[1] != seen[1] and found[2] == seen[2])

    def _connection(self, *, opened: bool) -> Transaction:
        """Return the book, newly opened if *opened*; call it under the lock only, so that threads take turns too."""
        if opened:
            self.close()
        if self._db is None:
            self._db = self._open()
        self._db.undo.clear()
        return self._db

    def _look(self) -> Look:
        try:
            return header.look(self.file.stat(), header.read(self.file))
        except FileNotFoundError:
            return 0, 0, 0

    def _open(self) -> Transaction:
        if os.path.lexists(self._journal) and not files.is_plain(self._journal):
            raise BookError(f"{self._journal}: must be a plain file that belongs to you; move it away")
        # with mode=rw SQLite does not make a missing file
        name = str(self.file).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        db = sqlite3.connect(
            f"file:{name}?mode=rw", uri=True, timeout=5.0, isolation_level=None, factory=Transaction,
            check_same_thread=False,
        )  # fmt: skip
        for pragma in ("synchronous=OFF", "journal_mode=PERSIST", "foreign_keys=ON"):
            db.execute(f"PRAGMA {pragma}")
        return db

    def _made(self) -> Look:
        """Return the state of the file; make it if it is missing."""
        if not os.path.lexists(self.file):
            self._create()
            return self._look()
        return self._check_header()

    def _check_header(self) -> Look:
        """Check the header before SQLite does, which accepts an empty file and changes one that it then cannot read."""
        return header.check(self.file, half_way=self._is_half_way)

    def _is_half_way(self) -> bool:
        """Say whether a change has begun and not ended; SQLite then undoes it with the journal."""
        try:
            return header.read(self._journal)[:1].strip(b"\0") != b""
        except FileNotFoundError:
            return False

    def _create(self) -> None:
        """Make the book under another name first, so that it is either missing or complete."""
        fresh = self.directory / "book.new"
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        try:
            with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
                schema.fill(connection)
        except sqlite3.DatabaseError as error:
            raise BookError(files.refused(f"{self.file}: cannot be made", error)) from None
        # SQLite would apply the journal of a lost book to the new one
        self._journal.unlink(missing_ok=True)
        fresh.rename(self.file)

    def _check_content(self, db: Transaction, *, opened: bool) -> list[str]:
        """Upgrade and fix the book; return one line for each fault."""
        meta = dict(db.execute("SELECT key, value FROM meta"))
        if "schema" not in meta:
            raise BrokenError("its schema row is missing")
        schema.upgrade(db, schema.version(db, meta["schema"]))
        if meta.get("boot") != owners.boot_id():
            self._begin_boot(db)
        faults = self._fixed_rows(db) if opened else []
        if faults:
            meta = dict(db.execute("SELECT key, value FROM meta"))
        if (state := meta.get("recovery", "done")) != "done":
            self._recover(db, state if state in _STATES else "due")
        return faults

    @staticmethod
    def _begin_boot(db: Transaction) -> None:
        if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise BrokenError(verdict)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (owners.boot_id(),))
        db.execute("UPDATE slots SET rests_until=0")  # the boot-time clock has started again at 0

    def _fixed_rows(self, db: Transaction) -> list[str]:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if missing := KNOWN - tables:
            raise BrokenError(f"its table {min(missing)} is missing")
        for statement in (ADDITIONS[name] for name in ADDITIONS if name not in tables):
            db.execute(statement)
        return self._fix(db)

    def _log(self, faults: list[str]) -> None:
        self.fixed = faults
        for line in faults:
            warn(self.directory, f"{self.file}: {line}")

    def _set_aside(self, why: str) -> None:
        self.close()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        kept = self.file.with_name(f"{self.file.name}.corrupt-{stamp}-{os.urandom(2).hex()}")
        try:
            self.file.rename(kept)
        except FileNotFoundError:
            warn(self.directory, f"{self.file}: {why}; a new one was made from what is still known")
            return
        if self._is_half_way():
            self._journal.rename(kept.with_name(f"{kept.name}-journal"))
        warn(
            self.directory, f"{self.file}: {why}; kept as {kept.name}, and a new one was made from what is still known"
        )


def _text(raw: bytes) -> str | bytes:
    """Return a text of the book; if it is not UTF-8, return bytes, which no rule for a text accepts."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _forget() -> None:
    """Make a fork open the book itself."""
    for store in _stores:
        _inherited.append(store._db)  # noqa: SLF001 - its own module
        store._db = None  # noqa: SLF001 - as above


os.register_at_fork(after_in_child=_forget)

"""
The lease book's file: one SQLite database in the state directory, looked at afresh for every piece of work.

Every piece of work takes an ``flock`` and then a ``BEGIN IMMEDIATE`` transaction. The lock makes waiting short and
fair where SQLite's own busy handler sleeps; the transaction makes a kill at any moment harmless. A connection is kept
for the next piece of work of the same process, which halves the time others wait for the lock; it is given up when the
file is another one, when anything fails, and in a fork, which may neither use nor close it. The journal is a
rollback journal: write-ahead logs of SQLite 3.7.0 to 3.51.2 have a corruption race. Its file stays between
transactions, blanked, because ext4 passes over every file number that was freed within seconds, one by one, when it
makes a new file. Nothing is synced to the disk, because a host that lost power lost the containers the leases were for
too; so the first work after a boot checks the whole file.

An empty file is a valid database to SQLite, and so is anybody else's; so the header must show our application id
and a known version before SQLite may touch the file. One that does not, or that SQLite finds broken, is kept beside
a new book.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import struct
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from stackyard import files, statedir
from stackyard.clocks import Moment
from stackyard.errors import BookError
from stackyard.leases import owners
from stackyard.leases.columns import BadRowError
from stackyard.leases.schema import ADDITIONS, APPLICATION_ID, KNOWN, MIGRATIONS, TABLES, VERSION
from stackyard.leases.turnstile import take_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
_Look: TypeAlias = tuple[int, int, int]  # inode, time of the last change in ns, SQLite's own counter of changes

TRIES: Final = 10  # books that one piece of work may find broken or deleted under it
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100  # bytes
_STATES: Final = ("due", "stacks")
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


_stores: Final[weakref.WeakSet[Store]] = weakref.WeakSet()
_inherited: Final[list[Transaction | None]] = []  # in a fork: kept, because closing one could undo its parent's work


class _BrokenError(Exception):
    """The file is not a lease book any more; says why."""


class Transaction(sqlite3.Connection):
    """
    The open book.

    Attributes:
        undo: Takes back, last first, what *work* did to files; called if the transaction fails.
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
        recover: Fills a new book with what is still known. Called within each piece of work until the row
            ``recovery`` of the table ``meta``, whose value it is given, says ``done``.
        mend: Sets aside the rows of an opened book that nobody wrote so, and returns a line on each thing it mended.
        now: Tells the time.
        read_only: Change nothing on the disk, whatever state the book is in.

    Attributes:
        mended: What the last piece of work found to be wrong with the rows, and mended.
    """

    def __init__(
        self,
        directory: Path,
        recover: Callable[[Transaction, str], None],
        *,
        mend: Callable[[Transaction], list[str]],
        now: Callable[[], Moment],
        read_only: bool = False,
    ) -> None:
        self.directory = directory
        self.read_only = read_only
        self._mend = mend
        self._now = now
        self.file = directory / "book.sqlite3"
        self._journal = directory / "book.sqlite3-journal"
        self._recover = recover
        self._db: Transaction | None = None
        self.mended: list[str] = []
        self._seen: _Look = (0, 0, 0)  # what the open file looked like after the last work
        _stores.add(self)

    def close(self) -> None:
        """Close the file; the next piece of work opens it again."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def __del__(self) -> None:
        self.close()

    def exists(self) -> bool:
        """
        Say whether there is a state directory, with a book or what is left of one; nothing is made.

        Raises:
            BookError: If the state directory cannot be used.
        """
        with self._in_plain_words():
            return statedir.check(self.directory)

    def run(self, work: Callable[[Transaction], T], *, fresh: bool = False, reading: bool = False) -> T:
        """
        Do *work* in one transaction, alone on this host.

        A book found broken, or deleted under the work, is replaced by a new one, and *work* done again there. A row
        that *work* could not use is set aside, and *work* done again too.

        Args:
            work: Is given the open book.
            fresh: Read everything from the file again.
            reading: *work* changes nothing, so that no state directory is made for it.

        Raises:
            BookError: If the state directory or the book cannot be used.
        """
        if self.read_only and not reading:
            raise BookError(f"{self.file}: was opened for reading only")
        if reading and (not self.exists() or self.read_only):
            return self._look_only(work)
        with self.usable(), self._locked():
            if fresh:
                self.close()
            for _ in range(TRIES - 1):
                try:
                    return self._transact(work)
                except _BrokenError as error:
                    self._set_aside(str(error))
                except BadRowError:
                    continue  # it is set aside when the book is opened again
            try:
                return self._transact(work)
            except _BrokenError as error:
                raise BookError(f"{self.file}: {error}, and so is the new one; check the disk") from None
            except BadRowError as error:
                raise BookError(f"{self.file}: {error}") from None

    def _look_only(self, work: Callable[[Transaction], T]) -> T:
        """Do *work* on a copy in memory, migrated or recovered there if need be; the disk is not written to."""
        with self._in_plain_words():
            try:
                if os.path.lexists(self.file):
                    return self._read(self._copy, work)
            except _BrokenError as error:
                _warn("%s: %s; the next command that writes sets it aside", self.file, error)
            return self._read(_fill, work)

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
        """Copy the book, under its lock if that is there."""
        with contextlib.ExitStack() as held:
            if os.path.lexists(self.directory / "book.lock"):
                held.enter_context(self._locked())
            self._check_header()
            held.enter_context(contextlib.closing(self._open())).backup(target)

    @contextlib.contextmanager
    def usable(self) -> Iterator[None]:
        """
        Make or check the state directory, and put the file errors of the block into plain words.

        Raises:
            BookError: If the state directory, or a file within the block, cannot be used.
        """
        if self.read_only:
            raise BookError(f"{self.file}: was opened for reading only")
        with self._in_plain_words():
            statedir.prepare(self.directory)
            yield

    @contextlib.contextmanager
    def _in_plain_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BookError(f"{error.filename or self.directory}: {error.strerror or error}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.directory / "book.lock"
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                take_lock(handle, path)
                # the lock of a file that was deleted meanwhile keeps nobody out
                if os.fstat(handle).st_ino == _inode(path):
                    yield
                    return
            finally:
                os.close(handle)

    def _transact(self, work: Callable[[Transaction], T]) -> T:
        found = self._made()
        inode = found[0]
        try:
            opened = self._is_to_be_opened(found)
            db = self._connection(opened=opened)
            try:
                db.execute("BEGIN IMMEDIATE")
                db.moment = self._now()
                told = self._check_content(db, opened=opened)
                result = work(db)
                db.execute("COMMIT")
                self._log(told)
                self._seen = self._look()
                if self._seen[0] != inode:
                    raise _BrokenError("deleted while in use")  # noqa: TRY301 - undone like any other failure
            except BaseException:
                # closing rolls the book back; the files have to be told, as far as the disk lets us
                self.close()
                for step in reversed(db.undo):
                    with contextlib.suppress(OSError, BookError):
                        step()
                raise
        except sqlite3.DatabaseError as error:
            if _inode(self.file) != inode:
                raise _BrokenError("deleted while in use") from None
            raise self._explained(error) from error
        return result

    def _explained(self, error: sqlite3.DatabaseError) -> Exception:
        """Return what to raise: whether the file is broken, or just cannot be used now."""
        broken = getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN
        return _BrokenError(str(error)) if broken else BookError(f"{self.file}: {error}")

    def _is_to_be_opened(self, found: _Look) -> bool:
        """Say whether there is no open book, or it is not the file that was found."""
        seen = self._seen
        # written, but not by a program that counts changes as SQLite does: what is cached would hide it
        return self._db is None or found[0] != seen[0] or (found[1] != seen[1] and found[2] == seen[2])

    def _connection(self, *, opened: bool) -> Transaction:
        """Return the book, *opened* now; only ever called under the lock, so that threads take turns with it too."""
        if opened:
            self.close()
        if self._db is None:
            self._db = self._open()
        self._db.undo.clear()
        return self._db

    def _look(self) -> _Look:
        try:
            return _looks(self.file.stat(), _head(self.file))
        except FileNotFoundError:
            return 0, 0, 0

    def _open(self) -> Transaction:
        if os.path.lexists(self._journal) and not files.is_plain(self._journal):
            raise BookError(f"{self._journal}: must be a plain file of your own; move it away")
        # SQLite would make a missing file; in this form it does not
        name = str(self.file).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        db = sqlite3.connect(
            f"file:{name}?mode=rw", uri=True, timeout=5.0, isolation_level=None, factory=Transaction,
            check_same_thread=False,
        )  # fmt: skip
        for pragma in ("synchronous=OFF", "journal_mode=PERSIST", "foreign_keys=ON"):
            db.execute(f"PRAGMA {pragma}")
        return db

    def _made(self) -> _Look:
        """Look at the file, made if it is missing."""
        if not os.path.lexists(self.file):
            self._create()
            return self._look()
        return self._check_header()

    def _check_header(self) -> _Look:
        """Look before SQLite does: it would take an empty file for a book, and change one it then cannot read."""
        found = self.file.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise BookError(f"{self.file}: the lease book must be a plain file of your own; move this one away")
        header = _head(self.file)
        if len(header) < _HEADER or not header.startswith(_MAGIC):
            raise _BrokenError("not a database")
        version, application = struct.unpack(">I4xI", header[60:72])
        if application != APPLICATION_ID:
            raise _BrokenError("a database, but not a lease book")
        if version > VERSION:
            raise BookError(
                f"{self.file}: written by a newer stackyard (schema {version}, this one knows up to {VERSION}); "
                "upgrade this one, or give it another STACKYARD_STATE_DIR"
            )
        pages, size = struct.unpack(">I", header[28:32])[0], struct.unpack(">H", header[16:18])[0]
        if pages * (65536 if size == 1 else size) != found.st_size and not self._is_half_way():
            raise _BrokenError(f"cut off: {found.st_size} bytes of {pages * size}")
        return _looks(found, header)

    def _is_half_way(self) -> bool:
        """Say whether a change has begun and not ended; then SQLite will undo it, by the journal."""
        try:
            return _head(self._journal)[:1].strip(b"\0") != b""
        except FileNotFoundError:
            return False

    def _create(self) -> None:
        """Make the book under another name, so that it is either not there or whole."""
        fresh = self.directory / "book.new"
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        try:
            connection = sqlite3.connect(fresh, isolation_level=None)
        except sqlite3.DatabaseError as error:
            raise BookError(f"{self.file}: cannot be made: {error}") from None
        try:
            _fill(connection)
        except sqlite3.DatabaseError as error:
            raise BookError(f"{self.file}: cannot be made: {error}") from None
        finally:
            connection.close()
        # a journal left by a lost book would be played into the new one
        self._journal.unlink(missing_ok=True)
        fresh.rename(self.file)

    def _check_content(self, db: Transaction, *, opened: bool) -> list[str]:
        """Bring the book up to date and mend it; return a line for each thing that was wrong."""
        meta = dict(db.execute("SELECT key, value FROM meta"))
        if "schema" not in meta:
            raise _BrokenError("its schema row is missing")
        self._migrate(db, _version(db, meta["schema"]))
        if meta.get("boot") != owners.boot_id():
            self._begin_boot(db)
        told = self._mended(db) if opened else []
        if told:
            meta = dict(db.execute("SELECT key, value FROM meta"))
        if (state := meta.get("recovery", "done")) != "done":
            self._recover(db, state if state in _STATES else "due")
        return told

    @staticmethod
    def _begin_boot(db: Transaction) -> None:
        if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _BrokenError(verdict)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (owners.boot_id(),))
        db.execute("UPDATE slots SET rests_until=0")  # the clock they rest by has begun again

    def _mended(self, db: Transaction) -> list[str]:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if missing := KNOWN - tables:
            raise _BrokenError(f"its table {min(missing)} is missing")
        for statement in (ADDITIONS[name] for name in ADDITIONS if name not in tables):
            db.execute(statement)
        return self._mend(db)

    def _log(self, told: list[str]) -> None:
        self.mended = told
        for line in told:
            _warn("%s: %s", self.file, line)

    @staticmethod
    def _migrate(connection: Transaction, version: int) -> None:
        for step in range(version, VERSION):
            for statement in MIGRATIONS[step].split(";"):
                connection.execute(statement)
            connection.execute("UPDATE meta SET value=? WHERE key='schema'", (str(step + 1),))
            connection.execute(f"PRAGMA user_version={step + 1}")

    def _set_aside(self, why: str) -> None:
        self.close()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        kept = self.file.with_name(f"{self.file.name}.corrupt-{stamp}-{os.urandom(2).hex()}")
        try:
            self.file.rename(kept)
        except FileNotFoundError:
            _warn("%s: %s; made anew from what is still known", self.file, why)
            return
        if self._is_half_way():
            self._journal.rename(kept.with_name(f"{kept.name}-journal"))
        _warn("%s: %s; kept as %s, and made anew from what is still known", self.file, why, kept.name)


def _fill(connection: sqlite3.Connection) -> None:
    """Make a new book's tables."""
    connection.executescript(
        f"PRAGMA synchronous=OFF; BEGIN; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION};"
        f"{TABLES} COMMIT;"
    )
    for statement in ADDITIONS.values():
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('schema', ?), ('recovery', 'due')", (str(VERSION),))


def _version(db: Transaction, told: object) -> int:
    """Return the schema's version: what the book tells, where that can be, else what its tables show."""
    header = db.execute("PRAGMA user_version").fetchone()[0]
    if told == str(header) and 1 <= header <= VERSION:
        return int(header)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    if "warm" in tables:
        version = 3
    else:
        version = 2 if any(row[1] == "memory_mb" for row in db.execute("PRAGMA table_info(leases)")) else 1
    db.execute("UPDATE meta SET value=? WHERE key='schema'", (str(version),))
    db.execute(f"PRAGMA user_version={version}")
    return version


def _text(raw: bytes) -> str | bytes:
    """Return a text of the book; one that is no UTF-8 comes as bytes, which no rule for a text accepts."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _warn(text: str, *values: object) -> None:
    import logging  # noqa: PLC0415 - takes longer to import than a lease to be granted, and is hardly ever needed

    logging.getLogger("stackyard").warning(text, *values)


def _forget() -> None:
    """Let a fork open the book for itself."""
    for store in _stores:
        _inherited.append(store._db)  # noqa: SLF001 - its own module
        store._db = None  # noqa: SLF001 - as above


os.register_at_fork(after_in_child=_forget)


def _inode(path: Path) -> int:
    """Return the inode of *path*; 0 if it is gone."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return 0


def _looks(found: os.stat_result, header: bytes) -> _Look:
    return found.st_ino, found.st_mtime_ns, int.from_bytes(header[24:28], "big")


def _head(file: Path) -> bytes:
    handle = files.open_plain(file, os.O_RDONLY)
    try:
        return os.read(handle, _HEADER)
    finally:
        os.close(handle)

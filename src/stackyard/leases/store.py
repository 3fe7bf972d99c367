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

from stackyard.errors import BookError
from stackyard.leases import owners
from stackyard.leases.schema import APPLICATION_ID, MIGRATIONS, TABLES, VERSION
from stackyard.leases.turnstile import take_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
_Look: TypeAlias = tuple[int, int, int]  # inode, time of the last change in ns, SQLite's own counter of changes

TRIES: Final = 10  # books that one piece of work may find broken or deleted under it
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100  # bytes
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
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.undo: list[Callable[[], object]] = []


class Store:
    """
    The file and its lock.

    Args:
        directory: The state directory; made with mode 0700 if missing.
        recover: Fills a new book with what is still known. Called within each piece of work until the row
        ``recovery``
            of the table ``meta``, whose value it is given, says ``done``.
    """

    def __init__(self, directory: Path, recover: Callable[[sqlite3.Connection, str], None]) -> None:
        self.directory = directory
        self.file = directory / "book.sqlite3"
        self._journal = directory / "book.sqlite3-journal"
        self._recover = recover
        self._db: Transaction | None = None
        self._seen: _Look = (0, 0, 0)  # what the open file looked like after the last work
        _stores.add(self)

    def close(self) -> None:
        """Close the file; the next piece of work opens it again."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def __del__(self) -> None:
        self.close()

    def run(self, work: Callable[[Transaction], T], *, fresh: bool = False) -> T:
        """
        Do *work* in one transaction, alone on this host.

        A book found broken, or deleted under the work, is replaced by a new one, and *work* done again there.

        Args:
            work: Is given the open book.
            fresh: Read everything from the file again.

        Raises:
            BookError: If the state directory or the book cannot be used.
        """
        with self.usable(), self._locked():
            if fresh:
                self.close()
            for _ in range(TRIES - 1):
                try:
                    return self._transact(work)
                except _BrokenError as error:
                    self._set_aside(str(error))
            try:
                return self._transact(work)
            except _BrokenError as error:
                raise BookError(f"{self.file}: {error}, and so is the new one; check the disk") from None

    @contextlib.contextmanager
    def usable(self) -> Iterator[None]:
        """
        Make or check the state directory, and put the file errors of the block into plain words.

        Raises:
            BookError: If the state directory, or a file within the block, cannot be used.
        """
        try:
            self._prepare()
            yield
        except OSError as error:
            raise BookError(f"{error.filename or self.directory}: {error.strerror or error}") from None

    def _prepare(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(mode=0o700, parents=True)
        found = self.directory.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise BookError(f"{self.directory}: the state directory must be a directory, not a link or file")
        if found.st_uid != os.geteuid():
            raise BookError(
                f"{self.directory}: the state directory belongs to user {found.st_uid}, not to {os.geteuid()}; "
                "set STACKYARD_STATE_DIR to a directory of your own"
            )
        if found.st_mode & 0o022:
            raise BookError(
                f"{self.directory}: others may write to the state directory (mode {stat.S_IMODE(found.st_mode):04o}); "
                f"run: chmod 700 {self.directory}"
            )

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
        found = self._check_header()
        inode = found[0]
        try:
            db = self._connection(found)
            try:
                db.execute("BEGIN IMMEDIATE")
                self._check_content(db)
                result = work(db)
                db.execute("COMMIT")
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
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
                raise _BrokenError(str(error)) from None
            raise BookError(f"{self.file}: {error}") from error
        return result

    def _connection(self, found: _Look) -> Transaction:
        """Return the open book; only ever called under the lock, so that threads take turns with it too."""
        seen = self._seen
        # written, but by nobody who counts changes as SQLite does: what is cached would hide it
        if found[0] != seen[0] or (found[1] != seen[1] and found[2] == seen[2]):
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
        # SQLite would make a missing file; in this form it does not
        name = str(self.file).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        db = sqlite3.connect(
            f"file:{name}?mode=rw", uri=True, timeout=5.0, isolation_level=None, factory=Transaction,
            check_same_thread=False,
        )  # fmt: skip
        for pragma in ("synchronous=OFF", "journal_mode=PERSIST", "foreign_keys=ON"):
            db.execute(f"PRAGMA {pragma}")
        return db

    def _check_header(self) -> _Look:
        """Look before SQLite does: it would take an empty file for a book, and change one it then cannot read."""
        try:
            found = self.file.lstat()
        except FileNotFoundError:
            self._create()
            return self._look()
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
            connection.executescript(
                f"PRAGMA synchronous=OFF; BEGIN; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION};"
                f"{TABLES} COMMIT;"
            )
            connection.execute("INSERT INTO meta VALUES ('schema', ?), ('recovery', 'due')", (str(VERSION),))
        except sqlite3.DatabaseError as error:
            raise BookError(f"{self.file}: cannot be made: {error}") from None
        finally:
            connection.close()
        # a journal left by a lost book would be played into the new one
        self._journal.unlink(missing_ok=True)
        fresh.rename(self.file)

    def _check_content(self, connection: sqlite3.Connection) -> None:
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        if "schema" not in meta:
            raise _BrokenError("its schema row is missing")
        self._migrate(connection, int(meta["schema"]))
        if meta.get("boot") != owners.boot_id():
            if (verdict := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise _BrokenError(verdict)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (owners.boot_id(),))
        if (state := meta.get("recovery", "done")) != "done":
            self._recover(connection, state)

    @staticmethod
    def _migrate(connection: sqlite3.Connection, version: int) -> None:
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
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, _HEADER)
    finally:
        os.close(handle)

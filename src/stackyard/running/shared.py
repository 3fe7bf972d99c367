"""
One stack for several processes of one run, such as the workers of pytest-xdist.

A process of its own, the keeper, starts the stack and owns its lease. So a worker that is killed takes nothing from the
others, and the stack is removed when the run's main process ends, in whatever way. The processes of a run meet in a
folder that the main process names; the first one that wants a stack makes it. A keeper listens there on a Unix socket.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock

from stackyard._util import files, json_text, process
from stackyard.errors import StackyardError
from stackyard.leases.owners import start_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.running.stack_description import StackDescription

STARTED: Final = 30.0  # seconds until a new keeper listens
POLL: Final = 0.02
FOLDER: Final = re.compile(r"stackyard-run-[1-9][0-9]*-[0-9a-f]{16}")  # a user who may write there chooses other names
IN_USE: Final = "in-use"  # each process of a run shares a lock on this file of its folder
NOT_THERE: Final = (FileNotFoundError, ConnectionRefusedError)
_HELD: Final[dict[str, int]] = {}  # the locked file of each folder that this process uses


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    One run of several processes.

    Attributes:
        folder: Where they meet: ``stackyard-run-PID-`` and a random word, in the folder for temporary files.
        pid: The main process; its stacks end with it.
    """

    folder: str
    pid: int

    def use(self) -> Path:
        """
        Note that a process of the run wants a stack; return the folder, which only this user can read.

        Raises:
            StackyardError: If the folder cannot be made.
        """
        folder = Path(self.folder)
        if self.folder not in _HELD:
            if not folder.exists():
                _forget_killed(folder.parent)
            _HELD[self.folder] = hold(folder)
        return folder

    @contextlib.contextmanager
    def share(self, wanted: StackDescription) -> Iterator[Any]:
        """
        Give the run's stack of this kind to a `with` block; the first process has it started, the others wait.

        Raises:
            StackyardError: If it cannot start.
        """
        from stackyard.docker import Engine
        from stackyard.docker.lease_book import open_book
        from stackyard.running.stack import Stack
        from stackyard.settings import Settings
        from stackyard.stacks.copies.lifecycle import Copy
        from stackyard.stacks.environments.stack import Stack as PlatformStack
        from stackyard.stacks.starts.times import Startup

        answer = self._stack(self.use() / wanted.key, wanted)
        with Engine() as engine:
            if "swarm" in answer:
                from stackyard.running.swarm_stack import SwarmStack

                yield SwarmStack.attached(engine, answer)
                return
            book = open_book(Settings.load({**os.environ, "STACKYARD_STATE_DIR": answer["state"]}), engine)
            lease = book.find(answer["lease"])
            if wanted.environment:
                yield PlatformStack.of(lease, book, engine)
            else:
                startup = Startup(seconds=answer["seconds"], by="none: another process started it")
                yield Stack(Copy(lease, book, engine, startup=startup))

    def _stack(self, base: Path, wanted: StackDescription) -> dict[str, Any]:
        with FileLock(base.with_suffix(".lock")):
            if not _listens(base):
                self._start(base, wanted)
        answer = ask(base, "stack")
        if "error" in answer:
            raise StackyardError(answer["error"])
        return answer

    def _start(self, base: Path, wanted: StackDescription) -> None:
        """
        Start the keeper of a stack, and wait until it listens.

        Raises:
            StackyardError: If it does not.
        """
        asked = {"pid": self.pid, "ticks": start_ticks(self.pid) or 0, "wanted": asdict(wanted)}
        base.with_suffix(".json").write_text(json.dumps(asked), encoding="utf-8")
        log = base.with_suffix(".log")
        with log.open("wb") as output:
            words = [sys.executable, "-m", "stackyard.running.keeper", str(base)]
            process.detach(words, output=output.fileno(), env=os.environ)
        end = time.monotonic() + STARTED
        while not _listens(base):
            if time.monotonic() > end:
                raise StackyardError(f"the process that keeps the stack of this run did not start: {_last_line(log)}")
            time.sleep(POLL)

    def is_first_failure(self, wanted: StackDescription) -> bool:
        """Say whether no other process has asked this about the same stack."""
        return bool(ask(Path(self.folder) / wanted.key, "failure").get("first"))

    def end(self) -> list[str]:
        """
        Have every stack of the run removed.

        Returns:
            What could not be removed.
        """
        left = []
        for path in sorted(Path(self.folder).glob("*.sock")):
            with contextlib.suppress(StackyardError):  # it has ended already, and its lease with it
                left += ask(path.with_suffix(""), "end").get("left", [])
        shutil.rmtree(self.folder, ignore_errors=True)
        return left


def hold(folder: Path) -> int:
    """
    Make *folder* and use it until this process ends, in whatever way; return the locked file.

    Raises:
        StackyardError: If it cannot be made.
    """
    while True:
        try:
            files.make_folder(folder)
            handle = _open(folder)
        except OSError as error:
            raise StackyardError(f"{folder}: {error.strerror}; TMPDIR can name another place for it") from None
        if handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            if os.fstat(handle).st_nlink:
                return handle
            os.close(handle)  # another run has removed the folder in the meantime


def _open(folder: Path) -> int | None:
    """Open the file that a run's processes lock; None if the folder has just been removed."""
    with contextlib.suppress(FileNotFoundError):
        return files.open_plain(folder / IN_USE, os.O_RDONLY | os.O_CREAT)
    return None


def _forget_killed(place: Path) -> None:
    """Remove the folders of runs of which no process is left, in whatever container it ran."""
    for folder in place.glob("stackyard-run-*"):
        if FOLDER.fullmatch(folder.name) and files.is_folder(folder):
            with contextlib.suppress(OSError):  # it is in use, or no process has used it
                _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    handle = files.open_plain(folder / IN_USE, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.remove_tree(folder, last=IN_USE)
    finally:
        os.close(handle)


def ask(base: Path, what: str) -> dict[str, Any]:
    """
    Ask a keeper: for its ``stack``, whether a ``failure`` is the first one, or for its ``end``.

    Raises:
        StackyardError: If it is not there, or ends before it answers.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line, near(base) as path:
            line.connect(path)
            line.sendall(f"{what}\n".encode())
            text = b"".join(iter(lambda: line.recv(65536), b""))
    except OSError:
        text = b""
    try:
        answer: dict[str, Any] = json_text.read(text)
    except ValueError:  # of a keeper that ends in the midst of it, too
        why = _last_line(base.with_suffix(".log"))
        raise StackyardError(f"the process that keeps the stack of this run has ended: {why}") from None
    return answer


def _listens(base: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as line, near(base) as path:
            line.connect(path)
    except NOT_THERE:
        return False
    return True


@contextlib.contextmanager
def near(base: Path) -> Iterator[str]:
    """Return a short name of the socket: the kernel takes at most 107 bytes."""
    folder = os.open(base.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{base.name}.sock"
    finally:
        os.close(folder)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

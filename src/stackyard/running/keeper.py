"""
The process that keeps the stack of one run: `python -m stackyard.running.keeper FOLDER/KEY`, started by `shared`.

It removes the stack and ends when it is asked to, or when the run's main process has ended. If this happens during the
start, it breaks the start off, as Ctrl-C does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard.errors import StackyardError
from stackyard.leases.owners import Owner, start_ticks
from stackyard.running.shared import hold, near

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_REQUEST_BYTES: Final = 100
SIGNAL_CHECK_S: Final = 1.0  # seconds between two checks for a signal
RESEND_SIGNAL_S: Final = 0.1  # seconds until a signal is sent again
REQUEST_TIMEOUT_S: Final = 10.0  # seconds to wait for a request


class Keeper:
    """
    The keeper of one stack.

    Args:
        base: Path of its files, without their endings.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._asked: dict[str, Any] = json.loads(base.with_suffix(".json").read_text(encoding="utf-8"))
        self._answer: dict[str, Any] = {"error": "the run has ended"}
        self._ready, self._interrupted = threading.Event(), threading.Event()
        self._end_event = os.eventfd(0, os.EFD_CLOEXEC)  # a signal handler may write to it, whatever the program does
        self._early_end_event = os.eventfd(0, os.EFD_CLOEXEC)
        self._failures = 0
        self._orphaned = False
        self._not_removed: list[str] = []
        self._ends: list[socket.socket] = []

    def run(self) -> None:
        """Keep the stack until the run ends."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._request_end())
        signal.signal(signal.SIGUSR2, lambda *_: None)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        breaking = threading.Thread(target=self._interrupt, daemon=True)
        with self._bound() as listener:
            with contextlib.suppress(KeyboardInterrupt):  # the end came before the stack was ready
                breaking.start()
                for work in (self._watch, lambda: self._accept_connections(listener)):
                    threading.Thread(target=work, daemon=True).start()
                self._keep()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._interrupted.set()
            os.eventfd_write(self._early_end_event, 1)
            breaking.join()  # its signal must not come later
            with contextlib.suppress(StackyardError):
                _release()
            self._ready.set()
            for line in self._ends:
                _send(line, {"left": self._not_removed})
        if self._orphaned:
            shutil.rmtree(self._base.parent, ignore_errors=True)

    def _keep(self) -> None:
        """Start the stack, wait for the end, and remove it."""
        from stackyard.running.stack_description import StackDescription

        asked = self._asked["wanted"]
        wanted = StackDescription(**{**asked, "files": tuple(asked["files"]), "profiles": tuple(asked["profiles"])})
        try:
            with wanted.run(print) as stack:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                self._interrupted.set()
                self._publish_answer(_described(stack))
        except StackyardError as error:
            if self._ready.is_set():
                self._not_removed = [str(error)]
            else:
                self._publish_answer({"error": str(error)})

    def _publish_answer(self, answer: dict[str, Any]) -> None:
        """Answer every request with *answer*, until the end."""
        self._answer = answer
        self._ready.set()
        while not select.select([self._end_event], [], [], SIGNAL_CHECK_S)[0]:
            pass  # a signal that another thread got is handled between two looks

    def _request_end(self) -> None:
        os.eventfd_write(self._end_event, 1)
        if not self._ready.is_set():
            os.eventfd_write(self._early_end_event, 1)

    def _interrupt(self) -> None:
        """Break off the start once, if the end is requested before the stack is ready; a thread runs this."""
        os.eventfd_read(self._early_end_event)
        main = threading.main_thread().ident or 0
        if not self._interrupted.is_set():
            signal.pthread_kill(main, signal.SIGINT)
        while not self._interrupted.wait(RESEND_SIGNAL_S):
            # a system call that began between the signal and its handler goes on until another signal comes
            signal.pthread_kill(main, signal.SIGUSR2)

    def _watch(self) -> None:
        """Request the end when the main process ends; a thread runs this."""
        pid = self._asked["pid"]
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            if start_ticks(pid) == self._asked["ticks"]:
                select.select([handle], [], [])
        self._orphaned = True
        self._request_end()

    @contextlib.contextmanager
    def _bound(self) -> Iterator[socket.socket]:
        path = self._base.with_suffix(".sock")
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            with near(self._base) as name:
                listener.bind(name)
            listener.listen(64)
            try:
                yield listener
            finally:
                path.unlink(missing_ok=True)
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a connection

    def _accept_connections(self, listener: socket.socket) -> None:
        """Accept connections and answer each in a thread of its own; a thread runs this."""
        with contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        """Answer one request; a thread runs this."""
        line.settimeout(REQUEST_TIMEOUT_S)
        try:
            asked = line.recv(MAX_REQUEST_BYTES).decode(errors="replace").strip()
        except OSError:
            asked = ""
        if asked == "end":
            self._ends.append(line)
            self._request_end()
            return
        if asked == "stack":
            self._ready.wait()
            _send(line, self._answer)
        elif asked == "failure":
            self._failures += 1
            _send(line, {"first": self._failures == 1})
        line.close()


def _send(line: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        line.sendall(json.dumps(answer).encode())
        line.close()


def _described(stack: Any) -> dict[str, Any]:
    """Return what another process needs to use *stack*."""
    if hasattr(stack, "described"):
        found: dict[str, Any] = stack.described()
        return found
    state = str(stack.lease.directory.parent.parent)
    return {"lease": stack.lease.id, "state": state, "seconds": getattr(stack, "seconds", 0.0)}


def _release() -> None:
    """Remove what this process still has a lease for, after a start that was broken off at the last moment."""
    from stackyard.cleanup import removal
    from stackyard.docker import Engine
    from stackyard.docker.lease_book import open_book
    from stackyard.docker.swarm import Swarm
    from stackyard.sites import Site
    from stackyard.sites.swarm.removal import release_own

    with Engine() as engine:
        if Site.find().kind == "swarm":
            release_own(Swarm(engine))
            return
        book = open_book(None, engine)
        for lease in book.leases():
            if lease.owner == Owner.current():
                removal.remove_lease(book, engine, lease)


if __name__ == "__main__":
    hold(Path(sys.argv[1]).parent)
    Keeper(Path(sys.argv[1])).run()

"""What Compose has asked the engine for, and what the engine makes only after Compose was ended."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest
from tests.faults.fault_host import CLEAN, until

from stackyard.errors import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.fault_host import Yard

    from stackyard.stacks.environments.stack import Stack

CREATE: Final = b"/containers/create?"


class HoldingProxy:
    """
    A way to the engine on which each request to make a container waits until `released` is set.

    `asked` is set once one waits, `gone` once a client that has asked for one is gone.
    """

    def __init__(self, path: Path, engine: str) -> None:
        self.asked, self.gone, self.released = threading.Event(), threading.Event(), threading.Event()
        self._engine = engine
        self._lines: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Let all go on, let no other in, and close every line once its threads have ended."""
        self.released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        for line in self._lines:
            with contextlib.suppress(OSError):  # its other end is gone
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:  # a thread adds the one that waits for its client to go
            thread.join()
        for line in (self._listener, *self._lines):
            line.close()

    def release_when_gone(self) -> None:
        """Let all go on once a client that has asked is gone."""
        self.gone.wait()
        self.released.set()

    def _start(self, work: Callable[..., None], *lines: socket.socket) -> None:
        thread = threading.Thread(target=work, args=lines, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                self._lines += [client, engine]
                engine.connect(self._engine)
                self._start(self._ask, client, engine)
                self._start(self._answer, engine, client)

    def _ask(self, client: socket.socket, engine: socket.socket) -> None:
        creates = False
        with contextlib.suppress(OSError):  # the engine is gone, or the proxy is closed
            while sent := _received(client):
                if CREATE in sent:
                    creates = True
                    self.asked.set()
                    self._start(self._notice, client)
                    self.released.wait()
                engine.sendall(sent)
            if not creates:
                engine.shutdown(socket.SHUT_RDWR)

    def _notice(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(1, socket.MSG_PEEK):  # the rest of its request stays for the engine
                time.sleep(0.05)
        self.gone.set()

    def _answer(self, engine: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while got := _received(engine):
                with contextlib.suppress(OSError):  # the client is gone; the engine is listened to all the same
                    client.sendall(got)
            client.shutdown(socket.SHUT_RDWR)


def _received(line: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return line.recv(1 << 16)
    return b""


@pytest.fixture
def proxy(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HoldingProxy]:
    """Let Compose, which does the start, reach the engine through a proxy."""
    path = tmp_path / "proxy.sock"
    made = HoldingProxy(path, yard.engine.endpoint.url.removeprefix("unix://"))
    monkeypatch.setenv("STACKYARD_START", "compose")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    yield made
    made.close()


def fail(stack: Stack, proxy: HoldingProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the start of *stack* fail as soon as Compose has asked for a container."""
    monkeypatch.setattr(stack, "_trouble", lambda: "a container was asked for" if proxy.asked.is_set() else None)
    with pytest.raises(NotReadyError, match="a container was asked for"):
        stack.up(deadline=240)


@pytest.mark.core
def test_containers_that_come_long_after_compose_was_ended_keep_the_lease_and_are_removed(
    yard: Yard, proxy: HoldingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = yard.stack()
    fail(stack, proxy, monkeypatch)

    early = stack.down()
    proxy.released.set()
    wanted = {item.name for item in early.left}
    until(lambda: wanted <= {item.name for item in stack.containers()})
    outcome = stack.down()

    assert {item.kind for item in early.left} == {"container"}
    assert early.leases == []
    assert (outcome.left, outcome.leases) == ([], [stack.lease.id])
    assert yard.remains() == CLEAN


@pytest.mark.core
def test_containers_that_come_soon_after_compose_was_ended_are_removed_with_the_rest(
    yard: Yard, proxy: HoldingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = yard.stack()
    threading.Thread(target=proxy.release_when_gone, daemon=True).start()
    fail(stack, proxy, monkeypatch)

    outcome = stack.down()

    assert (outcome.left, outcome.leases) == ([], [stack.lease.id])
    assert yard.remains() == CLEAN

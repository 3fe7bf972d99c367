"""New lines of the services of a stack, as they come."""

from __future__ import annotations

import contextlib
import datetime as dt
import queue
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from stackyard._util import streams
from stackyard.docker.logs import LogStream
from stackyard.errors import EngineError, RefusedError
from stackyard.stacks.logs import Line, read, service_of, text

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from stackyard.stacks.stack import Stack

PAUSE: Final = 0.5  # seconds between two looks for a container that runs again
RESTART: Final = 3.0  # seconds without a running container after which no restart is under way
MOST: Final = 10_000  # lines that wait to be printed; then the engine waits
RUNS: Final = frozenset({"running", "paused"})


class _Ended(NamedTuple):
    """
    The log of a container has come to its end.

    Attributes:
        container: Its id.
        error: Why, if the engine is at fault.
    """

    container: str
    error: EngineError | None


class Following:
    """
    The logs of *services*, of all without one, each read by a thread of its own.

    A container that is restarted or made again while another one runs is followed from then on.

    Args:
        stack: Their stack.
        services: Which of its services.
        shown: The lines that were printed before; these are left out.
    """

    def __init__(self, stack: Stack, services: Sequence[str], shown: Sequence[Line] = ()) -> None:
        self._stack = stack
        self._services = services
        self._last = {line.service: line.at for line in sorted(shown)}
        self._streams: dict[str, LogStream] = {}
        self._came: queue.Queue[Line | _Ended] = queue.Queue(MOST)
        self._over = threading.Event()
        self._next_look = 0.0

    def lines(self) -> Generator[Line]:
        """
        Give each new line, until no container has been running for a few seconds.

        Raises:
            EngineError: If the engine stops answering.
        """
        try:
            self._look()
            until = time.monotonic()
            while self._streams or time.monotonic() < until:
                if time.monotonic() >= self._next_look:
                    self._look()
                with contextlib.suppress(queue.Empty):
                    came = self._came.get(timeout=PAUSE)
                    if isinstance(came, Line):
                        yield came
                    else:
                        self._end(came)
                        until = time.monotonic() + RESTART
        finally:
            self._over.set()
            for stream in self._streams.values():
                stream.close()

    def _look(self) -> None:
        """Follow each container that runs and is not followed; look again soon if one does not run."""
        found = {item.id: service_of(item) for item in self._stack.containers()}
        for container, service in found.items():
            wanted = container not in self._streams and service in (self._services or found.values())
            if wanted and self._runs(container):
                self._begin(container, service)
        complete = self._streams.keys() >= found.keys()
        self._next_look = float("inf") if complete else time.monotonic() + PAUSE

    def _runs(self, container: str) -> bool:
        try:
            return self._stack.engine.state(container).status in RUNS
        except RefusedError:
            return False  # removed a moment ago

    def _begin(self, container: str, service: str) -> None:
        stream = LogStream(self._stack.engine, container, since=_seconds(self._last.get(service, "")))
        self._streams[container] = stream
        threading.Thread(target=self._read, args=(stream, container, service), daemon=True).start()

    def _end(self, ended: _Ended) -> None:
        del self._streams[ended.container]
        gone = isinstance(ended.error, RefusedError) and not self._runs(ended.container)
        if ended.error is not None and not gone:
            raise ended.error
        self._next_look = time.monotonic()

    def _read(self, stream: LogStream, container: str, service: str) -> None:
        """Pass on what *stream* gives; a thread runs this."""
        before, error = self._last.get(service, ""), None
        try:
            for line in stream:
                at, _, words = line.partition(" ")
                if at > before:
                    self._last[service] = at
                    self._put(Line(at, service, words))
        except EngineError as failure:
            error = failure
        self._put(_Ended(container, error))

    def _put(self, item: Line | _Ended) -> None:
        while not self._over.is_set():
            with contextlib.suppress(queue.Full):
                self._came.put(item, timeout=PAUSE)
                return


def _seconds(at: str) -> int:
    """Return the whole seconds of Unix time of a line's time; 0 if it has none."""
    try:
        return int(dt.datetime.fromisoformat(f"{at[:19]}+00:00").timestamp())
    except ValueError:
        return 0


def follow(stack: Stack, services: Sequence[str], *, tail: int, since: int = 0, timestamps: bool) -> None:
    """
    Print the last *tail* lines of each service, those since *since*, and then new ones.

    It ends with Ctrl-C, or when no container runs any more.

    Raises:
        UsageError: If the stack has no such service.
        EngineError: If the engine does not answer.
    """
    shown = read(stack, services, tail=tail, since=since)
    width = max((len(service_of(item)) for item in stack.containers()), default=0)
    prefix = len(services) != 1
    following = Following(stack, services, shown)
    with streams.endless(), contextlib.closing(following.lines()) as lines:
        print(text(shown, prefix=prefix, timestamps=timestamps, width=width), end="", flush=True)
        for line in lines:
            print(text([line], prefix=prefix, timestamps=timestamps, width=width), end="", flush=True)

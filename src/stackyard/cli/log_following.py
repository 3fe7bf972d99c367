"""New lines of the services of a stack, as they come."""

from __future__ import annotations

import abc
import contextlib
import datetime as dt
import queue
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from stackyard._util import streams
from stackyard.docker.logs import LogStream, ServiceLogStream
from stackyard.docker.swarm import detailed
from stackyard.errors import EngineError, RefusedError
from stackyard.stacks.logs import Line, read, service_of, text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from stackyard.sites.swarm.copies import Copy
    from stackyard.stacks.environments.stack import Stack

PAUSE: Final = 0.5  # seconds between two looks for a container that runs again
POLL_S: Final = 1.0  # seconds between two looks at a Swarm's tasks
RESTART: Final = 3.0  # seconds without a running container after which no restart is under way
MOST: Final = 10_000  # lines that wait to be printed; then the engine waits
RUNS: Final = frozenset({"running", "paused"})


class _Ended(NamedTuple):
    """
    A log has come to its end.

    Attributes:
        log: What wrote it.
        error: Why, if the engine is at fault.
    """

    log: str
    error: EngineError | None


class Following(abc.ABC):
    """
    The logs of *services*, of all without one, each read by a thread of its own.

    A container that is restarted or made again while another one runs is followed from then on.

    Args:
        services: Which services.
        shown: The lines that were printed before; these are left out.
        since: Whole seconds of Unix time; only lines written from then on are given. 0 gives all.
    """

    def __init__(self, services: Sequence[str], shown: Sequence[Line] = (), since: int = 0) -> None:
        self._services = services
        self._since = since
        self._last = {line.source: line for line in sorted(shown)}
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

    @abc.abstractmethod
    def _look(self) -> None:
        """Begin with each log that grows and is not followed; say when to look again."""

    @abc.abstractmethod
    def _runs(self, log: str) -> bool:
        """Say whether what writes a log runs."""

    @abc.abstractmethod
    def _stream(self, log: str, since: int) -> LogStream:
        """Return the lines of a log from *since* on."""

    @abc.abstractmethod
    def _line(self, log: str, service: str, line: str) -> Line:
        """Return what a line of a log says."""

    def _wanted(self, found: Mapping[str, str]) -> dict[str, str]:
        """Return those of the logs *found*, each with its service, that the user wants and that are not followed."""
        return {
            log: service
            for log, service in found.items()
            if log not in self._streams and service in (self._services or found.values())
        }

    def _begin(self, log: str, service: str) -> None:
        own = [line for line in [*self._last.values()] if line.service == service]  # a copy: other threads add lines
        seen = min((_seconds(line.at) for line in own), default=0)
        stream = self._stream(log, max(seen, self._since))
        self._streams[log] = stream
        threading.Thread(target=self._read, args=(stream, log, service), daemon=True).start()

    def _end(self, ended: _Ended) -> None:
        del self._streams[ended.log]
        gone = isinstance(ended.error, RefusedError) and not self._runs(ended.log)
        if ended.error is not None and not gone:
            raise ended.error
        self._next_look = time.monotonic()

    def _read(self, stream: LogStream, log: str, service: str) -> None:
        """Pass on what *stream* gives; a thread runs this."""
        before, error = dict(self._last), None
        try:
            for found in stream:
                line = self._line(log, service, found)
                if line.source not in before or line.at > before[line.source].at:
                    self._last[line.source] = line
                    self._put(line)
        except EngineError as failure:
            error = failure
        self._put(_Ended(log, error))

    def _put(self, item: Line | _Ended) -> None:
        while not self._over.is_set():
            with contextlib.suppress(queue.Full):
                self._came.put(item, timeout=PAUSE)
                return


class OfStack(Following):
    """The same of a stack on one engine; each container has a log."""

    def __init__(self, stack: Stack, services: Sequence[str], shown: Sequence[Line] = (), since: int = 0) -> None:
        super().__init__(services, shown, since)
        self._stack = stack

    def _look(self) -> None:
        found = {item.id: service_of(item) for item in self._stack.containers()}
        for container, service in self._wanted(found).items():
            if self._runs(container):
                self._begin(container, service)
        complete = self._streams.keys() >= found.keys()
        self._next_look = float("inf") if complete else time.monotonic() + PAUSE

    def _runs(self, log: str) -> bool:
        try:
            return self._stack.engine.state(log).status in RUNS
        except RefusedError:
            return False  # removed a moment ago

    def _stream(self, log: str, since: int) -> LogStream:
        return LogStream(self._stack.engine, log, since=since)

    def _line(self, log: str, service: str, line: str) -> Line:
        at, _, words = line.partition(" ")
        return Line(at, service, words, log)


class OfCopy(Following):
    """The same of a copy on a Swarm; each service has a log, and it never ends by itself."""

    def __init__(self, copy: Copy, services: Sequence[str], shown: Sequence[Line] = (), since: int = 0) -> None:
        super().__init__(services, shown, since)
        self._copy = copy
        self._running: set[str] = set()
        self._still: set[str] = set()  # at the last look

    def _look(self) -> None:
        found = {identity: name for name, identity in self._copy.services.items()}
        states = {task.service for task in self._copy.tasks() if task.state == "running"}
        self._running = {log for log, service in found.items() if service in states}
        for log, service in self._wanted(found).items():
            if log in self._running:
                self._begin(log, service)
        still = self._streams.keys() - self._running
        for log in still & self._still:  # its last lines have had a second to come
            self._streams[log].close()
        self._still, self._next_look = still, time.monotonic() + POLL_S

    def _runs(self, log: str) -> bool:
        return log in self._running

    def _stream(self, log: str, since: int) -> LogStream:
        return ServiceLogStream(self._copy.swarm.engine, log, since=since)

    def _line(self, log: str, service: str, line: str) -> Line:
        at, task, words = detailed(line)
        return Line(at, service, words, task or log)


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
    _print(OfStack(stack, services, shown, since), shown, prefix=len(services) != 1, timestamps=timestamps, width=width)


def follow_copy(copy: Copy, services: Sequence[str], *, tail: int, since: int = 0, timestamps: bool) -> None:
    """Do what `follow` does for a copy on a Swarm."""
    shown = copy.lines(services, tail=tail, since=since)
    width = max(map(len, copy.services), default=0)
    _print(OfCopy(copy, services, shown, since), shown, prefix=len(services) != 1, timestamps=timestamps, width=width)


def _print(following: Following, shown: Sequence[Line], *, prefix: bool, timestamps: bool, width: int) -> None:
    with streams.endless(), contextlib.closing(following.lines()) as lines:
        print(text(shown, prefix=prefix, timestamps=timestamps, width=width), end="", flush=True)
        for line in lines:
            print(text([line], prefix=prefix, timestamps=timestamps, width=width), end="", flush=True)

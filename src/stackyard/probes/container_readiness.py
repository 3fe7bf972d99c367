"""
Proof that one container is ready, by its service's rule: ask, wait a moment, ask again.

A connection to the container's own address costs this host 0.2 ms of processor time, so it is tried every 20 ms. The
kernel's tables cost 10 ms, so they are read twice a second, or every 200 ms where they are all there is. A command in
the container costs the engine about 100 ms, so it is run every 50 ms at first, every 500 ms later, and for at most half
of the time. A health check of a service with ports is run once a second until one of them listens, and then at once
(docs/readiness.md).
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from stackyard._util.printable import one_line
from stackyard.docker import inspection
from stackyard.docker.container_commands import Command
from stackyard.docker.logs import LogStream
from stackyard.errors import EngineError
from stackyard.probes import listeners, port_answers
from stackyard.probes.container_answers import Answer, unix_time
from stackyard.probes.idleness import Idleness
from stackyard.probes.listeners import Listener
from stackyard.probes.readiness_rules import COMMAND_TIMEOUT, SHELL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from stackyard.docker import ContainerState, Engine
    from stackyard.docker.inspection import Place
    from stackyard.docker.streams import Stream
    from stackyard.probes.readiness_rules import Rule
    from stackyard.project.service_ports import Port

T = TypeVar("T")
QUICK: Final = 0.02  # seconds between two tries to connect
TABLES: Final = 0.2  # seconds between two looks at the tables where nothing else tells who listens
TABLES_BESIDE: Final = 0.5  # the same, together with tries to connect
CONNECT_TIMEOUT_S: Final = 0.5  # seconds for one of these
FIRST, LAST, GROWTH = 0.05, 0.5, 1.2  # seconds between commands: the first pause, the longest, and how pauses grow
LONGEST_REST: Final = 2.0  # seconds of rest after a command, however long it took
UNSERVED: Final = 1.0  # seconds between health checks of a service none of whose ports listens yet
OPTIONAL_S: Final = 10.0  # seconds for ports that need not be there: see `_ports`
SETTLED: Final = 2.0  # seconds of a start in which nothing is measured: most containers listen by then
SILENCE: Final = 30.0  # seconds in which nothing happens at all after which a port that does not listen never will
CUT_OFF: Final = "no answer within"  # a command that takes longer than it may
HTTP_PATIENCE: Final = 5.0  # seconds for a first HTTP answer on a port where HTTP is usual
OTHER_PATIENCE: Final = 1.0  # seconds for one elsewhere
NO_SHELL: Final = f"its health check needs {SHELL[0]}, which its image does not have; write the test as [CMD, PROGRAM]"
UNSTARTED: Final = "exec failed: unable to start container process: exec: "  # before the program's quoted name
HAS_NO_PROGRAM: Final = frozenset({126, 127})


class Proof:
    """
    The proof of one container.

    Args:
        engine: Where it is.
        container: Its id.
        rule: What proves it.
        threads: Where requests to the engine wait; it needs one thread for each proof at the same time.

    Attributes:
        last: The last answer, for a person.
        silent_since: Monotonic time since when the container has done nothing and none of its ports has listened; None
            while it does something, and where the rule insists on an answer.
        warning: What the user should know of a proof that is not whole; empty if it is.
        hopeless: Whether no later answer can be another: the health check needs a shell that the image does not have.
    """

    def __init__(self, engine: Engine, container: str, rule: Rule, threads: Executor) -> None:
        self.engine = engine
        self.container = container
        self.rule = rule
        self.last = "not asked yet"
        self.silent_since: float | None = None
        self.warning, self.hopeless = "", False
        self._idleness = Idleness(lambda: self._call(lambda: engine.processor_seconds(container)))
        self._threads = threads
        self._place: Place | None = None
        self._direct: bool | None = None  # whether this host reaches the container's own address; None: not tried yet
        self._accepted: set[Port] = set()
        self._known: frozenset[Listener] = frozenset()
        self._found: frozenset[Listener] = frozenset()  # who listened at the last look
        self._next_tables = 0.0
        self._blind = False  # whether the tables cannot be read at all
        self._asked: dict[Port, float] = {}

    async def run(self) -> str:
        """Ask until the container has proved itself, however long that takes; return how, for a person."""
        match self.rule.kind:
            case "health check" | "command":
                return await self._commands()
            case "log":
                return await self._log()
            case "running":
                return await self._runs()
        return await self._ports()

    # commands

    async def _commands(self) -> str:
        pauses = growing()
        while True:
            if not await self._gate_is_open():
                self.last = f"port {self.rule.gate} does not listen yet"
                await asyncio.sleep(self._look)
                continue
            await self._port_opens()
            began = time.monotonic()
            code, output = await self._command(self.rule.words, self.rule.timeout)
            text = one_line(output)
            if code == 0:
                return "the command ended with exit code 0" if self.rule.kind == "health check" else f"answered {text}"
            if code in HAS_NO_PROGRAM and self.rule.kind == "command":
                return f"port {self.rule.gate} listens; the container has no client that could ask more ({text})"
            self.last = text if code is None else f"exit code {code}{f': {text}' if text else ''}"
            self._note_missing_shell(code, text)
            rest = min(time.monotonic() - began, LONGEST_REST)
            await asyncio.sleep(max(next(pauses), rest))

    def _note_missing_shell(self, code: int | None, text: str) -> None:
        """Note that the engine finds no shell for the health check; any other program may still be installed."""
        if code in HAS_NO_PROGRAM and self.rule.words[0] == SHELL[0] and f'{UNSTARTED}"{SHELL[0]}"' in text:
            self.hopeless, self.last = True, NO_SHELL

    async def _gate_is_open(self) -> bool:
        gate = self.rule.gate
        if gate is None:
            return True
        try:
            found = await self._listeners()
        except EngineError:
            return False
        if found is None:  # nothing is known, so the command alone has to tell
            return True
        known = listeners.reached(gate, found, loopback=self.rule.loopback)
        return known or (self.rule.kind == "health check" and not self.rule.loopback and listeners.serves(found))

    async def _port_opens(self) -> None:
        """Wait until one of the ports that a health check likely asks listens, where that is cheap to see."""
        end = time.monotonic() + UNSERVED
        while self.rule.expected and not self._accepted and time.monotonic() < end:
            try:
                place = await self._placed()
                if place and not (self._direct and await self._accepts(place)):
                    return
            except EngineError:
                return
            if not self._accepted:
                await asyncio.sleep(self._look)

    async def _command(self, words: tuple[str, ...], limit: float) -> tuple[int | None, str]:
        """Run a command inside; return its exit code (None without one) and its output."""
        command = Command(self.engine, self.container, words)
        try:
            async with asyncio.timeout(limit):
                return await self._read(command, command.run)
        except TimeoutError:
            return None, f"{CUT_OFF} {limit:g} s"
        except EngineError as error:
            return None, str(error)

    async def _read(self, stream: Stream, work: Callable[[], T]) -> T:
        """Do *work*, which reads *stream*, in a thread; however the wait for it ends, both have ended then."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        finally:
            stream.close()
            await asyncio.wait({running})
            running.cancelled() or running.exception()  # asked for, so that asyncio does not complain about it

    # listeners

    async def _listeners(self) -> frozenset[Listener] | None:
        """Return who listens in the container's namespace; None if there is no way to know."""
        place = await self._placed()
        if place is None:
            return frozenset()
        if self._direct and await self._accepts(place):
            self._look_at_tables(place)
            return self._known | {Listener("tcp", port.number, loopback=False) for port in self._accepted}
        away = self.engine.endpoint.elsewhere
        found = None if away else listeners.read(self.container, place.pid)
        return await self._tables() if found is None and not self._blind else found

    async def _placed(self) -> Place | None:
        """Return where the container is; None if it does not run."""
        if self._place is None:
            place = await self._call(lambda: inspection.place(self.engine, self.container))
            if place.state.status != "running":
                return None
            self._place = place
            self._direct = self._is_near(place)
        return self._place

    def _is_near(self, place: Place) -> bool:
        """Say whether this host can connect to the container's own address, without any proxy, and to nothing else."""
        tcp = all(port.protocol == "tcp" for port in self._wanted)
        usual = self.engine.endpoint.standard and place.address and not self.rule.loopback
        return bool(tcp and usual and listeners.sees(self.container, place.pid))

    @property
    def _wanted(self) -> tuple[Port, ...]:
        return self.rule.ports or self.rule.expected or ((self.rule.gate,) if self.rule.gate else ())

    async def _accepts(self, place: Place) -> bool:
        """Connect to each port that has not accepted yet, and note which do; False if that tells nothing."""
        for port in [port for port in self._wanted if port not in self._accepted]:
            accepted = await port_answers.accepts(place.address, port.number, limit=CONNECT_TIMEOUT_S)
            if accepted is None:
                self._direct = False
            elif accepted:
                self._accepted.add(port)
        return self._direct is True

    def _look_at_tables(self, place: Place) -> None:
        """Read the tables now and then while ports are missing that the tries do not reach, such as UDP ones."""
        if len(self._accepted) < len(self._wanted) and time.monotonic() >= self._next_tables:
            self._next_tables = time.monotonic() + TABLES_BESIDE
            self._known = listeners.read(self.container, place.pid) or frozenset()

    async def _tables(self) -> frozenset[Listener] | None:
        """Read the tables by a command inside the container; None if it has no such program."""
        code, tables = await self._command(listeners.READ_INSIDE, COMMAND_TIMEOUT)
        self._blind = code in HAS_NO_PROGRAM
        return None if self._blind else listeners.parse(tables if code is not None else "")

    @property
    def _look(self) -> float:
        """Seconds until the next look at the listeners."""
        return QUICK if self._direct else TABLES

    # ports

    async def _ports(self) -> str:
        """
        Ask the rule's ports until enough of them have proved themselves.

        Where each port is wanted, one that does not listen is given up once another has proved itself and the
        container has been idle for `QUIET` seconds, or after `OPTIONAL_S` seconds: files publish ports that
        nothing uses. If the rule requires none, running for `OPTIONAL_S` seconds is enough. If none listens, only
        those who see all containers can tell whether one still will: see `silent_since`.
        """
        began, first = time.monotonic(), None
        while True:
            answers = await self._asked_all()
            good = [answer.said for answer in answers if answer.good]
            missing = [answer for answer in answers if not answer.good]
            self.last = "; ".join(answer.said for answer in missing)
            if good and not (missing and self.rule.strict):
                return "; ".join(good)
            now, good = time.monotonic(), good + self._datagrams()
            if good and first is None:
                first = now
                self._idleness.forget()
            if not any(answer.listens for answer in missing):
                if good or now - began >= SETTLED:
                    await self._idleness.measure(now)
                if end := self._given_up(good, now - (first or began)):
                    return end
            nothing = not good and self.rule.strict and not self.rule.hinted
            silent = nothing and not any(answer.listens for answer in missing)
            self.silent_since = self._idleness.still_since if silent else None
            await asyncio.sleep(self._look)

    def _datagrams(self) -> list[str]:
        """Say which UDP ports listen; the kernel's tables are all that tells of them."""
        found = [port for port in self.rule.datagrams if listeners.reached(port, self._found, loopback=False)]
        return [f"port {port} listens" for port in found]

    def _given_up(self, good: list[str], waited: float) -> str:
        """Return what a container has shown whose other ports will not listen any more; empty while they may."""
        if good and (self._idleness.idle or waited >= OPTIONAL_S):
            self.warning = f"{self.last}, although the Compose file publishes it"
            end = "and the container is idle" if self._idleness.idle else f"{OPTIONAL_S:g} s later"
            return "; ".join([*good, f"{self.last}, {end}"])
        return "" if self.rule.strict or waited < OPTIONAL_S else f"has run for {OPTIONAL_S:g} s; {self.last}"

    def give_up(self) -> str:
        """Return what a container has shown that has been silent for too long."""
        others = sorted({one.port for one in self._found if one.protocol == "tcp" and not one.loopback})
        listed = f"; it listens on {', '.join(map(str, others))}" if others else ""
        self.warning = f"{self.last}, and the container has done nothing for {SILENCE:g} s{listed}"
        return f"has run without doing anything for {SILENCE:g} s; {self.last}{listed}"

    async def _asked_all(self) -> list[Answer]:
        try:
            found = await self._listeners()
        except EngineError as error:
            return [Answer(good=False, listens=False, said=one_line(str(error)))]
        self._found = found or frozenset()
        return [await self._ask(port, found) for port in self.rule.ports]

    async def _ask(self, port: Port, found: frozenset[Listener] | None) -> Answer:
        target = self._target(port)
        if found is None:
            if target and not await port_answers.stays_open(*target):
                return Answer(good=False, listens=False, said=f"port {port} accepts no connection")
        elif not listeners.reached(port, found, loopback=self.rule.loopback):
            hidden = listeners.reached(port, found, loopback=True)
            why = "listens only on the container's loopback address" if hidden else "does not listen"
            return Answer(good=False, listens=False, said=f"port {port} {why}")
        if target is None or self.rule.kind == "tcp" or not (port.may_be_http or self.rule.hinted):
            return Answer(good=True, listens=True, said=f"port {port} listens")
        return await (self._websocket if self.rule.kind == "websocket" else self._http)(port, *target)

    def _target(self, port: Port) -> tuple[str, int] | None:
        """Return where this host reaches *port*; None if it does not, or not over TCP."""
        place, away = self._place, self.engine.endpoint.elsewhere
        if place is None or port.protocol != "tcp":
            return None
        published = place.published.get(f"{port.number}/tcp")
        if published and away:
            return (urlsplit(self.engine.endpoint.url).hostname or published[0], published[1])
        return published or ((place.address, port.number) if place.address and not away else None)

    async def _http(self, port: Port, host: str, number: int) -> Answer:
        expected = port.usually_http or self.rule.hinted
        limit, now = HTTP_PATIENCE if expected else OTHER_PATIENCE, time.monotonic()
        began = self._asked.setdefault(port, now)
        answer = await port_answers.get(host, number, self.rule.path, limit=limit)
        said = f"port {port} listens: {answer.said}"
        if answer.status:
            return Answer(good=answer.status < self.rule.below, listens=True, said=said)
        speaks_other = answer.other or not expected or time.monotonic() - began >= limit
        return Answer(good=speaks_other and not self.rule.hinted, listens=True, said=said)

    async def _websocket(self, port: Port, host: str, number: int) -> Answer:
        failure = await port_answers.opens_websocket(host, number, self.rule.path, limit=HTTP_PATIENCE)
        return Answer(good=not failure, listens=True, said=f"port {port}: {failure or 'a WebSocket opened'}")

    # log and running

    async def _log(self) -> str:
        pattern = re.compile(self.rule.pattern)
        self.last = "no line of its log matches yet"
        while True:
            state = await self._state()
            line = await self._matching(pattern, int(unix_time(state.started_at))) if state else None
            if line is not None:
                return f"its log says: {one_line(line)}"
            await asyncio.sleep(FIRST)  # the log ended with the container, which may be restarted

    async def _matching(self, pattern: re.Pattern[str], since: int) -> str | None:
        stream = LogStream(self.engine, self.container, since=since)

        def search() -> str | None:
            texts = (line.partition(" ")[2] for line in stream)
            return next((text for text in texts if pattern.search(text)), None)

        try:
            return await self._read(stream, search)
        except EngineError:
            return None

    async def _runs(self) -> str:
        """Wait until the container has run for the rule's time without a restart."""
        since, started = time.monotonic(), ""
        while True:
            state = await self._state()
            if state is None or state.status != "running":
                self.last = state.status if state else self.last
                await asyncio.sleep(FIRST)
                continue
            if state.started_at != started:
                since, started = time.monotonic(), state.started_at
            here = not self.engine.endpoint.elsewhere
            age = max(time.monotonic() - since, time.time() - unix_time(started) if here else 0.0)
            if age >= self.rule.seconds:
                return f"has run for {self.rule.seconds:g} s"
            self.last = f"has run for {age:.1f} s"
            await asyncio.sleep(self.rule.seconds - age)

    async def _state(self) -> ContainerState | None:
        """Return how the container is doing; None if it is gone, which those who list the containers see too."""
        try:
            return (await self._call(lambda: inspection.place(self.engine, self.container))).state
        except EngineError as error:
            self.last = one_line(str(error))
            return None

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def growing() -> Iterator[float]:
    """Yield the seconds between one command and the next, without end."""
    pause = FIRST
    while True:
        yield pause
        pause = min(pause * GROWTH, LAST)

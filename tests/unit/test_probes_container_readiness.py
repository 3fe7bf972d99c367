"""Proving one container ready: the questions, their order, and when enough has been answered. No engine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stackyard._util.printable import one_line
from stackyard.docker import ContainerState, inspection
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.inspection import Place
from stackyard.errors import EngineError, RefusedError
from stackyard.probes import container_readiness, idleness, listeners, port_answers
from stackyard.probes.container_readiness import Proof, growing
from stackyard.probes.listeners import Listener, parse, reached, serves
from stackyard.probes.port_answers import HttpAnswer
from stackyard.probes.readiness_rules import Rule
from stackyard.project.service_ports import Port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue\n"
WEB, DATABASE = Listener("tcp", 8000, loopback=False), Listener("tcp", 5432, loopback=False)


def table(*rows: str) -> str:
    return HEAD + "".join(f"   0: {row} 00000000:00000000 00:00000000\n" for row in rows)


@pytest.mark.parametrize(
    ("row", "listener"),
    [
        ("00000000:1F40 00000000:0000 0A", WEB),
        ("0100007F:1538 00000000:0000 0A", Listener("tcp", 5432, loopback=True)),
        ("0B00007F:9C4F 00000000:0000 0A", Listener("tcp", 40015, loopback=True)),
        ("020011AC:1F40 00000000:0000 0A", WEB),
        ("00000000000000000000000000000000:1F40 00000000000000000000000000000000:0000 0A", WEB),
        ("00000000000000000000000001000000:1F40 0:0000 0A", Listener("tcp", 8000, loopback=True)),
        ("0000000000000000FFFF00000100007F:1F40 0:0000 0A", Listener("tcp", 8000, loopback=True)),
        ("0000000000000000FFFF0000020011AC:1F40 0:0000 0A", WEB),
        ("00000000:0035 00000000:0000 07", Listener("udp", 53, loopback=False)),
    ],
)
def test_the_kernels_tables_tell_who_listens(row: str, listener: Listener) -> None:
    assert parse(table(row)) == {listener}


def test_connections_and_other_lines_are_no_listeners() -> None:
    assert (
        parse(table("020011AC:1F40 010011AC:C350 01", "020011AC:1F40 010011AC:C350 06") + "\ncat: no\n") == frozenset()
    )


def test_a_listener_on_loopback_counts_only_where_that_is_enough() -> None:
    inward = {Listener("tcp", 8000, loopback=True)}

    assert not reached(Port(8000), inward, loopback=False)
    assert reached(Port(8000), inward, loopback=True)
    assert not reached(Port(8000, "udp"), inward, loopback=True)
    assert not serves(inward)
    assert serves({WEB})
    assert not serves({Listener("udp", 53, loopback=False)})


def test_this_host_reads_the_tables_of_a_process_only_if_it_is_the_containers(tmp_path: Path) -> None:
    folder = tmp_path / "77" / "net"
    folder.mkdir(parents=True)
    (folder / "tcp").write_text(table("00000000:1F40 00000000:0000 0A"))
    (folder / "tcp6").write_text(table("00000000000000000000000000000000:1538 0:0000 0A"))
    (folder.parent / "cgroup").write_text("0::/system.slice/docker-abc123.scope\n")

    assert listeners.read("abc123", 77, proc=tmp_path) == frozenset({WEB, DATABASE})
    assert listeners.read("def456", 77, proc=tmp_path) is None
    assert listeners.read("abc123", 78, proc=tmp_path) is None
    (folder / "tcp").unlink()
    (folder / "tcp").mkdir()
    assert listeners.read("abc123", 77, proc=tmp_path) is None


def test_pauses_between_commands_grow_from_50_to_500_ms() -> None:
    pauses = growing()
    first = [next(pauses) for _ in range(40)]

    assert first[0] == 0.05
    assert first == sorted(first)
    assert first[-1] == 0.5


def test_an_answer_is_reported_in_one_bounded_line() -> None:
    assert one_line(" a\n\n b ") == "a b"
    assert one_line("x" * 1000) == "x" * 200 + "…"


# one container of our own making


class Container:
    """What the engine and the kernel show of a container; every list gives its items one by one, and keeps the last."""

    def __init__(self) -> None:
        self.tables: list[Any] = [frozenset()]
        self.commands: list[Any] = [(0, "")]
        self.states: list[Any] = ["running"]
        self.log: list[str] = []
        self.asked: list[tuple[str, ...]] = []
        self.closed = 0
        self.published = {"8000/tcp": ("127.0.0.1", 18000)}
        self.address = "172.17.0.2"
        self.started_at = "2020-01-01T00:00:00.123456789Z"
        self.used: list[Any] = [EngineError("not measured")]

    def read(self, *_: object) -> Any:
        return take(self.tables)

    def seconds(self, _container: str) -> float:
        used = take(self.used)
        if isinstance(used, Exception):
            raise used
        return float(used)

    def place(self, *_: object) -> Place:
        status = take(self.states)
        if isinstance(status, Exception):
            raise status
        state = ContainerState(
            id="abc", service="web", status=status, exit_code=0, oom_killed=False, error="", health="none",
            health_log=(), restarts=0, started_at=self.started_at,
        )  # fmt: skip
        return Place(state=state, pid=77, address=self.address, published=self.published)


def take(items: list[Any]) -> Any:
    return items.pop(0) if len(items) > 1 else items[0]


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Container:  # noqa: C901 - two small classes
    made = Container()

    class FakeCommand:
        def __init__(self, _: object, __: str, words: tuple[str, ...]) -> None:
            self.words = words
            self.given_up = threading.Event()

        def run(self) -> tuple[int, str]:
            made.asked.append(tuple(self.words))
            answer = take(made.commands)
            if answer == "hangs":
                self.given_up.wait()
                raise EngineError("given up")
            if isinstance(answer, Exception):
                raise answer
            code, text = answer
            return code, text

        def close(self) -> None:
            made.closed += 1
            self.given_up.set()

    class FakeStream:
        def __init__(self, _: object, __: str, *, since: int) -> None:
            made.asked.append((str(since),))

        def __iter__(self) -> Iterator[str]:
            if made.log == ["refused"]:
                made.log = ["2020 ready"]
                raise RefusedError("no log yet")
            yield from made.log
            made.log = ["2020 second run: ready"]

        def close(self) -> None:
            made.closed += 1

    monkeypatch.setattr(container_readiness, "Command", FakeCommand)
    monkeypatch.setattr(container_readiness, "LogStream", FakeStream)
    monkeypatch.setattr(inspection, "place", made.place)
    monkeypatch.setattr(listeners, "read", made.read)
    for name in ("QUICK", "TABLES", "TABLES_BESIDE", "FIRST", "LAST"):
        monkeypatch.setattr(container_readiness, name, 0.0)
    return made


@pytest.fixture
def prove(container: Container) -> Iterator[Callable[..., str]]:
    threads = ThreadPoolExecutor(max_workers=4)

    def run(kind: Any, *, url: str = "unix:///x", **rule: Any) -> str:
        engine: Any = SimpleNamespace(endpoint=Endpoint(url=url), processor_seconds=container.seconds)
        made = Proof(engine, "abc", Rule(service="web", kind=kind, why="", **rule), threads)
        run.proof = made  # type: ignore[attr-defined]
        return asyncio.run(made.run())

    yield run
    threads.shutdown()


def answers(monkeypatch: pytest.MonkeyPatch, *given: HttpAnswer) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []
    left = list(given)

    async def get(*words: Any, limit: float) -> HttpAnswer:
        assert limit
        asked.append(words)
        answer: HttpAnswer = take(left)
        return answer

    monkeypatch.setattr(port_answers, "get", get)
    return asked


def http(status: int = 0, *, other: bool = False) -> HttpAnswer:
    return HttpAnswer(status, other=other, said=f"HTTP {status}" if status else "no HTTP")


def test_a_health_check_is_run_until_it_ends_with_0(container: Container, prove: Callable[..., str]) -> None:
    container.commands = [(1, "no\ntable"), EngineError("container is not running"), (0, "fine")]

    assert prove("health check", words=("check", "it")) == "the command ended with exit code 0"
    assert container.asked == [("check", "it")] * 3


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ((4, "no\ntable"), "exit code 4: no table"),
        ((4, ""), "exit code 4"),
        (RefusedError("not running"), "not running"),
    ],
)
def test_the_last_answer_of_a_command_is_kept(
    container: Container, prove: Callable[..., str], first: Any, last: str
) -> None:
    container.commands = [first, (0, "")]

    prove("health check", words=("x",))

    assert prove.proof.last == last  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "program", "hopeless"),
    [
        (("/bin/sh", "-c", "curl x"), "/bin/sh", True),
        (("/bin/sh", "-c", "curl x"), "", False),  # a shell that finds no curl; it may still be installed
        (("/app/check",), "/app/check", False),
    ],
)
def test_a_health_check_without_a_shell_in_its_image_can_only_fail(
    container: Container, prove: Callable[..., str], words: tuple[str, ...], program: str, hopeless: bool
) -> None:
    started = (
        f'OCI runtime exec failed: exec failed: unable to start container process: exec: "{program}": no such file'
    )
    container.commands = [(126, started) if program else (127, "sh: curl: not found"), (0, "")]

    prove("health check", words=words)

    assert prove.proof.hopeless is hopeless  # type: ignore[attr-defined]
    assert ("which its image does not have" in prove.proof.last) is hopeless  # type: ignore[attr-defined]


def test_a_command_that_takes_too_long_is_given_up_and_run_again(
    container: Container, prove: Callable[..., str]
) -> None:
    container.commands = ["hangs", (0, "")]

    prove("health check", words=("x",), timeout=0.1)

    assert prove.proof.last == "no answer within 0.1 s"  # type: ignore[attr-defined]
    assert container.closed == len(container.asked) > 1


async def test_a_proof_that_is_cancelled_leaves_no_command_waiting(container: Container) -> None:
    container.commands = ["hangs"]
    engine: Any = SimpleNamespace(endpoint=Endpoint())
    with ThreadPoolExecutor(max_workers=1) as threads:
        made = Proof(engine, "abc", Rule(service="web", kind="health check", why="", words=("x",)), threads)
        task = asyncio.create_task(made.run())
        while not container.asked:  # noqa: ASYNC110 - a thread appends to it
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert container.closed == 1


def test_a_databases_client_waits_until_its_port_listens(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [frozenset(), {Listener("tcp", 5432, loopback=True)}, {WEB}, {DATABASE}]
    container.commands = [(0, "1")]

    assert prove("command", words=("psql",), gate=Port(5432)) == "answered 1"
    assert container.tables == [{DATABASE}]
    assert prove.proof.last == "port 5432 does not listen yet"  # type: ignore[attr-defined]


def test_a_databases_health_check_waits_until_it_listens_anywhere(
    container: Container, prove: Callable[..., str]
) -> None:
    container.tables = [{Listener("tcp", 5432, loopback=True)}, {WEB}, frozenset()]

    prove("health check", words=("pg_isready",), gate=Port(5432))

    assert container.tables == [frozenset()]


def test_in_a_shared_namespace_only_its_own_port_counts(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [{WEB}, {Listener("tcp", 5432, loopback=True)}, frozenset()]

    prove("health check", words=("pg_isready",), gate=Port(5432), loopback=True)

    assert container.tables == [frozenset()]


def test_a_container_that_is_gone_does_not_listen(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [None, None, {DATABASE}]
    container.states = [RefusedError("gone"), "exited", "running"]

    assert prove("command", words=("psql",), gate=Port(5432)) == "answered "


def test_without_a_client_a_listener_is_enough(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [{DATABASE}]
    container.commands = [(127, "the image has no psql")]

    how = prove("command", words=("psql",), gate=Port(5432))

    assert how == "port 5432 listens; the container has no client that could ask more (the image has no psql)"


def test_tables_that_this_host_does_not_see_are_read_inside(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [None]
    container.commands = [(1, table("00000000:1538 00000000:0000 0A")), (0, "1")]

    assert prove("command", words=("psql",), gate=Port(5432)) == "answered 1"
    assert container.asked == [listeners.READ_INSIDE, ("psql",)]


def test_tables_that_no_one_can_read_leave_it_to_the_client(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [None]
    container.commands = [(126, "no cat"), (1, "not yet"), (0, "1")]

    assert prove("command", words=("psql",), gate=Port(5432)) == "answered 1"
    assert container.asked == [listeners.READ_INSIDE, ("psql",), ("psql",)]


def test_a_port_is_ready_when_it_listens(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [frozenset(), {Listener("tcp", 1883, loopback=True)}, {Listener("tcp", 1883, loopback=False)}]

    assert prove("tcp", ports=(Port(1883),)) == "port 1883 listens"
    assert prove.proof.last == ""  # type: ignore[attr-defined]


def test_a_port_that_only_the_container_itself_reaches_is_reported() -> None:
    engine: Any = SimpleNamespace(endpoint=Endpoint())
    made = Proof(engine, "abc", Rule(service="web", kind="tcp", why="", ports=(Port(1883),)), ThreadPoolExecutor())

    answer = asyncio.run(made._ask(Port(1883), frozenset({Listener("tcp", 1883, loopback=True)})))

    assert answer == (False, False, "port 1883 listens only on the container's loopback address")


def test_an_http_port_is_asked_where_it_is_published_until_it_answers_below_500(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.tables = [None, {WEB}]
    asked = answers(monkeypatch, http(), http(503), http(404))

    assert prove("http", ports=(Port(8000),), path="/up") == "port 8000 listens: HTTP 404"
    assert asked == [("127.0.0.1", 18000, "/up")] * 3


@pytest.mark.parametrize(
    ("url", "published", "address", "expected"),
    [
        ("unix:///x", True, "172.17.0.2", ("127.0.0.1", 18000)),
        ("unix:///x", False, "172.17.0.2", ("172.17.0.2", 8000)),
        ("unix:///x", False, "", None),
        ("tcp://192.0.2.9:2375", True, "172.17.0.2", ("192.0.2.9", 18000)),
        ("tcp://192.0.2.9:2375", False, "172.17.0.2", None),
    ],
)
def test_a_port_is_asked_at_an_address_that_this_host_reaches(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch, url: str, *, published: bool,
    address: str, expected: tuple[str, int] | None,
) -> None:  # fmt: skip
    container.tables, container.address = [None, {WEB}], address
    container.commands = [(0, table("00000000:1F40 00000000:0000 0A"))]
    container.published = container.published if published else {}
    asked = answers(monkeypatch, http(200))

    how = prove("http", ports=(Port(8000),), url=url)

    assert how == ("port 8000 listens: HTTP 200" if expected else "port 8000 listens")
    assert asked == ([(*expected, "/")] if expected else [])


@pytest.mark.parametrize(
    ("port", "first", "how"),
    [
        (Port(8000), http(other=True), "port 8000 listens: no HTTP"),
        (Port(7001), http(), "port 7001 listens: no HTTP"),
    ],
)
def test_a_port_that_does_not_speak_http_is_ready_when_it_listens(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch, port: Port, first: HttpAnswer,
    how: str,
) -> None:  # fmt: skip
    container.tables = [None, {Listener("tcp", port.number, loopback=False)}]
    answers(monkeypatch, first)

    assert prove("http", ports=(port,)) == how


def test_a_usual_http_port_that_stays_silent_is_ready_after_a_while(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.tables = [None, {WEB}]
    asked = answers(monkeypatch, http())
    monkeypatch.setattr(container_readiness, "HTTP_PATIENCE", 0.01)

    assert prove("http", ports=(Port(8000),)) == "port 8000 listens: no HTTP"
    assert len(asked) > 1


def test_a_hint_wants_what_it_says_and_nothing_else(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.tables = [None, {DATABASE}]
    answers(monkeypatch, http(), http(other=True), http(404), http(399))
    monkeypatch.setattr(container_readiness, "HTTP_PATIENCE", 0.001)

    assert prove("http", ports=(Port(5432),), below=400, hinted=True) == "port 5432 listens: HTTP 399"


def test_a_published_port_that_nothing_uses_is_given_up_after_a_while(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.tables = [{Listener("tcp", 1883, loopback=False)}]
    monkeypatch.setattr(container_readiness, "OPTIONAL_S", 0.01)

    how = prove("tcp", ports=(Port(1883), Port(8883)))

    assert how == "port 1883 listens; port 8883 does not listen, 0.01 s later"
    assert prove.proof.warning == "port 8883 does not listen, although the Compose file publishes it"  # type: ignore[attr-defined]


def test_a_published_port_that_nothing_uses_is_given_up_when_the_container_is_idle(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.tables = [{Listener("tcp", 1883, loopback=False)}]
    container.used = [1.0, 2000.0, EngineError("gone"), 2000.0, 4000.0, 4000.0]
    monkeypatch.setattr(idleness, "QUIET", 0.001)

    how = prove("tcp", ports=(Port(1883), Port(8883)))

    assert how == "port 1883 listens; port 8883 does not listen, and the container is idle"
    assert container.used == [4000.0]


UDP = Listener("udp", 53, loopback=False)


def test_a_udp_port_that_listens_shows_that_a_server_is_there(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.tables, container.used = [set(), {UDP}], [1.0]
    monkeypatch.setattr(idleness, "QUIET", 0.001)

    how = prove("tcp", ports=(Port(53),), datagrams=(Port(53, "udp"), Port(1700, "udp")))

    assert how == "port 53/udp listens; port 53 does not listen, and the container is idle"
    assert prove.proof.warning == "port 53 does not listen, although the Compose file publishes it"  # type: ignore[attr-defined]


class Silence:
    """A proof that goes on until a test has seen enough of it."""

    def __init__(self, made: Proof, looks: int) -> None:
        self.made = made
        self.looks = looks
        self.seen: list[float | None] = []

    async def watch(self) -> None:
        running = asyncio.create_task(self.made.run())
        while len(self.seen) < self.looks:
            await asyncio.sleep(0)
            if not self.seen or self.made.silent_since != self.seen[-1]:
                self.seen.append(self.made.silent_since)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.fixture
def watched(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Proof, list[float | None]]]]:
    threads = ThreadPoolExecutor(max_workers=4)
    monkeypatch.setattr(idleness, "QUIET", 0.0)
    monkeypatch.setattr(container_readiness, "SETTLED", 0.0)

    def run(looks: int, **rule: Any) -> tuple[Proof, list[float | None]]:
        engine: Any = SimpleNamespace(endpoint=Endpoint(url="unix:///x"), processor_seconds=container.seconds)
        words = {"kind": "tcp", "why": "", "ports": (Port(80),)} | rule
        silence = Silence(Proof(engine, "abc", Rule(service="web", **words), threads), looks)
        asyncio.run(asyncio.wait_for(silence.watch(), 30))
        return silence.made, silence.seen

    yield run
    threads.shutdown()


def test_a_container_that_does_nothing_and_does_not_listen_is_silent(
    container: Container, watched: Callable[..., tuple[Proof, list[float | None]]]
) -> None:
    container.tables, container.used = (
        [{Listener("tcp", 3000, loopback=False), Listener("tcp", 9, loopback=True)}],
        [7.0],
    )
    before = time.monotonic()

    made, seen = watched(2)

    assert seen[0] is None
    assert seen[1] is not None
    assert before <= seen[1] <= time.monotonic()
    assert made.give_up() == "has run without doing anything for 30 s; port 80 does not listen; it listens on 3000"
    assert made.warning == "port 80 does not listen, and the container has done nothing for 30 s; it listens on 3000"


def test_the_silence_begins_again_when_the_container_has_worked(
    container: Container, watched: Callable[..., tuple[Proof, list[float | None]]]
) -> None:
    container.used = [1.0, 1.0, 9.0]

    _, seen = watched(3)

    assert seen[1] is not None
    assert seen[2] is not None
    assert seen[2] > seen[1]


@pytest.mark.parametrize("rule", [{"hinted": True}, {"strict": False}])
def test_what_the_user_asks_for_is_waited_for_and_what_is_not_insisted_on_has_a_limit_of_its_own(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch, rule: dict[str, bool]
) -> None:
    container.tables, container.used = [*[set()] * 50, {WEB}], [1.0]
    monkeypatch.setattr(idleness, "QUIET", 0.0)
    monkeypatch.setattr(container_readiness, "SETTLED", 0.0)
    since: list[float | None] = []
    look = Proof._ask

    async def ask(self: Proof, *words: Any) -> Any:
        since.append(self.silent_since)
        return await look(self, *words)

    monkeypatch.setattr(Proof, "_ask", ask)

    assert prove("tcp", ports=(Port(8000),), **rule) == "port 8000 listens"
    assert set(since) == {None}


def test_a_published_port_that_answers_badly_is_not_given_up(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.tables = [None, {WEB, Listener("tcp", 1883, loopback=False)}]
    answers(monkeypatch, http(500), http(500), http(200))
    monkeypatch.setattr(container_readiness, "OPTIONAL_S", 0.0)

    assert prove("http", ports=(Port(1883), Port(8000))) == "port 1883 listens; port 8000 listens: HTTP 200"


def test_one_of_several_exposed_ports_is_enough(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [{DATABASE}]

    assert prove("tcp", ports=(Port(1), Port(5432)), strict=False) == "port 5432 listens"


def test_exposed_ports_are_not_insisted_on(prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_readiness, "OPTIONAL_S", 0.01)

    assert prove("tcp", ports=(Port(1),), strict=False) == "has run for 0.01 s; port 1 does not listen"


@pytest.mark.parametrize("opens", [False, True])
def test_without_tables_a_connection_has_to_stay_open(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch, *, opens: bool
) -> None:
    container.tables, container.commands = [None], [(126, "")]
    tries = [opens, True]

    async def stays_open(*_: object) -> bool:
        return bool(take(tries))

    monkeypatch.setattr(port_answers, "stays_open", stays_open)

    assert prove("tcp", ports=(Port(8000),)) == "port 8000 listens"
    assert prove.proof.last == ""  # type: ignore[attr-defined]


def test_an_engine_that_refuses_is_asked_again(container: Container, prove: Callable[..., str]) -> None:
    container.tables = [None, {WEB}]
    container.states = [RefusedError("gone"), "running"]

    assert prove("tcp", ports=(Port(8000),)) == "port 8000 listens"


NEAR = "unix:///var/run/docker.sock"


@pytest.fixture
def knocks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each try to connect to the container's own address finds; the tries take their place."""
    left: list[Any] = []
    monkeypatch.setattr(listeners, "sees", lambda *_: True)

    async def accepts(host: str, port: int, *, limit: float) -> Any:
        assert limit
        found = left.pop(0)
        left.append((host, port))
        return found

    monkeypatch.setattr(port_answers, "accepts", accepts)
    return left


def test_a_container_near_is_asked_at_its_own_address_until_it_accepts(
    prove: Callable[..., str], knocks: list[Any]
) -> None:
    knocks += [False, False, True]

    assert prove("tcp", ports=(Port(1883),), url=NEAR) == "port 1883 listens"
    assert knocks == [("172.17.0.2", 1883)] * 3


def test_a_port_that_has_accepted_once_is_left_alone(prove: Callable[..., str], knocks: list[Any]) -> None:
    knocks += [True, False, True]

    assert prove("tcp", ports=(Port(1883), Port(1884)), url=NEAR) == "port 1883 listens; port 1884 listens"
    assert knocks == [("172.17.0.2", 1883), ("172.17.0.2", 1884), ("172.17.0.2", 1884)]


def test_a_health_check_is_run_as_soon_as_a_port_of_its_service_listens(
    container: Container, prove: Callable[..., str], knocks: list[Any]
) -> None:
    knocks += [False, False, False, True]
    container.commands = [(1, "warming up"), (0, "")]

    prove("health check", words=("check",), expected=(Port(8000), Port(8001)), url=NEAR)

    assert knocks == [("172.17.0.2", 8000), ("172.17.0.2", 8001)] * 2
    assert container.asked == [("check",)] * 2


def test_a_health_check_is_run_now_and_then_though_no_port_listens(
    container: Container, prove: Callable[..., str], knocks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    knocks += [False] * 1000
    monkeypatch.setattr(container_readiness, "UNSERVED", 0.01)
    container.commands = [(1, ""), (0, "")]

    prove("health check", words=("check",), expected=(Port(8000),), url=NEAR)

    assert container.asked == [("check",)] * 2
    assert ("172.17.0.2", 8000) in knocks


@pytest.mark.parametrize("found", [None, EngineError("away")])
def test_a_health_check_does_not_wait_for_a_port_that_it_cannot_see(
    container: Container, prove: Callable[..., str], knocks: list[Any], found: Any
) -> None:
    knocks += [None]
    container.states = [found or "exited", "running"]

    prove("health check", words=("check",), expected=(Port(8000),), url=NEAR)

    assert container.asked == [("check",)]


def test_an_address_that_nothing_answers_at_leaves_it_to_the_tables(
    container: Container, prove: Callable[..., str], knocks: list[Any]
) -> None:
    knocks += [None]
    container.tables = [frozenset(), {Listener("tcp", 1883, loopback=False)}]

    assert prove("tcp", ports=(Port(1883),), url=NEAR) == "port 1883 listens"
    assert len(knocks) == 1


def test_beside_the_tries_the_tables_tell_of_other_ports(
    container: Container, prove: Callable[..., str], knocks: list[Any]
) -> None:
    knocks += [False, False]
    container.tables = [frozenset(), {WEB}]

    prove("health check", words=("pg_isready",), gate=Port(5432), url=NEAR)

    assert len(knocks) == 2


@pytest.mark.parametrize(
    ("url", "address", "rule"),
    [
        ("unix:///run/user/1000/docker.sock", "172.17.0.2", {}),
        (NEAR, "", {}),
        (NEAR, "172.17.0.2", {"loopback": True}),
        (NEAR, "172.17.0.2", {"ports": (Port(53, "udp"),)}),
    ],
)
def test_an_address_that_may_be_another_ones_is_not_tried(
    container: Container, prove: Callable[..., str], knocks: list[Any], url: str, address: str, rule: dict[str, Any]
) -> None:  # fmt: skip
    container.address = address
    container.tables = [{Listener("tcp", 53, loopback=False), Listener("udp", 53, loopback=False)}]

    assert "listens" in prove("tcp", **{"ports": (Port(53),), "url": url} | rule)
    assert knocks == []


def test_a_websocket_has_to_open(
    container: Container, prove: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.tables = [None, {WEB}]
    failures = ["HTTP 404", ""]

    async def opens(*words: Any, limit: float) -> str:
        assert words == ("127.0.0.1", 18000, "/ws")
        assert limit
        return str(take(failures))

    monkeypatch.setattr(port_answers, "opens_websocket", opens)

    assert prove("websocket", ports=(Port(8000),), path="/ws", hinted=True) == "port 8000: a WebSocket opened"


@pytest.mark.parametrize("log", [["2020 starting", "2020 now ready"], ["2020 crashed"], ["refused"]])
def test_a_line_of_the_log_of_this_run_has_to_match(
    container: Container, prove: Callable[..., str], log: list[str]
) -> None:
    container.log = log
    container.states = [RefusedError("gone"), "running"]

    assert prove("log", pattern="ready$").startswith("its log says: ")
    assert container.asked[0] == ("1577836800",)


def test_a_service_has_to_run_for_a_moment(container: Container, prove: Callable[..., str]) -> None:
    container.states = [RefusedError("gone"), "restarting", "running"]

    assert prove("running", seconds=0.5) == "has run for 0.5 s"


@pytest.mark.parametrize("url", ["unix:///x", "tcp://192.0.2.9:2375"])
def test_a_moment_begins_with_the_containers_start_or_with_the_first_look_at_it(
    container: Container, prove: Callable[..., str], url: str
) -> None:
    container.started_at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}.999999999Z"

    assert prove("running", seconds=0.02, url=url) == "has run for 0.02 s"


# questions to real sockets


@contextlib.asynccontextmanager
async def server(answer: bytes | None, *, close: bool = True) -> AsyncIterator[int]:
    """Give the port of a server that reads a little, answers, and closes or waits."""
    stop = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is not None:
            await reader.read(10)
            writer.write(answer)
            await writer.drain()
        if not close:
            await stop.wait()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        stop.set()
        running.close()
        await running.wait_closed()


@pytest.mark.parametrize(
    ("answer", "status", "other"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200, False),
        (b"HTTP/1.0 503 no\r\n\r\n", 503, False),
        (b"-ERR unknown command\r\n", 0, True),
        (b"\x15\x03\x01\x00\x02", 0, True),
        (b"x" * 100_000, 0, True),
        (b"", 0, False),
    ],
)
async def test_an_http_answer_is_not_taken_for_other_protocols(answer: bytes, status: int, *, other: bool) -> None:
    async with server(answer) as port:
        found = await port_answers.get("127.0.0.1", port, "/", limit=5)

    assert (found.status, found.other) == (status, other)


async def test_a_silent_server_is_waited_for_only_so_long() -> None:
    async with server(None, close=False) as port:
        found = await port_answers.get("127.0.0.1", port, "/", limit=0.05)

    assert found == HttpAnswer(0, other=False, said="no HTTP answer within 0.05 s", silent=True)


async def test_no_one_there_is_no_answer() -> None:
    async with server(b"") as port:
        pass

    assert (await port_answers.get("127.0.0.1", port, "/", limit=5)).said == "connection refused"
    assert not await port_answers.stays_open("127.0.0.1", port)
    assert await port_answers.accepts("127.0.0.1", port, limit=5) is False
    assert await port_answers.opens_websocket("127.0.0.1", port, "/", limit=5) == "connection refused"


async def test_a_connection_that_is_closed_at_once_is_the_port_proxys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_answers, "STAYS", 0.5)
    async with server(None) as closing, server(None, close=False) as staying:
        assert not await port_answers.stays_open("127.0.0.1", closing)
        assert await port_answers.stays_open("127.0.0.1", staying)
        assert await port_answers.accepts("127.0.0.1", staying, limit=5) is True


async def test_an_address_without_a_host_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "no route to host")

    monkeypatch.setattr(asyncio, "open_connection", unreachable)

    assert await port_answers.accepts("192.0.2.1", 80, limit=5) is None


async def test_a_websocket_opens_or_the_reason_is_reported() -> None:
    from websockets.asyncio.server import serve

    async def handle(socket: Any) -> None:
        await socket.wait_closed()

    async with serve(handle, "127.0.0.1", 0) as running, server(b"HTTP/1.1 404 Not Found\r\n\r\n") as wrong:
        port = next(iter(running.sockets)).getsockname()[1]
        assert await port_answers.opens_websocket("127.0.0.1", port, "/ws", limit=5) == ""
        assert "404" in await port_answers.opens_websocket("127.0.0.1", wrong, "/ws", limit=5)

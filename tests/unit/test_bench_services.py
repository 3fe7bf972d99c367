from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import socketserver
import sys
import threading
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest
from fake_stacks import FakeArena
from lease_records import SERVICES
from websockets.exceptions import ConnectionClosedError
from websockets.sync.server import serve as serve_websocket

from stackyard import images
from stackyard.bench import configuration, containers, loads, peers, services
from stackyard.bench.options import Plan
from stackyard.docker import Resource
from stackyard.errors import CommandError, ConfigError, EngineError, NotReadyError
from stackyard.project.environments import load_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.sync.server import ServerConnection


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that notes what it is asked; /missing is not there, and a name is taken the second time."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(404 if self.path == "/missing" else 200)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(201 if self.path == "/register" else 200, body.decode())

        def answer(self, status: int, body: str = "") -> None:
            asked.append(f"{self.command} {self.path} {body}".strip())
            self.send_response(status)
            content = b'{"access_token": "t0ken"}'
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def redis() -> Iterator[Callable[[], tuple[str, list[bytes]]]]:
    """A server that speaks a little of Redis's protocol; it knows one password."""
    asked: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
                asked.append(b" ".join(words))
                known = words[0] != b"AUTH" or words[2] == b"secret"
                self.wfile.write(
                    (b"$1\r\nx\r\n" if words[0] == b"GET" else b"+OK\r\n") if known else b"-WRONGPASS secret\r\n"
                )

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield lambda: (f"redis://app:secret@127.0.0.1:{server.server_address[1]}/0", asked)
    server.shutdown()
    thread.join()
    server.server_close()


ACCOUNTS = configuration.Accounts(service="auth", register="/register", login="/login", token="access_token")


def test_every_request_is_timed_and_must_be_answered(web: tuple[str, list[str]]) -> None:
    url, asked = web

    taken = loads.requests(url, "/healthz", 5)

    assert len(taken) == 5
    assert all(took > 0 for took in taken)
    assert asked == ["GET /healthz"] * 5
    with pytest.raises(NotReadyError, match="GET /missing must be answered with 200, got 404"):
        loads.requests(url, "/missing", 1)


def test_logins_are_of_accounts_made_for_them(web: tuple[str, list[str]]) -> None:
    url, asked = web

    rate = loads.logins(url, ACCOUNTS, 0.1)

    assert rate > 0
    assert sum(line.startswith("POST /register") for line in asked) == loads.CLIENTS
    assert sum(line.startswith("POST /login") for line in asked) == pytest.approx(rate * 0.1)
    with pytest.raises(NotReadyError, match="POST /login must be answered with 201, got 200"):
        loads._post(url, "/login", {}, 201)


def test_redis_is_asked_as_its_user(redis: Callable[[], tuple[str, list[bytes]]]) -> None:
    url, asked = redis()

    rate = loads.store(url, 0.1)

    assert rate > 0
    assert asked[0] == b"AUTH app secret"
    assert any(line.startswith(b"GET bench:") for line in asked)
    assert any(line.startswith(b"SET bench:") for line in asked)


def test_a_refusal_of_redis_never_tells_the_password(redis: Callable[[], tuple[str, list[bytes]]]) -> None:
    url, _ = redis()

    with pytest.raises(NotReadyError, match="redis refused AUTH: -WRONGPASS secret") as caught:
        loads.store(url.replace("secret", "hidden"), 0.1)

    assert "hidden" not in str(caught.value)


@contextlib.contextmanager
def websocket(greeting: str, seen: list[str | None]) -> Iterator[str]:
    """A server that greets, answers each message with pong, and notes who came."""

    def answer(line: ServerConnection) -> None:
        seen.append(line.request.headers.get("Authorization") if line.request else None)
        line.send(greeting)
        for _ in line:
            line.send('{"type":"pong"}')

    with serve_websocket(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws"
        server.shutdown()
        thread.join()


def test_websocket_messages_are_timed_for_a_user_who_is_known(web: tuple[str, list[str]]) -> None:
    (url, asked), seen = web, list[str | None]()

    with websocket('{"type":"authenticated"}', seen) as address:
        token = loads.token(url, ACCOUNTS, "bench")
        taken = loads.messages(address, 3, token=token, greeting='"authenticated"')

    assert len(taken) == 3
    assert [line.split()[1] for line in asked] == ["/register", "/login"]
    assert seen == ["Bearer t0ken"]


def test_a_websocket_that_does_not_greet_its_user_is_refused() -> None:
    with (
        websocket("hello", []) as address,
        pytest.raises(NotReadyError, match="must greet its user"),
    ):
        loads.messages(address, 3, greeting='"authenticated"')


class Postgres:
    """Stands in for asyncpg: connections that note what they are asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def execute(self, query: str) -> None:
        self.asked.append(query)
        await asyncio.sleep(0.001)

    async def connect(self, _url: str, **_: Any) -> Postgres:
        return self

    async def close(self) -> None: ...

    def create_pool(self, _url: str, **_: Any) -> Postgres:
        return self

    def acquire(self) -> Postgres:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


URL = "postgresql://app:secret@127.0.0.1:5432/app"


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Postgres:
    made = Postgres()
    monkeypatch.setitem(sys.modules, "asyncpg", made)
    return made


def test_without_pgbench_a_loop_says_so(postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    tool, writes, reads = loads.database(URL, tmp_path, 0.05)

    assert tool == "an asyncpg loop"
    assert min(writes, reads) > 0
    assert postgres.asked[:2] == [loads.ROWS, loads.FILL]
    assert any(query.startswith("UPDATE bench") for query in postgres.asked)


def test_pgbench_gets_the_password_out_of_sight(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "pgbench"
    program.write_text(f'#!/bin/sh\necho "$PGPASSWORD: $@" >> "{tmp_path}/calls"\necho "tps = 1234.5 (without)"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert loads.database(URL, tmp_path, 0.05) == ("pgbench", 1234.5, 1234.5)

    first, _ = (tmp_path / "calls").read_text().splitlines()
    assert first.startswith("secret: --no-vacuum")
    assert "secret" not in first.removeprefix("secret: ")
    assert "UPDATE" not in (tmp_path / "bench.sql").read_text()
    assert postgres.asked
    program.write_text("#!/bin/sh\necho nothing\n")
    with pytest.raises(CommandError, match="nothing"):
        loads.database(URL, tmp_path, 0.05)


def container(service: str) -> Resource:
    labels = {"com.docker.compose.service": service}
    return Resource(kind="container", id=f"c-{service}", name=service, labels=labels)


def facts(address: str, *, running: bool = True) -> dict[str, Any]:
    return {
        "NetworkSettings": {"Networks": {"platform": {"IPAddress": address}}},
        "State": {"Running": running, "StartedAt": "2026-11-23T16:00:00.123456789Z"},
    }


def test_the_watch_sees_when_a_service_runs_and_when_it_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = {"redis": server.getsockname()[1], "auth": 1}
        answers = {
            "c-redis": iter([facts("", running=False), facts("127.0.0.1")]),
            "c-auth": iter([facts("127.0.0.1")]),
        }
        api = SimpleNamespace(inspect_container=lambda identity: next(answers[identity]))
        lists = iter([EngineError("busy")])

        def containers(_labels: object) -> list[Resource]:
            for trouble in lists:
                raise trouble
            return [container("redis"), container("auth"), container("stranger")]

        watch = services.Watch(SimpleNamespace(containers=containers, api=api), [], listening)  # type: ignore[arg-type]
        with watch.watching():
            for _ in range(6000):
                if "redis" in watch.accepted:
                    break
                threading.Event().wait(0.01)

    assert set(watch.accepted) == {"redis"}
    assert watch.started["redis"] == watch.started["auth"] == pytest.approx(1795449600.123456)


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArena:
    made = FakeArena(tmp_path)
    made.engine = SimpleNamespace(
        containers=lambda _labels: [container("postgres"), container("redis")],
        memory=lambda _id: SimpleNamespace(anonymous=10 << 20), api=None,
    )  # fmt: skip
    monkeypatch.setattr(services, "Arena", made)
    monkeypatch.setattr(services, "ports_inside", lambda _stack: dict.fromkeys(SERVICES.published, 1))
    monkeypatch.setattr(services.Watch, "_look", lambda _self: None)
    monkeypatch.setattr(containers, "alone", lambda *_: None)
    monkeypatch.setattr(images, "references", lambda _flavour: {"postgres": "p:1"})
    monkeypatch.setattr(
        images, "listing", lambda: [SimpleNamespace(reference=name, size=64_000_000) for name in ("p:1", "old:1")]
    )
    return made


def usage(peak: int | None) -> Any:
    return SimpleNamespace(usage=SimpleNamespace(memory=20 << 20, memory_peak=peak, memory_limit=96 << 20, cpu_s=0.2))


def loaded(monkeypatch: pytest.MonkeyPatch, arena: FakeArena) -> None:
    new = arena.new

    def with_urls() -> Any:
        stack = new()
        stack.lease.url = lambda service: f"http://{service}"
        stack.lease.urls = lambda: {name: url.partition(":")[0] + "://" for name, url in SERVICES.urls.items()}
        stack.lease.servers = lambda: {name: SERVICES.server(name) for name in SERVICES.names}
        return stack

    monkeypatch.setattr(arena, "new", with_urls)
    monkeypatch.setattr(loads, "database", lambda *_: ("pgbench", 1000.0, 2000.0))
    monkeypatch.setattr(loads, "store", lambda *_: 3000.0)
    monkeypatch.setattr(loads, "requests", lambda _url, _path, count: [0.5] * count)
    monkeypatch.setattr(loads, "messages", lambda _url, count, **_: [0.1] * count)
    monkeypatch.setattr(loads, "token", lambda *_: "t0ken")
    monkeypatch.setattr(loads, "logins", lambda *_: 40.0)


def test_every_figure_of_a_service_is_there(arena: FakeArena, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(monkeypatch, arena)
    monkeypatch.setattr(services, "sight", lambda *_: usage(40 << 20))

    found = services.measure(Plan(depth="default"))

    rows = {row.row: row for row in found.results}
    assert (rows["postgres-ready"].n, rows["postgres-memory"].median) == (5, 20 << 20)
    assert (rows["stack-memory"].median, rows["stack-peak"].median, rows["stack-cpu"].median) == (
        40 << 20,
        80 << 20,
        0.4,
    )
    assert (rows["postgres-memory"].target, rows["postgres-memory"].verdict) == (96 << 20, "PASS")
    assert rows["postgres-writes"].what == "single-row updates, pgbench"
    assert (rows["postgres-writes"].better, rows["redis-commands"].median) == ("more", 3000.0)
    assert rows["auth-http"].n == rows["backend-websocket"].n == 450
    assert rows["auth-http"].p99 == 0.5
    assert list(rows["postgres-image"].samples) == [64_000_000]
    assert found.notes == ()


def test_what_a_host_does_not_tell_is_none_with_a_reason(arena: FakeArena, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(monkeypatch, arena)
    monkeypatch.setattr(services, "sight", lambda _engine, identity: None if identity == "c-redis" else usage(None))

    rows = {row.row: row for row in services.measure(Plan(depth="quick")).results}

    assert (rows["postgres-peak"].median, rows["postgres-peak"].reason) == (
        None, "this host's control groups do not tell"
    )  # fmt: skip
    assert "redis-memory" not in rows


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotReadyError("redis refused\nAUTH"), "redis refused AUTH"),
        (OSError("no route"), "OSError: no route"),
        (ConnectionClosedError(None, None), "ConnectionClosedError: no close frame received or sent"),
    ],
)
def test_a_load_that_fails_is_a_note_and_the_others_go_on(
    arena: FakeArena, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    loaded(monkeypatch, arena)
    monkeypatch.setattr(services, "sight", lambda *_: usage(1))

    def refuse(*_: object) -> Any:
        raise error

    monkeypatch.setattr(loads, "store", refuse)

    found = services.measure(Plan(depth="quick"))

    assert found.notes == (f"the load on redis failed: {told}",)
    assert found.find("services", "auth-logins") is not None


def alone(arena: FakeArena, monkeypatch: pytest.MonkeyPatch, *, broken: str = "") -> tuple[list[str], Any, str]:
    """Let testcontainers' stand-ins start the services of a stack; return their calls, the samples and the trouble."""
    calls: list[str] = []
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)

    def container_of(name: str, _given: Any, _joined: Any) -> Any:
        def start() -> None:
            calls.append(f"start {name}")
            if name == broken:
                raise TimeoutError("no such line")

        return SimpleNamespace(start=start, stop=lambda: calls.append(f"stop {name}"), get_container_id=lambda: name)

    monkeypatch.setattr(peers, "load", lambda _name: None)
    monkeypatch.setattr(peers, "network", lambda _given: contextlib.nullcontext())
    monkeypatch.setattr(peers, "container", container_of)
    order = dict.fromkeys(["postgres", "redis", "auth", "backend"])
    monkeypatch.setattr(containers, "description", lambda _stack: {"services": order})
    monkeypatch.setattr(containers, "sight", lambda *_: usage(40 << 20))
    try:
        containers.alone(arena.new(), taken)  # type: ignore[arg-type]
    except NotReadyError as error:
        return calls, taken, str(error)
    return calls, taken, ""


def test_testcontainers_starts_each_service_and_removes_it_in_reverse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, taken, trouble = alone(FakeArena(tmp_path), monkeypatch)

    order = ["postgres", "redis", "auth", "backend"]
    assert calls == [*(f"start {name}" for name in order), *(f"stop {name}" for name in reversed(order))]
    assert {row: len(samples) for (name, row), samples in taken.items() if name == "auth"} == {
        "alone-start": 1, "alone-memory": 1, "alone-peak": 1, "alone-cpu": 1, "alone-removal": 1,
    }  # fmt: skip
    assert (taken["redis", "alone-memory"], taken["redis", "alone-peak"], trouble) == ([20 << 20], [40 << 20], "")


def test_a_container_that_is_not_ready_is_removed_and_its_removal_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, taken, trouble = alone(FakeArena(tmp_path), monkeypatch, broken="redis")

    assert calls == ["start postgres", "start redis", "stop redis", "stop postgres"]
    assert trouble == "testcontainers: TimeoutError: no such line"
    assert (taken["redis", "alone-removal"], len(taken["postgres", "alone-removal"])) == ([], 1)


def test_services_by_testcontainers_stand_in_the_results_or_are_a_note(
    arena: FakeArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(_stack: Any, taken: dict[tuple[str, str], list[float]]) -> None:
        taken["auth", "alone-start"].append(1.5)
        if len(taken["auth", "alone-start"]) > 1:
            raise NotReadyError("testcontainers: no\nroom")

    loaded(monkeypatch, arena)
    monkeypatch.setattr(services, "sight", lambda *_: usage(1))
    monkeypatch.setattr(containers, "alone", take)

    found = services.measure(Plan(depth="default"))

    row = found.find("services", "auth-alone-start")
    assert row is not None
    assert (row.n, row.what, row.unit) == (5, "start-up, a testcontainers container", "s")
    assert found.notes == ("services by testcontainers: testcontainers: no room",)
    monkeypatch.setattr(peers, "available", lambda *_: False)
    assert services.measure(Plan(depth="quick")).notes == (peers.MISSING,)


def test_a_project_says_what_its_services_are_asked_and_may_say_nothing(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    found = configuration.read(root)

    assert found.accounts == ACCOUNTS
    assert found.ready.keys() == set(load_services(root).published)
    assert configuration.read(tmp_path) == configuration.Description()
    (tmp_path / "envs").mkdir()
    (tmp_path / configuration.FILE).write_text("health: healthz\n")
    with pytest.raises(ConfigError, match=r"envs/bench\.yaml: health: must be a path that begins with /"):
        configuration.read(tmp_path)


def test_services_of_any_name_are_loaded_by_what_they_speak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    urls = {"db": "postgresql://h:1", "shop": "http://h:2", "prices": "ws://h:2/p", "mail": "smtp://h:3"}
    lease = SimpleNamespace(urls=lambda: urls, servers=lambda: {"prices": "shop"}, directory=tmp_path)
    stack = SimpleNamespace(lease=lease, environment=SimpleNamespace(root=tmp_path))
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    notes: list[str] = []
    monkeypatch.setattr(loads, "database", lambda *_: ("pgbench", 1.0, 2.0))
    monkeypatch.setattr(loads, "requests", lambda _url, path, count: [3.0 if path == "/" else 0.0] * count)
    monkeypatch.setattr(loads, "messages", lambda _url, count, **given: [4.0 if not any(given.values()) else 0] * count)

    assert services._load(stack, Plan(depth="quick"), taken, notes) == "pgbench"  # type: ignore[arg-type]

    assert {key: set(samples) for key, samples in taken.items()} == {
        ("db", "writes"): {1.0}, ("db", "reads"): {2.0}, ("shop", "http"): {3.0}, ("shop", "websocket"): {4.0},
    }  # fmt: skip
    assert notes == []

"""Readiness of a project with real containers: every kind of rule once, every kind of failure once."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import pytest

from stackyard._util import process
from stackyard.docker.container_commands import output
from stackyard.docker.images import labelled
from stackyard.errors import NotReadyError
from stackyard.probes import listeners
from stackyard.project.readiness_hints import Hint
from stackyard.stacks.diagnostics import LONGER
from stackyard.stacks.readiness import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.stacks.readiness.waiting import ServiceReady, StackReady

# as the official image does: a private server on a socket while the database is made, then the real one
DATABASE: Final = """
bin=/usr/lib/postgresql/17/bin data=/tmp/data
$bin/initdb -D $data -U postgres -A trust > /dev/null
echo "host all all all trust" >> $data/pg_hba.conf
$bin/pg_ctl -D $data -w -o "-c listen_addresses='' -c unix_socket_directories=/tmp" start > /dev/null
$bin/createdb -h /tmp -U postgres shop
sleep 1.5
$bin/pg_ctl -D $data -w stop > /dev/null
echo the real server starts
exec $bin/postgres -D $data -c "listen_addresses=*" -c unix_socket_directories=/tmp
"""
HTTP: Final = """
import http.server, time
began = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if time.monotonic() - began < 1 else 401)
        self.end_headers()
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
LATE: Final = """
import socket, time
time.sleep(1)
server = socket.create_server(("", 1883))
print("accepting now", flush=True)
kept = []
while True:
    kept.append(server.accept())
"""
WEBSOCKET: Final = """
import base64, hashlib, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101 if self.path == "/ws" else 404)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.rfile.read(2)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


class Copy:
    """One project of our own, started by plain Compose and removed with all that it made."""

    def __init__(self, folder: Path, engine: Engine, services: Mapping[str, Any]) -> None:
        self.engine = engine
        self.name = f"readiness-{uuid.uuid4().hex[:8]}"
        self.file = folder / f"{self.name}.json"
        self.file.write_text(json.dumps({"services": services}))
        self.label = f"com.docker.compose.project={self.name}"
        self.model = json.loads(self.compose("config", "--format", "json").stdout)
        self.logs: dict[str, str] = {}

    def compose(self, *words: str) -> process.Completed:
        return process.run(["docker", "compose", "-p", self.name, "-f", str(self.file), *words], deadline=280)

    def start(self) -> None:
        self.compose("up", "--detach", "--no-build")

    async def wait(self, *, deadline: float = 280, hints: Mapping[str, Any] | None = None) -> StackReady:
        return await waiting.wait(
            self.engine, [self.label], self.model, deadline=deadline,
            hints={name: Hint.parse(hint) for name, hint in (hints or {}).items()},
            ready=self.keep_log,
        )  # fmt: skip

    def keep_log(self, one: ServiceReady) -> None:
        """Keep what a service has written by the moment at which it is ready."""
        self.logs[one.service] = self.engine.logs(f"{self.name}-{one.service}-1")

    async def up(self, *, hints: Mapping[str, Any] | None = None) -> StackReady:
        """Let Compose start everything, and wait at the same time, as a start does."""
        starting = asyncio.create_task(asyncio.to_thread(self.start))
        try:
            return await self.wait(hints=hints)
        finally:
            await asyncio.gather(starting, return_exceptions=True)

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "0")
        assert self.engine.everything([self.label]) == []


@pytest.fixture
def bases(engine: Engine, images: dict[str, str]) -> dict[str, str]:
    """The bases of the platform's images, by what they hold."""
    assert images
    return {name: base(engine, f"base-{name}-debian") for name in ("python", "redis", "postgres")}


def base(engine: Engine, name: str) -> str:
    """Return a reference of the base *name*; images that others made from it have its label, too."""
    found = [reference for image in labelled(engine, f"stackyard.image={name}") for reference in image.references]
    return next(reference for reference in found if reference.startswith(f"stackyard/{name}:"))


@pytest.fixture
def tags(bases: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """Names of our own for two of them, with which a service is recognised, and an image with a health check."""
    own = f"readiness-{uuid.uuid4().hex[:8]}"
    made = {name: f"{own}/{name}:test" for name in ("postgres", "redis", "checked")}
    try:
        for name in ("postgres", "redis"):
            process.run(["docker", "tag", bases[name], made[name]], deadline=120)
        dockerfile = f"FROM {bases['python']}\nHEALTHCHECK --interval=60s CMD test -e /tmp/done\n"
        (tmp_path / "Dockerfile").write_text(dockerfile)
        process.run(["docker", "build", "-q", "-t", made["checked"], str(tmp_path)], deadline=280)
        yield {**bases, **made}
    finally:
        for tag in made.values():
            process.run(["docker", "image", "rm", tag], deadline=120, check=False)


def python(bases: dict[str, str], script: str, **more: Any) -> dict[str, Any]:
    return {"image": bases["python"], "command": ["python3", "-u", "-c", script.replace("$", "$$")], **more}


def shell(bases: dict[str, str], script: str, **more: Any) -> dict[str, Any]:
    return {"image": bases["python"], "command": ["sh", "-c", script], **more}


def published(target: int) -> list[str]:
    return [f"127.0.0.1::{target}"]


def hows(ready: StackReady) -> dict[str, tuple[str, str]]:
    return {one.service: (one.rule.kind, one.how) for one in ready.services}


async def test_each_service_is_ready_by_the_rule_that_fits_it(
    tmp_path: Path, engine: Engine, tags: dict[str, str]
) -> None:
    database: dict[str, Any] = {
        "image": tags["postgres"],
        "user": "postgres",
        "entrypoint": ["sh", "-ec", DATABASE.replace("$", "$$")],
    }
    path = "/usr/lib/postgresql/17/bin:/usr/bin:/bin"
    database |= {"command": ["postgres"], "environment": {"POSTGRES_DB": "shop", "PATH": path}}
    socket_check = {"test": ["CMD", "/usr/lib/postgresql/17/bin/pg_isready", "-h", "/tmp"], "interval": "60s"}
    copy = Copy(tmp_path, engine, {
        "db": database,
        "checked-db": database | {"healthcheck": socket_check},
        "cache": {"image": tags["redis"], "command": ["redis-server", "--bind", "*", "--requirepass", "x"]},
        "web": python(tags, HTTP, ports=published(8000)),
        "late": python(tags, LATE, ports=published(1883)),
        "live": python(tags, WEBSOCKET, ports=published(8000)),
        "hinted": python(tags, LATE),
        "checked": {"image": tags["checked"], "command": ["sh", "-c", "sleep 1; touch /tmp/done; sleep 600"]},
        "migrate": shell(tags, "sleep 1"),
        "app": shell(tags, "sleep 600", depends_on={"migrate": {"condition": "service_completed_successfully"}}),
        "replicas": shell(tags, "sleep 600", scale=2),
    })  # fmt: skip
    try:
        ready = await copy.up(hints={"live": {"ws": "/ws"}, "hinted": {"log": "^accepting"}})

        found = hows(ready)
    finally:
        copy.down()
    assert found["db"] == ("command", "answered 1")
    assert found["checked-db"] == ("health check", "the command ended with exit code 0")
    assert all("the real server starts" in copy.logs[name] for name in ("db", "checked-db"))
    assert found["cache"][0] == "command"
    assert "NOAUTH" in found["cache"][1]
    assert found["web"] == ("http", "port 8000 listens: HTTP 401")
    assert found["late"] == ("tcp", "port 1883 listens")
    assert found["live"] == ("websocket", "port 8000: a WebSocket opened")
    assert found["hinted"] == ("log", "its log says: accepting now")
    assert found["checked"] == ("health check", "the command ended with exit code 0")
    assert found["migrate"] == ("exit 0", "ended with exit code 0")
    assert found["app"] == found["replicas"] == ("running", "has run for 0.5 s")
    order = [one.service for one in ready.services]
    assert order.index("migrate") < order.index("app")
    assert ready.seconds == ready.services[-1].seconds


async def test_a_one_shot_that_fails_ends_the_wait_at_once_and_is_explained(
    tmp_path: Path, engine: Engine, bases: dict[str, str]
) -> None:
    copy = Copy(tmp_path, engine, {
        "migrate": shell(bases, "echo relation users does not exist >&2; exit 3"),
        "app": shell(bases, "sleep 600", depends_on={"migrate": {"condition": "service_completed_successfully"}}),
        "web": shell(bases, "sleep 600", depends_on=["app"]),
    })  # fmt: skip
    began = time.monotonic()
    try:
        with pytest.raises(NotReadyError) as caught:
            await copy.up()
    finally:
        copy.down()
    first, *rest = str(caught.value).splitlines()
    assert first == "not ready: migrate ended with exit code 3"
    assert rest[:3] == [
        "  migrate: ended with exit code 3",
        "    rule: app waits until it has ended with exit code 0",
        "    waits for it: app, web",
    ]
    assert "    | relation users does not exist" in rest
    assert time.monotonic() - began < 140  # half the deadline


async def test_a_container_that_dies_ends_the_wait_although_its_rule_might_pass_later(
    tmp_path: Path, engine: Engine, bases: dict[str, str]
) -> None:
    copy = Copy(tmp_path, engine, {"web": shell(bases, "echo no configuration; exit 0", ports=published(8000))})
    try:
        with pytest.raises(NotReadyError, match=r"^not ready: web ended with exit code 0\n.*\n.*\n    . no config"):
            await copy.up()
    finally:
        copy.down()


async def test_a_container_that_keeps_restarting_is_given_up_when_nothing_else_is_missing(
    tmp_path: Path, engine: Engine, bases: dict[str, str]
) -> None:
    copy = Copy(tmp_path, engine, {
        "web": shell(bases, "exit 7", restart="always"),
        "other": shell(bases, "sleep 600"),
    })  # fmt: skip
    try:
        with pytest.raises(NotReadyError, match=r"^not ready: web keeps restarting: ended with exit code 7, restarted"):
            await copy.up()
    finally:
        copy.down()


async def test_a_container_that_is_restarted_until_its_database_is_there_becomes_ready(
    tmp_path: Path, engine: Engine, bases: dict[str, str]
) -> None:
    connect = "import socket, time; socket.create_connection(('db', 1883)); time.sleep(600)"
    copy = Copy(tmp_path, engine, {
        "db": python(bases, LATE.replace("sleep(1)", "sleep(3)"), ports=published(1883)),
        "web": python(bases, connect, restart="on-failure", healthcheck={"test": ["CMD", "true"]}),
    })  # fmt: skip
    try:
        ready = await copy.up()
    finally:
        copy.down()
    assert set(hows(ready)) == {"db", "web"}


async def test_a_deadline_names_what_was_seen_last(tmp_path: Path, engine: Engine, bases: dict[str, str]) -> None:
    inward = LATE.replace('""', '"127.0.0.1"')
    copy = Copy(tmp_path, engine, {
        "inward": python(bases, inward, ports=published(1883)),
        "sick": shell(bases, "sleep 600", healthcheck={"test": ["CMD-SHELL", "echo no table; exit 4"]}),
        "stuck": shell(bases, "sleep 600", healthcheck={"test": ["CMD", "sleep", "9"], "timeout": "1s"}),
        "seed": shell(bases, "sleep 600"),
    })  # fmt: skip
    expected = {
        "  inward: port 1883 listens only on the container's loopback address", "  sick: exit code 4: no table",
        "  stuck: no answer within 1 s", "  seed: still running",
        f"{LONGER}; for one check: services.stuck.healthcheck.timeout in the Compose file",
    }  # fmt: skip
    first, lines = "", list[str]()
    copy.start()
    try:
        for deadline in (8, 80):  # on a busy host the first answers take longer
            with pytest.raises(NotReadyError) as caught:
                await copy.wait(deadline=deadline)
            first, *lines = str(caught.value).splitlines()
            if expected <= {*lines}:
                break
    finally:
        copy.down()
    assert first.startswith(
        f"not ready after {deadline} s: inward (port 1883 listens only on the container's loopback address), "
    )
    assert expected - {*lines} == set()


async def test_a_port_that_never_listens_is_given_up_and_one_that_listens_late_is_waited_for(
    tmp_path: Path, engine: Engine, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE", 12.0)
    datagrams = "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 53)); time.sleep(600)"
    copy = Copy(tmp_path, engine, {
        "never": shell(bases, "while sleep 5; do continue; done", ports=published(1883)),
        "late": python(bases, LATE.replace("sleep(1)", "sleep(5)"), ports=published(1883)),
        "seed": shell(bases, "sleep 6; exit 0"),
        "dns": python(bases, datagrams, ports=[*published(53), f"{published(53)[0]}/udp"]),
    })  # fmt: skip
    try:
        ready = await copy.up()
    finally:
        copy.down()

    found = {one.service: one for one in ready.services}
    assert found["late"].how == "port 1883 listens"
    assert found["late"].seconds > 5
    assert found["never"].how == "has run without doing anything for 30 s; port 1883 does not listen"
    assert found["never"].seconds > max(found["late"].seconds, found["seed"].seconds) + 11
    assert found["never"].warning.startswith(
        "never: port 1883 does not listen, and the container has done nothing for "
    )
    assert found["dns"].how == "port 53/udp listens; port 53 does not listen, and the container is idle"
    assert found["dns"].warning.startswith("dns: port 53 does not listen, although the Compose file publishes it; ")
    assert not found["late"].warning + found["seed"].warning


@pytest.mark.parametrize("how", ["a command inside", "the port proxy"])
async def test_a_listener_is_found_where_this_host_does_not_see_the_process(
    tmp_path: Path, engine: Engine, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(listeners, "read", lambda *_: None)
    if how == "the port proxy":
        monkeypatch.setattr(listeners, "READ_INSIDE", ("no-such-program",))
    copy = Copy(tmp_path, engine, {"late": python(bases, LATE, ports=published(1883))})
    try:
        ready = await copy.up()
        accepts = output(engine, f"{copy.name}-late-1", "cat", "/proc/net/tcp")[1]
    finally:
        copy.down()
    assert hows(ready) == {"late": ("tcp", "port 1883 listens")}
    assert ":075B " in accepts

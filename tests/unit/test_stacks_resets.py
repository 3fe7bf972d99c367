"""Resets against a fake server made of dictionaries and a small real Redis; tests/integration has the real stack."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped] # it ships no types
import pytest
from fake_postgres import FakeDatabase, FakePostgres
from invoke.context import Context
from invoke_shell import shaped

from stackyard.cli import env
from stackyard.docker import Engine
from stackyard.errors import LeaseNotFoundError, NotReadyError, StackyardError, UsageError
from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments import resets
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackyard.leases.records import Fixed

URL = "postgresql://app:pw@127.0.0.1:9500/app"


class Answering(threading.Thread):
    """A TCP server that gives each connection one *answer* a request and keeps what it heard."""

    def __init__(self, answers: list[bytes]) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answers = answers
        self.heard: list[bytes] = []
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                while self.answers and (text := connection.recv(4096)):
                    self.heard.append(text)
                    connection.sendall(self.answers.pop(0))

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()
        self.listener.close()


@pytest.fixture
def redis() -> Iterator[Answering]:
    server = Answering([b"+OK\r\n"] * 4 + [b":1\r\n"])
    yield server
    server.stop()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakePostgres:
    made = FakePostgres(
        databases={
            "app": FakeDatabase(tables={"users", "junk"}, sessions=[("app", 1)]),
            "app_template": FakeDatabase(tables={"users"}),
            "test_own": FakeDatabase(tables={"own"}),
        },
        settings={"search_path": "junk"},
    )
    monkeypatch.setattr(asyncpg, "connect", made.connect)
    return made


def redis_url(server: Answering) -> str:
    return f"redis://app:pw@127.0.0.1:{server.port}/0"


def test_a_reset_leaves_what_the_template_has_and_no_own_database_changed(
    server: FakePostgres, redis: Answering
) -> None:
    done = resets.reset(URL, redis_url(redis))

    assert {name: found.tables for name, found in server.databases.items()} == {
        "app": {"users"},
        "app_template": {"users"},
        "test_own": {"own"},
    }
    assert server.databases["app"].open
    assert server.settings == {}
    assert 0 < done.copied <= done.swapped <= done.emptied <= done.seconds


def test_redis_forgets_everything_and_tells_who_listens(server: FakePostgres, redis: Answering) -> None:
    assert server.databases
    resets.reset(URL, redis_url(redis))

    commands = [text.split(b"\r\n")[2::2] for text in redis.heard]
    assert [b" ".join(words).strip() for words in commands] == [
        b"AUTH app pw",
        b"FLUSHALL SYNC",
        b"SCRIPT FLUSH SYNC",
        b"FUNCTION FLUSH SYNC",
        b"PUBLISH stackyard:reset all",
    ]


def test_the_names_change_in_one_message_after_the_sessions_have_ended(server: FakePostgres, redis: Answering) -> None:
    resets.reset(URL, redis_url(redis))

    assert server.said[:3] == [
        'CREATE DATABASE "app_next" TEMPLATE "app_template" STRATEGY file_copy',
        'ALTER DATABASE "app" ALLOW_CONNECTIONS false',
        (
            'ALTER DATABASE "app" RENAME TO "app_old"; ALTER DATABASE "app_next" RENAME TO "app"; '
            "ALTER ROLE CURRENT_USER RESET ALL"
        ),
    ]


def test_what_a_killed_reset_left_does_not_stop_the_next(server: FakePostgres, redis: Answering) -> None:
    server.databases |= {"app_next": FakeDatabase(tables={"half"}), "app_old": FakeDatabase(sessions=[("app", 0)])}
    server.databases["app"].open = False

    resets.reset(URL, redis_url(redis))

    assert set(server.databases) == {"app", "app_template", "test_own"}
    assert server.databases["app"].open


def test_a_session_that_cannot_be_ended_leaves_the_database_as_it_was(server: FakePostgres, redis: Answering) -> None:
    server.databases["app"].sessions = [("postgres", 0)]

    with pytest.raises(StackyardError, match="role postgres"):
        resets.reset(URL, redis_url(redis))

    assert server.databases["app"].tables == {"users", "junk"}
    assert server.databases["app"].open
    assert redis.heard == []


def test_a_redis_that_refuses_is_named(server: FakePostgres, redis: Answering) -> None:
    assert server.databases
    redis.answers[:] = [b"+OK\r\n", b"-NOPERM this user has no permissions\r\n"]

    with pytest.raises(NotReadyError, match="FLUSHALL answered -NOPERM"):
        resets.reset(URL, redis_url(redis))


def test_services_are_asked_until_they_are_ready(server: FakePostgres, redis: Answering) -> None:
    assert server.databases
    unready, ready = (b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status for status in (b"503 No", b"200 OK"))
    service = Answering([unready, unready, ready])

    resets.reset(URL, redis_url(redis), {"auth": f"http://127.0.0.1:{service.port}"})

    service.stop()
    assert [text.split(b" ")[1] for text in service.heard] == [b"/readyz"] * 3


def test_a_service_that_does_not_come_back_is_named(
    server: FakePostgres, redis: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.databases
    monkeypatch.setattr(resets, "READY_LIMIT", 0.3)
    service = Answering([])

    with pytest.raises(NotReadyError, match="auth: connection "):
        resets.reset(URL, redis_url(redis), {"auth": f"http://127.0.0.1:{service.port}"})
    service.stop()


def test_inside_an_event_loop_the_other_function_is_named(redis: Answering) -> None:
    async def use() -> None:
        with pytest.raises(UsageError, match="await the async function"):
            resets.reset(URL, redis_url(redis))

    asyncio.run(use())


@pytest.fixture
def lease_book(tmp_path: Path) -> LeaseBook:
    return LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))


def stack_of(name: str, book: LeaseBook) -> Stack:
    environment = Environment.load(name)
    fixed: Fixed = "only" if name == "dev" else "never"
    return Stack(environment, book.acquire(environment, fixed=fixed, ttl=60), book, Engine())


def test_a_stack_resets_its_own_stores_and_asks_its_own_services(
    lease_book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(resets, "reset", lambda *urls: asked.append(urls))
    stack = stack_of("test", lease_book)

    stack.reset()

    services = {service: stack.lease.url(service) for service in ("auth", "backend")}
    assert asked == [(stack.lease.url("postgres"), stack.lease.url("redis"), services)]


def test_data_that_is_kept_is_reset_only_when_asked_to(lease_book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(resets, "reset", lambda *urls: asked.append(urls))
    stack = stack_of("dev", lease_book)

    with pytest.raises(UsageError, match="environment dev keeps its data, and a reset deletes it; add --yes to agree"):
        stack.reset()
    assert asked == []
    stack.reset(yes=True)
    assert len(asked) == 1


def test_a_lease_that_another_command_ended_is_not_reset(
    lease_book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resets, "reset", lambda *_: pytest.fail("it was reset"))
    stack = stack_of("test", lease_book)
    lease_book.release(stack.lease)

    with pytest.raises(LeaseNotFoundError, match="ended by another command"):
        stack.reset()


def test_a_stack_makes_databases_on_its_own_server(lease_book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of("test", lease_book)
    made = FakePostgres(
        databases={"app_template": FakeDatabase()}, password=urlsplit(stack.lease.url("postgres")).password or ""
    )
    monkeypatch.setattr(asyncpg, "connect", made.connect)

    async def use() -> None:
        async with await stack.adatabase("theirs"):
            assert "theirs" in made.databases

    with stack.database("mine") as mine:
        asyncio.run(use())
        assert set(made.databases) == {"app_template", "mine"}
    assert mine.url == stack.lease.url("postgres").removesuffix("app") + "mine"
    assert set(made.databases) == {"app_template"}


def test_the_command_says_how_long_it_took_and_what_it_refuses(
    lease_book: LeaseBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = stack_of("test", lease_book)
    monkeypatch.setattr("stackyard.cli.env.attach", lambda _name: nullcontext(stack))
    done = resets.EnvironmentReset(seconds=0.0312, copied=0.01, swapped=0.02, emptied=0.03)
    monkeypatch.setattr(resets, "reset", lambda *_: done)

    env.reset(Context())
    env.reset(Context(), json=True)

    first, _, rest = capsys.readouterr().out.partition("\n")
    assert first == f"{stack.lease.title} reset in 31 ms"
    assert shaped("env.reset", json.loads(rest)) == {
        "lease": stack.lease.id, "name": None, "environment": "test", "seconds": 0.0312, "copied_seconds": 0.01,
        "swapped_seconds": 0.02, "emptied_seconds": 0.03,
    }  # fmt: skip

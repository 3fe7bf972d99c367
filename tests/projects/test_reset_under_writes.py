"""A reset of a copy whose PostgreSQL is written to all the time: all earlier rows go, and no half of anything stays."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import asyncpg  # type: ignore[import-untyped] # it ships no types
import pytest
from tests.projects.expected import BARE
from tests.projects.postgres import database

from stackyard.project import Project
from stackyard.project.environments import Environment
from stackyard.running.stack import Stack
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.environments.launch import prepare_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

COMPOSE: Final = """
services:
{database}
  migrate:
    image: {postgres}
    environment: {{PGPASSWORD: secret}}
    entrypoint: [psql, -h, db, -U, app, -d, app, -v, ON_ERROR_STOP=1, -c]
    command:
      - create table orders (writer int, n int); create table items (writer int, n int);
        insert into orders values (-1, 0); insert into items values (-1, 0)
    healthcheck: {{disable: true}}
    depends_on: {{db: {{condition: service_started}}}}
    restart: on-failure
volumes: {{rows: {{}}}}
"""
# what asyncpg raises where the server ends a session, in the midst of an answer too
LOST: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
WRITERS: Final = 3
SOME: Final = 15  # transactions of each writer
ENOUGH: Final = 60.0  # seconds, on a machine that does much else
OWN: Final = """
select (select array_agg(n order by n) from orders where writer = $1),
       (select array_agg(n order by n) from items where writer = $1)
"""
START: Final = [(-1, 0)]


@dataclass
class Writer:
    """One client that writes pairs of rows, looks at its own, and connects again whenever the server ends that."""

    number: int
    url: str
    done: list[int] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    halves: list[Any] = field(default_factory=list)

    async def run(self, stop: threading.Event) -> None:
        numbers = itertools.count(1)
        while not stop.is_set():
            try:
                link = await asyncpg.connect(self.url, timeout=10)
            except LOST as error:
                self.errors.append(error)
                await asyncio.sleep(0.005)
                continue
            with contextlib.closing(_Terminating(link)):
                await self._write(link, numbers, stop)

    async def _write(self, link: Any, numbers: Iterator[int], stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                number = next(numbers)
                async with link.transaction():
                    await link.execute("insert into orders values ($1, $2)", self.number, number)
                    await link.execute("insert into items values ($1, $2)", self.number, number)
                self.done.append(number)
                await self._look(link)
        except LOST as error:
            self.errors.append(error)

    async def _look(self, link: Any) -> None:
        """Note what must not be: a row without its pair, or a row that went while an earlier one stayed."""
        orders, items = await link.fetchrow(OWN, self.number)
        missing = {number for number in self.done if orders and number >= orders[0]} - {*(orders or ())}
        if orders != items or not orders or missing:
            self.halves.append((orders, items, missing))


@dataclass
class _Terminating:
    link: Any

    def close(self) -> None:
        self.link.terminate()


@contextlib.contextmanager
def writing(url: str) -> Iterator[list[Writer]]:
    writers, stop = [Writer(number, url) for number in range(WRITERS)], threading.Event()

    async def all_of_them() -> None:
        await asyncio.gather(*(writer.run(stop) for writer in writers))

    with ThreadPoolExecutor(max_workers=1) as threads:
        running = threads.submit(asyncio.run, all_of_them())
        try:
            yield writers
        finally:
            stop.set()
            running.result(ENOUGH)


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + ENOUGH
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_more(writers: list[Writer]) -> list[int]:
    """Return the last number of each writer before it has written *SOME* more."""
    before = [len(writer.done) for writer in writers]
    last = [writer.done[-1] if writer.done else 0 for writer in writers]
    until(lambda: all(len(writer.done) >= count + SOME for writer, count in zip(writers, before, strict=True)))
    return last


def rows(stack: Stack, table: str) -> list[tuple[int, int]]:
    async def ask() -> list[tuple[int, int]]:
        link = await asyncpg.connect(stack.url("db"), timeout=10)
        with contextlib.closing(_Terminating(link)):
            return [tuple(row) for row in await link.fetch(f"select writer, n from {table} order by 1, 2")]  # noqa: S608 - ours

    return asyncio.run(ask())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("flavour", ["test", "alpine-test"])
def test_a_reset_beside_writers_takes_all_earlier_rows_and_leaves_no_half(
    flavour: str, tmp_path: Path, book: LeaseBook, engine: Engine
) -> None:
    postgres = prepare_images(Environment.load(flavour), print)["STACKYARD_IMAGE_POSTGRES"]
    text = COMPOSE.format(database=database(postgres, rights="NOSUPERUSER"), postgres=postgres)
    (tmp_path / "compose.yaml").write_text(text)
    (tmp_path / "stackyard.toml").write_text("reset = true\n")
    stack = Stack(lifecycle.start(Project.find(tmp_path, environment=BARE), book, engine))

    with writing(stack.url("db")) as writers:
        for services in ((), ("db",), ("db",)):
            wait_for_more(writers)
            last = [writer.done[-1] for writer in writers]
            done = stack.reset(*services)
            kept = [row for table in ("orders", "items") for row in rows(stack, table)]
            wait_for_more(writers)

            assert {one.service: one.driver for one in done.services}["db"] == "postgresql"
            assert [(who, n) for who, n in kept if who >= 0 and n <= last[who]] == []
            assert {(who, n) for who, n in kept if who < 0} == {*START}
    stack.reset("db")

    assert [writer.halves for writer in writers] == [[]] * WRITERS
    assert all(writer.errors for writer in writers)  # a reset ends their sessions
    missing = asyncpg.UndefinedTableError  # a new session has the tables of the start
    assert [error for writer in writers for error in writer.errors if isinstance(error, missing)] == []
    assert rows(stack, "orders") == rows(stack, "items") == START
    assert stack.down().left == []

"""The platform while one of its stores goes away and comes back, PostgreSQL perhaps with nothing in it."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.platform.conftest import Crowd, Line, Person, Stack

    Dial = Callable[..., AbstractAsyncContextManager[Line]]
    Restart = Callable[[str], None]
    Logout = Callable[[Person], None]
    NewThread = Callable[..., str]
    Write = Callable[[Person, str, str], int]
    Problem = Callable[[httpx.Response], tuple[int, str]]

pytestmark = pytest.mark.disruptive

SLOWEST = 3.0  # seconds; the services promise about two


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer during a restart, and how many seconds it took."""

    answer: httpx.Response
    seconds: float


class Hammer:
    """Asks one thing again and again in a thread, as long as the block lasts."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self._url = url
        self._headers = headers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: list[Seen] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self._stop.wait(0.02):
                start = time.monotonic()
                answer = client.get(self._url, headers=self._headers)
                self.seen.append(Seen(answer=answer, seconds=time.monotonic() - start))


def _judge(seen: list[Seen], control: list[Seen], problem_of: Problem) -> None:
    """Every answer came in time, by that of *control* on this host, and was good or said that a store is away."""
    assert seen
    assert max(item.seconds for item in seen) < SLOWEST + 5 * max(item.seconds for item in control)
    for item in seen:
        assert item.answer.status_code == 200 or problem_of(item.answer) == (503, "unavailable")


@pytest.fixture
def still_out(auth: httpx.Client, backend: httpx.Client, again: Person, logout: Logout) -> Callable[[], bool]:
    """Whether someone who has just logged out is still refused everywhere."""
    logout(again)

    def ask() -> bool:
        answers = auth.get("/me", headers=again.headers), backend.get("/threads", headers=again.headers)
        return [answer.status_code for answer in answers] == [401, 401]

    return ask


async def test_a_restart_of_redis_is_survived_by_requests_sockets_and_logouts(
    stack: Stack, alice: Person, still_out: Callable[[], bool], dial: Dial, restart: Restart, new_thread: NewThread,
    write: Write, problem_of: Problem,
) -> None:  # fmt: skip
    thread = new_thread(alice)
    path = f"{stack.backend}/threads/{thread}"
    async with dial(alice.access) as line:
        await line.ask(type="subscribe", thread=thread)
        with Hammer(f"{stack.backend}/healthz") as control, Hammer(path, alice.headers) as hammer:
            await asyncio.to_thread(restart, "redis")
        _judge(hammer.seen, control.seen, problem_of)

        # Redis forgot the logout with everything else; the services must not.
        assert still_out()
        assert await line.hear() == {"type": "resync"}
        await asyncio.to_thread(write, alice, thread, "after the restart")
        assert (await line.hear())["message"]["body"] == "after the restart"


def test_a_restart_of_postgresql_is_survived_even_if_it_comes_back_empty(
    stack: Stack, auth: httpx.Client, crowd: Crowd, restart: Restart, new_thread: NewThread, write: Write,
    problem_of: Problem,
) -> None:  # fmt: skip
    before = crowd["alice"]
    with Hammer(f"{stack.backend}/healthz") as control, Hammer(f"{stack.backend}/threads", before.headers) as hammer:
        restart("postgres")

    _judge(hammer.seen, control.seen, problem_of)
    known = auth.get("/me", headers=before.headers)
    assert known.status_code == 200 or problem_of(known) == (401, "unauthorized")
    after = crowd["alice"]
    assert auth.get("/me", headers=after.headers).json()["id"] == after.id
    assert write(after, new_thread(after), "after the restart") > 0

"""Starts that go wrong: the error names the service and why, comes soon, and nothing is left."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped] # it ships no types
import httpx
import pytest
from tests.faults.fault_host import FULL, changed

from stackyard.errors import NotReadyError

if TYPE_CHECKING:
    from tests.faults.fault_host import Yard

    from stackyard.stacks.environments.stack import Stack

STARTS = 100 if FULL else 20
SOON = 100.0  # seconds, on a busy host: long before the deadline, which the error would name
ACCEPTS = "import socket, time; s = socket.create_server(('0.0.0.0', 8001)); time.sleep(600)"


def failure(stack: Stack, *, deadline: float | None = None) -> tuple[str, float]:
    """Start a stack that cannot start; return the error's text and its seconds, and release the lease."""
    began = time.monotonic()
    try:
        with pytest.raises(NotReadyError) as caught:
            stack.up(deadline=deadline)
        return str(caught.value), time.monotonic() - began
    finally:
        stack.down()


@pytest.mark.core
def test_a_service_that_exits_at_once_fails_the_start_soon(yard: Yard) -> None:
    crash = ["python3", "-c", "import sys; sys.exit('the disk of tea is empty')"]
    stack = changed(yard.stack(), {"auth": {"entrypoint": crash}})

    text, seconds = failure(stack, deadline=280)

    assert "service auth is exited, exit code 1" in text
    assert "| the disk of tea is empty" in text
    assert seconds < SOON
    assert yard.standing() == []


@pytest.mark.core
def test_a_service_that_accepts_and_never_answers_fails_at_the_deadline(yard: Yard) -> None:
    text, seconds, deadline = "", 0.0, 0
    for deadline in (5, 50):  # on a busy host it takes longer until it accepts
        stack = changed(yard.stack(), {"auth": {"entrypoint": ["python3", "-c", ACCEPTS]}})
        text, seconds = failure(stack, deadline=deadline)
        if "auth: no answer within " in text:
            break

    assert "not ready after" in text
    assert "auth: no answer within " in text
    assert deadline - 1 < seconds < deadline + SOON
    assert yard.standing() == []


def test_a_service_whose_health_check_gives_up_is_not_taken_for_a_slow_one(yard: Yard) -> None:
    check = {
        "test": ["CMD", "python3", "-c", "raise SystemExit('no')"],
        "interval": "200ms",
        "retries": 1,
        "timeout": "1s",
        "start_period": "1s",  # 0 would take the image's own
    }
    slow = ["python3", "-c", ACCEPTS]
    stack = changed(yard.stack(), {"backend": {"entrypoint": slow, "healthcheck": check}})

    text, seconds = failure(stack, deadline=280)

    assert "health unhealthy" in text
    assert seconds < SOON


def test_too_little_memory_is_named_not_a_time_out(yard: Yard) -> None:
    stack = changed(yard.stack(), {"postgres": {"mem_limit": "12m", "memswap_limit": "12m", "mem_reservation": "8m"}})

    text, _ = failure(stack, deadline=240)

    assert "postgres" in text
    assert "out of memory: killed at its limit" in text


def test_one_stack_of_four_fails_alone(yard: Yard) -> None:
    stacks = [yard.stack() for _ in range(4)]
    broken = changed(stacks[2], {"redis": {"entrypoint": ["sh", "-c", "exit 3"]}})

    def start(stack: Stack) -> str:
        try:
            stack.up(deadline=240)
        except NotReadyError as error:
            return str(error)
        return "up"

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(start, [stacks[0], stacks[1], broken, stacks[3]]))
    standing = len(yard.standing())
    left = [stack.down().left for stack in stacks]

    assert [text == "up" for text in said] == [True, True, False, True]
    assert "service redis is exited, exit code 3" in said[2]
    assert standing == 3 * 5
    assert left == [[], [], [], []]


@pytest.mark.core
def test_a_service_that_dies_after_it_was_ready_fails_the_start(yard: Yard) -> None:
    # it answers its probe, and is gone before the last of the others has
    dies = {"entrypoint": ["sh", "-c", "python3 -m auth_service & sleep 3; exit 9"]}
    late = {"entrypoint": ["sh", "-c", "sleep 10; exec python3 -m backend_service"]}
    stack = changed(yard.stack(), {"auth": dies, "backend": late})

    text, seconds = failure(stack, deadline=280)

    assert "service auth is exited, exit code 9" in text
    assert seconds < SOON
    assert yard.standing() == []


def test_a_slow_dependency_is_waited_for(yard: Yard) -> None:
    late = {"entrypoint": ["sh", "-c", "sleep 3; exec /usr/local/bin/entrypoint"]}
    stack = changed(yard.stack(), {"redis": late})
    try:
        startup = stack.up(deadline=240)
        answer = httpx.get(f"{stack.lease.url('backend')}/readyz")
    finally:
        stack.down()

    assert min(startup.probes["redis"], startup.probes["backend"]) >= 3
    assert answer.status_code == 200


def test_a_bridge_that_cannot_be_made_is_reported_in_the_engine_s_words(yard: Yard) -> None:
    network = {"driver_opts": {"com.docker.network.bridge.name": "lo"}}
    stack = changed(yard.stack(), {}, network=network)

    text, _ = failure(stack, deadline=240)

    assert "bridge" in text
    assert "lo" in text.split()
    assert yard.standing() == []


async def ask(url: str) -> int:
    connection: Any = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'"))
    finally:
        await connection.close()


@pytest.mark.timeout(1800)
def test_ready_postgres_answers_the_first_query_every_time(yard: Yard) -> None:
    stack = yard.stack()
    try:
        for _ in range(STARTS):
            stack.up(deadline=240)
            assert asyncio.run(ask(stack.lease.url("postgres"))) >= 0
            for container in yard.engine.containers(stack.labels):
                yard.engine.remove(container)
    finally:
        stack.down()

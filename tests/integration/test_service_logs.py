"""What the platform's containers write to their logs, and what a person sees who looks into one."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import httpx

from stackyard._util.process import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.stacks.environments.stack import Stack

ROWS = 50


def _container(stack: Stack, service: str) -> str:
    return stack.container(service).id


def _log(container: str) -> str:
    done = run(["docker", "logs", container], deadline=120)
    return done.stdout + done.stderr


def test_a_healthy_postgres_has_no_error_in_its_log(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    stack.up()
    container = _container(stack, "postgres")
    run(["docker", "exec", container, "/usr/local/bin/healthcheck"], deadline=120)

    log = _log(container)

    assert "ready for connections on port 5432" in log
    assert not re.search(r"FATAL|ERROR|PANIC|WARNING", log), log


def test_a_wrong_password_is_in_the_log_of_postgres(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    stack.up()
    container = _container(stack, "postgres")
    words = ["psql", "--host=127.0.0.1", "--username=app", "--command=SELECT 1", "app"]

    run(["docker", "exec", "--env=PGPASSWORD=wrong", container, *words], deadline=120, check=False)

    assert 'FATAL:  password authentication failed for user "app"' in _log(container)


def test_psql_on_a_terminal_prints_more_rows_than_the_terminal_has(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    stack.up()
    query = f"SELECT generate_series(1, {ROWS})"

    # the terminal that the engine makes has no size, so every answer is too long for it
    words = ["docker", "exec", "--tty", _container(stack, "postgres"), "psql", "-U", "postgres", "app", "-c", query]
    answer = run(words, deadline=120).stdout

    assert f"({ROWS} rows)" in answer
    assert "pager" not in answer


def test_a_service_logs_each_request_that_fails_without_what_came_with_it(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    stack.up()
    auth, secret = stack.lease.url("auth"), "hidden-and-secret"

    httpx.post(f"{auth}/login?{secret}", json={"name": "nobody", "password": secret})
    httpx.get(f"{auth}/me", headers={"Authorization": f"Bearer {secret}"})
    httpx.get(f"{auth}/healthz")
    run(["docker", "stop", _container(stack, "auth")], deadline=120)

    log = _log(_container(stack, "auth"))
    assert re.search(r" INFO POST /login 401 [0-9]+ ms$", log, re.MULTILINE)
    assert re.search(r" INFO GET /me 401 [0-9]+ ms$", log, re.MULTILINE)
    assert " INFO auth serves on port 8001" in log
    assert " INFO auth has stopped" in log
    assert "healthz" not in log
    assert secret not in log


def test_a_service_logs_what_it_waits_for_once_and_each_request_that_failed_for_it(
    new_stack: Callable[[], Stack],
) -> None:
    stack = new_stack()
    stack.up()
    postgres, auth = _container(stack, "postgres"), stack.lease.url("auth")
    account = {"name": "somebody", "password": "long enough"}

    run(["docker", "stop", postgres], deadline=120)
    failed = [httpx.post(f"{auth}/login", json=account).status_code for _ in range(5)]
    run(["docker", "start", postgres], deadline=120)
    end = time.monotonic() + 120
    while httpx.get(f"{auth}/readyz").status_code != 200:
        assert time.monotonic() < end

    log = _log(_container(stack, "auth"))
    assert failed == [503] * 5
    assert len(re.findall(r" WARNING POST /login 503 [0-9]+ ms$", log, re.MULTILINE)) == 5
    reasons = re.findall(r" WARNING waiting for postgres at postgres:5432: (.+)$", log, re.MULTILINE)
    assert reasons  # refused, or without a name: the engine forgets it soon after the stop
    assert all(one != next_one for one, next_one in pairwise(reasons))  # a line for each change
    assert log.count(" INFO connected to postgres at postgres:5432") == 2

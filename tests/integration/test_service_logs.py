"""What the platform's containers write to their logs, and what a person sees who looks into one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stackyard.process import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.stacks import Stack

ROWS = 50


def _container(stack: Stack, service: str) -> str:
    filters = [
        f"--filter=label=stackyard.lease={stack.lease.id}",
        f"--filter=label=com.docker.compose.service={service}",
    ]
    return run(["docker", "ps", "--quiet", *filters], deadline=20).stdout.strip()


def _log(container: str) -> str:
    done = run(["docker", "logs", container], deadline=20)
    return done.stdout + done.stderr


def test_a_healthy_postgres_has_no_error_in_its_log(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    stack.up()
    container = _container(stack, "postgres")
    run(["docker", "exec", container, "/usr/local/bin/healthcheck"], deadline=20)

    log = _log(container)

    assert "ready for connections on port 5432" in log
    assert not re.search(r"FATAL|ERROR|PANIC|WARNING", log), log


def test_a_wrong_password_is_in_the_log_of_postgres(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    stack.up()
    container = _container(stack, "postgres")
    words = ["psql", "--host=127.0.0.1", "--username=app", "--command=SELECT 1", "app"]

    run(["docker", "exec", "--env=PGPASSWORD=wrong", container, *words], deadline=20, check=False)

    assert 'FATAL:  password authentication failed for user "app"' in _log(container)


def test_psql_on_a_terminal_prints_more_rows_than_the_terminal_has(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    stack.up()
    query = f"SELECT generate_series(1, {ROWS})"

    # the terminal that the engine makes has no size, so every answer is too long for it
    words = ["docker", "exec", "--tty", _container(stack, "postgres"), "psql", "-U", "postgres", "app", "-c", query]
    answer = run(words, deadline=20).stdout

    assert f"({ROWS} rows)" in answer
    assert "pager" not in answer

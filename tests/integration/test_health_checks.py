from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import psutil

from stackyard._util.process import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.stacks.environments.stack import Stack


def names(pid: int) -> set[str]:
    """Return what a process and those below it are called; nothing before it runs."""
    if not pid:
        return set()
    process = psutil.Process(pid)
    return {each.name() for each in (process, *process.children(recursive=True))}


def test_a_health_check_that_is_killed_half_way_costs_no_other_connection(new_stack: Callable[[], Stack]) -> None:
    """A client whose parent was killed becomes a child of the server, which takes its end for a crash of its own."""
    stack = new_stack()
    stack.up()
    api, postgres = stack.engine.api, stack.container("postgres").id
    server = api.inspect_container(postgres)["State"]["Pid"]

    os.kill(server, signal.SIGSTOP)  # new connections wait
    try:
        check = api.exec_create(postgres, ["/usr/local/bin/healthcheck"])["Id"]
        api.exec_start(check, detach=True)
        end = time.monotonic() + 120
        while "psql" not in names(pid := api.exec_inspect(check)["Pid"]):
            assert time.monotonic() < end
        os.kill(pid, signal.SIGKILL)
    finally:
        os.kill(server, signal.SIGCONT)
    time.sleep(1)

    log = run(["docker", "logs", postgres], deadline=120)
    assert "terminated by signal" not in log.stdout + log.stderr
    assert "recovery" not in log.stdout + log.stderr

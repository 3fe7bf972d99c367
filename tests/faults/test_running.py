"""Stacks that suffer while they run: killed and paused services, tests that hang, nosy neighbours."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped] # it ships no types
import httpx
import psutil
import pytest
from tests.faults.fault_host import CLEAN, finish, until

from stackyard.docker.records import SERVICE_LABEL
from stackyard.project.environments import load_services

if TYPE_CHECKING:
    from tests.faults.fault_host import Yard

    from stackyard.leases import Lease
    from stackyard.stacks.environments.stack import Stack

ACCOUNT = {"name": "same.name", "password": "correct horse battery"}
KILL = (
    "labels = ['stackyard.lease=' + os.environ['STACKYARD_LEASE'], 'com.docker.compose.service=redis']; "
    "filters = [word for label in labels for word in ('--filter', 'label=' + label)]; "
    "ids = subprocess.run(['docker', 'ps', '-q', *filters], capture_output=True, text=True).stdout.split(); "
    "subprocess.run(['docker', 'kill', *ids], check=True, stdout=subprocess.DEVNULL)"
)


@pytest.mark.parametrize("service", [pytest.param("redis", marks=pytest.mark.core), "postgres", "auth", "backend"])
def test_a_killed_service_shows_in_the_status_at_once(yard: Yard, stack: Stack, service: str) -> None:
    yard.engine.api.kill(stack.container(service).id)
    until(lambda: not all(state.well for state in stack.status()))  # `verify.detection` measures how soon

    code, out, _ = yard.invoke("env.status", "--json", "--name", stack.lease.id)

    rows = {row["service"]: row for row in json.loads(out[: out.rindex("}") + 1])["services"]}
    assert code == 7
    assert (rows[service]["status"], rows[service]["exit_code"]) == ("exited", 137)
    assert {row["status"] for name, row in rows.items() if name != service} == {"running"}


@pytest.mark.core
def test_a_run_whose_service_died_is_marked_and_keeps_its_result(yard: Yard) -> None:
    yard.suite(KILL)

    code, out = finish(yard.flow())

    assert code == 0, out
    assert yard.report()["outcome"] == "passed"
    assert "service redis is exited, exit code 137" in yard.report()["degraded"][0]
    assert "degraded: service redis is exited" in out


def test_a_paused_database_recovers(stack: Stack) -> None:
    api, container = stack.engine.api, stack.container("postgres").id
    api.pause(container)
    paused = {state.service: state.status for state in stack.status()}["postgres"]
    api.unpause(container)

    stack.wait(deadline=240)

    assert paused == "paused"
    # the engine calls a paused container unhealthy until its next health check
    until(lambda: all(state.well for state in stack.status()), pause=0.2)


@pytest.mark.core
def test_a_cut_to_the_database_is_one_stack_s_and_heals(yard: Yard, stack: Stack) -> None:
    (identity,) = yard.spared
    beside = yard.book.find(identity).url("backend")
    network, database = f"{stack.lease.project}_platform", stack.container("postgres").id
    yard.engine.api.disconnect_container_from_network(database, network)
    answers = []

    def cut_off() -> bool:
        answers.append(httpx.get(f"{beside}/readyz").status_code)
        return httpx.get(f"{stack.lease.url('backend')}/readyz", timeout=60).status_code == 503

    until(cut_off, pause=0.1)
    yard.engine.api.connect_container_to_network(database, network, aliases=["postgres"])
    until(lambda: httpx.get(f"{stack.lease.url('backend')}/readyz", timeout=60).status_code == 200, pause=0.1)
    answers += [httpx.get(f"{beside}/readyz").status_code for _ in range(20)]

    assert set(answers) == {200}


def test_a_login_takes_as_long_for_a_stranger_as_for_a_user(stack: Stack) -> None:
    took: dict[str, list[float]] = {"same.name": [], "no.such.name": []}
    with httpx.Client(base_url=stack.lease.url("auth")) as auth:
        auth.post("/register", json=ACCOUNT).raise_for_status()
        for name in list(took) * 100:  # turn by turn: whatever else the machine does slows both down
            began = time.perf_counter()
            answer = auth.post("/login", json={"name": name, "password": "wrong horse battery"})
            took[name].append(time.perf_counter() - began)
            assert answer.status_code == 401

    ratio = statistics.median(took["same.name"]) / statistics.median(took["no.such.name"])

    assert 0.8 < ratio < 1.25


@pytest.mark.core
def test_tests_that_hang_are_ended_with_all_they_started_and_never_pass(yard: Yard) -> None:
    mark = f"3141{int(time.time()) % 10**6}"
    daemon = f"trap '' TERM; setsid sleep {mark} & sleep {mark}"
    yard.suite(
        f"import signal; signal.signal(15, signal.SIG_IGN); subprocess.Popen(['sh', '-c', {daemon!r}], "
        f"start_new_session=True); time.sleep(300)"
    )
    child = yard.start(yard.words(), {"STACKYARD_PAYLOAD_TIMEOUT": "2"})

    code, out = finish(child)

    assert code == 124, out
    assert yard.report()["outcome"] == "timed out"
    assert [
        process.pid for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])
    ] == []
    assert yard.remains() == CLEAN


async def rows(url: str) -> Any:
    connection: Any = await asyncpg.connect(url)
    await connection.close()


def with_credentials_of(lease: Lease, other: Lease, service: str) -> str:
    """Return the URL of *other*'s service with the credentials of *lease*."""
    return lease.url(service).split("@")[0] + "@" + other.url(service).split("@")[1]


@pytest.mark.core
def test_one_stack_reaches_nothing_of_another(yard: Yard, stack: Stack) -> None:
    (identity,) = yard.spared
    control = yard.book.find(identity)
    auth, backend = stack.lease.url("auth"), control.url("backend")
    httpx.post(f"{auth}/register", json=ACCOUNT).raise_for_status()
    token = httpx.post(f"{auth}/login", json=ACCOUNT).raise_for_status().json()["access_token"]

    foreign = httpx.get(f"{backend}/threads", headers={"Authorization": f"Bearer {token}"})
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(rows(with_credentials_of(stack.lease, control, "postgres")))

    assert foreign.status_code == 401
    for service in load_services().published:
        assert reach(stack, address_of(stack.lease, service, yard)) == "reached", service
        assert reach(stack, address_of(control, service, yard)) == "out of reach", service


def address_of(lease: Lease, service: str, yard: Yard) -> tuple[str, int]:
    """Return where a service listens in its stack's own network."""
    labels = [f"stackyard.lease={lease.id}", f"{SERVICE_LABEL}={service}"]
    (container,) = yard.engine.containers(labels)
    (network,) = yard.engine.api.inspect_container(container.id)["NetworkSettings"]["Networks"].values()
    return network["IPAddress"], {"postgres": 5432, "redis": 6379, "auth": 8001, "backend": 8000}[service]


def reach(stack: Stack, address: tuple[str, int]) -> str:
    """Try to connect from inside a stack's backend."""
    script = (
        f"import socket\ntry: socket.create_connection({address!r}, 1); print('reached')\n"
        f"except OSError: print('out of reach')"
    )
    made = stack.engine.api.exec_create(stack.container("backend").id, ["python3", "-c", script])
    return bytes(stack.engine.api.exec_start(made["Id"])).decode().strip()

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped] # it ships no types
import httpx
import pytest

from stackyard._util import process
from stackyard.cleanup import removal
from stackyard.docker.compose import taken
from stackyard.docker.lease_book import open_book
from stackyard.errors import LeaseNotFoundError, NotReadyError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.docker import Engine
    from stackyard.stacks.environments.stack import Stack

# a run that is killed while its stack stands: it says so, then waits for the signal
RUN = """
import sys, time
from stackyard.docker import Engine
from stackyard.project.environments import Environment
from stackyard.stacks.environments.launch import prepare_images
from stackyard.stacks.environments.stack import Stack
from stackyard.docker.in_use import strangers
from stackyard.docker.lease_book import open_book
environment = Environment.load("test")
engine = Engine()
book = open_book(None, engine)
lease = book.acquire(environment, variables=prepare_images(environment, print), strangers=lambda: strangers(engine))
Stack(environment, lease, book, engine).up()
print("up", lease.id, flush=True)
time.sleep(600)
"""


def test_a_stack_comes_up_usable_and_goes_without_a_trace(new_stack: Callable[[], Stack], engine: Engine) -> None:
    stack = new_stack()

    startup = stack.up()
    answer = httpx.get(f"{stack.lease.url('backend')}/readyz")
    states = stack.status()
    outcome = stack.down()

    assert answer.status_code == 200
    assert [state.service for state in states] == ["auth", "backend", "postgres", "redis"]
    assert startup.seconds <= stack.environment.budget.startup_s
    assert len(outcome.removed) == 5
    assert engine.everything(stack.labels) == []
    with pytest.raises(LeaseNotFoundError):
        stack.book.find(stack.lease.id)


def test_two_stacks_at_once_know_nothing_of_each_other(new_stack: Callable[[], Stack]) -> None:
    one, two = new_stack(), new_stack()
    one.up()
    two.up()

    accounts = {"name": "same.name", "password": "correct horse battery"}
    answers = [httpx.post(f"{stack.lease.url('auth')}/register", json=accounts) for stack in (one, two)]
    password = one.lease.variables()["STACKYARD_POSTGRES_URL"].split("@")[0]
    stolen = password + "@" + two.lease.variables()["STACKYARD_POSTGRES_URL"].split("@")[1]

    assert [answer.status_code for answer in answers] == [201, 201]
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(_connect(stolen))

    one.down()
    assert httpx.get(f"{two.lease.url('backend')}/readyz").status_code == 200


async def _connect(url: str) -> None:
    connection: Any = await asyncpg.connect(url)
    await connection.close()


@pytest.mark.parametrize("service", ["postgres", "redis", "auth", "backend"])
def test_any_service_is_restarted_alone(shared_stack: Stack, service: str) -> None:
    before = {state.service: state.started_at for state in shared_stack.status()}

    shared_stack.restart(service)
    shared_stack.wait(deadline=120)

    assert {state.service for state in shared_stack.status() if state.started_at != before[state.service]} == {service}


def test_every_container_is_confined_as_the_compose_file_says(shared_stack: Stack, engine: Engine) -> None:
    for service in ("postgres", "redis", "auth", "backend"):
        facts = engine.api.inspect_container(shared_stack.container(service).id)
        host = facts["HostConfig"]
        bound = [entry["HostIp"] for entries in (host["PortBindings"] or {}).values() for entry in entries]
        secrets = set(shared_stack.lease.secrets())

        assert facts["Config"]["User"] == "10001:10001"
        assert (host["CapDrop"], host["ReadonlyRootfs"], host["SecurityOpt"]) == (
            ["ALL"],
            True,
            ["no-new-privileges:true"],
        )
        assert host["Memory"] == host["MemorySwap"] > 0
        assert host["PidsLimit"] > 0
        assert host["NanoCpus"] > 0
        assert bound == ["127.0.0.1"]
        assert not [secret for secret in secrets if secret in str(facts)]


def test_a_start_that_fails_says_why_and_leaves_nothing(new_stack: Callable[[], Stack], engine: Engine) -> None:
    stack = new_stack()
    text = stack.lease.env_file.read_text()
    stack.lease.env_file.write_text(text.replace("STACKYARD_DATA_MOUNT=tmpfs", "STACKYARD_DATA_MOUNT=volume").replace(
        "STACKYARD_DATA_SOURCE=", "STACKYARD_DATA_SOURCE=postgres-data"
    ))  # fmt: skip

    with pytest.raises(NotReadyError) as caught:
        stack.up()

    assert "service postgres is exited" in str(caught.value)
    assert "POSTGRES_DURABLE" in str(caught.value)
    assert "to keep it for inspection: " in str(caught.value)  # the command, where a front end names it
    assert engine.everything(stack.labels) == []


def test_a_stolen_port_is_distinguished_and_leaves_nothing(new_stack: Callable[[], Stack], engine: Engine) -> None:
    stack = new_stack()
    with (
        socket.create_server(("127.0.0.1", stack.lease.ports["redis"])),
        pytest.raises(RefusedError, match="already") as caught,
    ):
        stack.up()

    assert taken(caught.value)
    assert engine.everything(stack.labels) == []


def test_what_a_killed_run_left_is_removed_and_nothing_else(new_stack: Callable[[], Stack], engine: Engine) -> None:
    control = new_stack()
    control.up()
    before = {state.id: state.started_at for state in control.status()}
    child = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    assert child.stdout
    lease = next(line.split()[1] for line in child.stdout if line.startswith("up "))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()

    outcome = removal.remove_stale()

    assert lease in outcome.leases
    assert outcome.left == []
    assert engine.everything([f"stackyard.lease={lease}"]) == []
    assert {state.id: state.started_at for state in control.status()} == before
    with pytest.raises(LeaseNotFoundError):
        open_book(None, engine).find(lease)


def test_a_foreign_container_in_the_network_keeps_the_lease(new_stack: Callable[[], Stack], engine: Engine) -> None:
    stack, foreign = new_stack(), new_stack()
    stack.up()
    foreign.up()
    network, guest = f"{stack.lease.project}_platform", foreign.container("redis").id
    engine.api.connect_container_to_network(guest, network)

    outcome = stack.down()
    still = stack.book.find(stack.lease.id)
    engine.api.disconnect_container_from_network(guest, network)
    later = stack.down()

    assert [item.kind for item in outcome.left] == ["network"]
    assert foreign.container("redis").name in outcome.left[0].reason
    assert still.id == stack.lease.id
    assert (later.left, later.leases) == ([], [stack.lease.id])


def test_plain_compose_starts_the_same_file_by_itself(new_stack: Callable[[], Stack], engine: Engine) -> None:
    stack = new_stack()
    compose = stack.compose

    soon = ["env", "STACKYARD_HEALTH_START_INTERVAL=250ms"]  # a lease's own checks begin after most runs are over
    process.run([*soon, *compose.command("up", "--wait", "--wait-timeout", "240")], deadline=280)
    health = {state.service: state.health for state in stack.status()}
    process.run(compose.command("down", "-v", "-t", "1"), deadline=280)

    assert health == dict.fromkeys(("auth", "backend", "postgres", "redis"), "healthy")
    assert engine.everything(stack.labels) == []

"""Clean-ups against resistance: guests in a network, deaf containers, crowds of dead runs, commands that collide."""

from __future__ import annotations

import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import docker.errors
import pytest
from tests.faults.fault_host import CHECKOUT, CLEAN, FULL, changed, finish, until

from stackyard.docker.ownership import HOST_LABEL
from stackyard.docker.records import LEASE_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.fault_host import Yard

    from stackyard.stacks.environments.stack import Stack

DEAD = 50 if FULL else 10

# a process that has many leases, each with a container and a network under it, and is killed
CROWD = """
import os, signal, sys
from stackyard.docker import Engine
from stackyard.project.environments import Environment
from stackyard.docker.in_use import strangers
from stackyard.docker.lease_book import open_book
engine = Engine()
book, environment = open_book(None, engine), Environment.load("test")
seen = strangers(engine)
for _ in range(int(sys.argv[2])):
    lease = book.acquire(environment, strangers=lambda: seen)
    labels = {"stackyard.lease": lease.id, "stackyard.host": book.host}
    ipam = {"Driver": "default", "Config": [{"Subnet": lease.subnet}]}  # the engine's own pools end after thirty
    engine.api.create_network(lease.project, labels=labels, ipam=ipam)
    name = engine.api.create_container(sys.argv[1], name=lease.project, labels=labels, entrypoint=["sleep", "600"])
    engine.api.connect_container_to_network(name, lease.project)
    engine.api.start(name)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.core
def test_a_guest_in_the_network_keeps_the_lease_until_it_has_left(yard: Yard, stack: Stack) -> None:
    network = f"{stack.lease.project}_platform"
    guest = next(name for kind, name in yard.untouchable if kind == "container" and name.startswith("stackyard-test-"))
    yard.engine.api.connect_container_to_network(guest, network)
    try:
        code, out, _ = yard.invoke("env.down", "--name", stack.lease.id)
        leased = [lease.subnet for lease in yard.book.leases()]
    finally:
        yard.engine.api.disconnect_container_from_network(guest, network)
    later, _, _ = yard.invoke("env.down", "--name", stack.lease.id)

    assert code == 8
    assert f"still used by {guest}" in out
    assert stack.lease.subnet in leased
    assert later == 0
    assert yard.remains() == CLEAN


def test_a_container_deaf_to_sigterm_is_gone_soon(yard: Yard) -> None:
    deaf = {"entrypoint": ["python3", "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]}
    stack = changed(yard.stack(), {"auth": deaf})
    stack.compose.model()
    stack.engine.api  # noqa: B018 - connects, so that only the removal is timed
    start = yard.start(stack.compose.command("up", "--detach", "--no-build", "--no-deps", "auth"))
    assert finish(start)[0] == 0

    removal = stack.down()

    assert removal.left == []
    assert removal.seconds < stack.environment.budget.cleanup_s


def test_anonymous_volumes_go_with_their_container(yard: Yard) -> None:
    stack = changed(yard.stack(), {"redis": {"volumes": ["/anonymous"]}})
    stack.up()
    mounts = yard.engine.api.inspect_container(stack.container("redis").id)["Mounts"]
    (volume,) = [mount["Name"] for mount in mounts if mount["Type"] == "volume"]

    stack.down()

    with pytest.raises(docker.errors.NotFound):
        yard.engine.api.inspect_volume(volume)


def test_a_paused_stack_can_be_removed(yard: Yard, stack: Stack) -> None:
    yard.engine.api.pause(stack.container("postgres").id)

    code, out, _ = yard.invoke("env.status", "--name", stack.lease.id)
    removal = stack.down()

    assert code == 7
    assert "paused" in out
    assert removal.left == []


@pytest.mark.core
def test_a_crowd_of_dead_runs_is_removed_by_one_command(
    yard: Yard, record_testsuite_property: Callable[[str, object], None]
) -> None:
    image = yard.references["STACKYARD_IMAGE_REDIS"]
    code, out = finish(yard.start([sys.executable, "-c", CROWD, image, str(DEAD)]), seconds=300)
    crowd = len(yard.standing())

    swept, said, seconds = yard.invoke("cleanup.stale")

    assert code == -signal.SIGKILL, out
    assert crowd == 2 * DEAD
    assert swept == 0, said
    assert f"{2 * DEAD} removed, {DEAD} leases released" in said
    record_testsuite_property(f"{DEAD} dead runs swept in s", seconds)
    assert seconds < 240
    assert yard.remains() == CLEAN


@pytest.mark.core
def test_a_sweep_removes_exactly_what_the_plan_said(yard: Yard, stack: Stack) -> None:
    finish(yard.flow(crash="probe"))

    _, planned, _ = yard.invoke("cleanup.plan", "--json")
    code, swept, _ = yard.invoke("cleanup.stale", "--json")

    rows = json.loads(planned)
    stale = {f"{row['kind']} {row['name']}" for row in rows if row["command"] == "stale" and row["kind"] != "lease"}
    assert code == 0, swept
    assert len(stale) == 5
    assert set(json.loads(swept)["removed"]) == stale
    assert {row["why"] for row in rows if row["command"] == "stale"} == {"its owner has ended"}
    assert {row["lease"] for row in rows if row["command"] == "all"} == {stack.lease.id, *yard.spared}


def test_many_sweeps_at_once_remove_a_dead_run_once(yard: Yard) -> None:
    finish(yard.flow(crash="probe"))

    with ThreadPoolExecutor(5) as pool:
        ends = list(pool.map(lambda _: yard.invoke("cleanup.stale"), range(5)))

    assert [code for code, _, _ in ends] == [0] * 5, ends
    assert sum("1 lease released" in out for _, out, _ in ends) == 1
    assert yard.remains() == CLEAN


def test_down_ten_times_at_once_ends_without_a_traceback(yard: Yard) -> None:
    code, out, _ = yard.invoke("env.up", "--name", "ten")
    assert code == 0, out

    with ThreadPoolExecutor(10) as pool:
        ends = list(pool.map(lambda _: yard.invoke("env.down", "--name", "ten"), range(10)))

    assert {code for code, _, _ in ends} <= {0, 5}, ends  # 5: no such lease any more
    assert "Traceback" not in "".join(out for _, out, _ in ends)
    assert yard.remains() == CLEAN


def test_up_twice_at_once_gives_both_the_same_stack(yard: Yard) -> None:
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda _: yard.invoke("env.up", "--name", "twice", "--json"), range(2)))
    standing = yard.standing()
    code, out, _ = yard.invoke("env.down", "--name", "twice")

    assert [end[0] for end in ends] == [0, 0], ends
    assert len(standing) == 5
    assert code == 0, out


def test_down_during_up_leaves_nothing(yard: Yard) -> None:
    child = yard.start([sys.executable, "-m", "invoke", "-r", str(CHECKOUT), "env.up", "--name", "x"])
    until(yard.standing)

    code, said, _ = yard.invoke("env.down", "--name", "x")
    ended, out = finish(child)

    assert code == 0, said
    assert ended == 0, out
    assert yard.remains() == CLEAN


def test_what_only_looks_like_ours_survives_the_removal_of_everything(yard: Yard, stack: Stack) -> None:
    found = yard.engine.everything([f"{HOST_LABEL}={yard.host}", f"{LEASE_LABEL}={stack.lease.id}"])

    removal = stack.down()
    code, said, _ = yard.invoke("cleanup.stale", "--volumes")

    assert len(removal.removed) == len(found) == 5
    assert code == 0, said  # the fixture proves that nothing else has changed

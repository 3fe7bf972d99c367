"""Engines that are killed, frozen, restarted, filled up or lose power; each on an engine of the tests' own."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.faults.fault_host import CLEAN, finish, until
from tests.faults.private_hosts import Outpost, age_boot, ids, outpost, signal_all

from stackyard.docker.records import SERVICE_LABEL
from stackyard.project.environments import load_services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.fault_host import Yard

SLOW = "open('started', 'w').close(); time.sleep(2)"
HANG_S = 60.0  # a command on a frozen engine makes at most two calls, each with a deadline of 20 s


@pytest.fixture(scope="module")
def post_for_all(yard_for_all: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outpost]:
    """An engine that leaves containers alone when it ends, as a careful administrator's."""
    with outpost(yard_for_all, tmp_path_factory.mktemp("post") / "state", "--live-restore") as made:
        yield made


@pytest.fixture
def post(post_for_all: Outpost, yard_for_all: Yard) -> Iterator[Outpost]:
    """The outpost with a payload that passes; afterwards it must be clean, and nothing else touched, here or there."""
    post_for_all.suite("assert os.environ['STACKYARD_BACKEND_URL']")
    there, here = yard_for_all.snapshot(), post_for_all.snapshot()
    try:
        yield post_for_all
        assert post_for_all.remains() == CLEAN
        assert post_for_all.snapshot() == here
        assert yard_for_all.snapshot() == there
    finally:
        if "dockerd" not in post_for_all.private.children:
            post_for_all.start_engine()
        for lease in post_for_all.book.leases():  # what a failed test left
            if lease.id not in post_for_all.spared:
                post_for_all.invoke("env.down", "--name", lease.id)


@pytest.mark.core
def test_an_engine_killed_during_a_removal_costs_only_another_removal(post: Outpost) -> None:
    code, out = _cut_off(post)
    leased = [lease.parallel_id for lease in post.book.leases()]
    away, said, _ = post.invoke("env.down", "--name", "cut")

    post.start_engine()
    later, told, _ = post.invoke("env.down", "--name", "cut")

    assert (code, away) == (3, 3), out + said
    assert "Traceback" not in out + said
    assert leased == ["control", "cut"]
    assert later == 0, told


def _cut_off(post: Outpost) -> tuple[int, str]:
    """Kill the engine in the midst of a removal; return the end of its command."""
    for _ in range(5):  # on a busy machine a removal may be over before this process sees that it has begun
        post.up("cut")
        before = len(post.standing())
        down = post.begin("env.down", "--name", "cut")
        until(lambda before=before: len(post.standing()) < before, pause=0.002)  # type: ignore[misc]
        post.private.kill()
        code, out = finish(down)
        if code:
            return code, out
        post.start_engine()
    pytest.fail("no removal was seen under way")


def test_a_sweep_without_an_engine_keeps_the_leases_for_the_next(post: Outpost) -> None:
    finish(post.flow(crash="probe"))
    post.private.stop()
    code, out, _ = post.invoke("cleanup.stale")
    leased = len(post.book.leases())

    post.start_engine()
    later, said, _ = post.invoke("cleanup.stale")

    assert code == 3, out
    assert leased == 2
    assert later == 0, said


@pytest.mark.core
def test_an_engine_killed_during_a_start_is_one_clear_failure(post: Outpost) -> None:
    child = post.flow()
    until(lambda: any(item.startswith("container") for item in post.standing()), pause=0.002)
    post.private.kill()
    code, out = finish(child)

    post.start_engine()
    later, said, _ = post.invoke("cleanup.stale")

    assert code == 3, out
    assert "no engine answers" in out
    assert "Traceback" not in out
    assert later == 0, said


def test_tests_go_on_while_an_engine_that_keeps_containers_restarts(post: Outpost) -> None:
    mark = post.root / "started"
    mark.unlink(missing_ok=True)
    post.suite(SLOW)
    child = post.flow()
    until(mark.exists)

    post.private.kill()
    post.start_engine()
    code, out = finish(child)

    assert code == 0, out
    assert post.report()["outcome"] == "passed"


def test_a_frozen_engine_ends_a_run_in_time_and_costs_only_a_sweep(post: Outpost) -> None:
    mark = post.root / "started"
    mark.unlink(missing_ok=True)
    post.suite(SLOW)
    child = post.start(post.words(), {"STACKYARD_ENGINE_TIMEOUT": "22s"})
    until(mark.exists)
    began = time.monotonic()
    post.private.signal(signal.SIGSTOP)
    try:
        code, out = finish(child, seconds=2 * HANG_S)
        seconds = time.monotonic() - began
    finally:
        post.private.signal(signal.SIGCONT)
    swept, said, _ = post.invoke("cleanup.stale")

    assert code == 3, out
    assert re.search(r"the engine at \S+ \(from DOCKER_HOST\) did not answer within", out)
    assert "Traceback" not in out
    assert seconds < HANG_S
    assert swept == 0, said


@pytest.mark.core
def test_a_full_disk_is_named_and_leaves_nothing(post: Outpost) -> None:
    filler = post.private.fill()
    try:
        code, out, _ = post.invoke("env.up", "--name", "full")
        remains = post.remains()
    finally:
        filler.unlink()

    assert code in {3, 7}, out
    assert "no space left on device" in out
    assert remains == CLEAN


def test_a_stack_can_be_removed_while_the_disk_is_full(post: Outpost) -> None:
    post.up("full")
    filler = post.private.fill()
    try:
        code, out, _ = post.invoke("env.down", "--name", "full")
        remains = post.remains()
    finally:
        filler.unlink()

    assert code == 0, out
    assert remains == CLEAN


def test_a_service_whose_shim_dies_is_shown_and_can_be_removed(post: Outpost) -> None:
    post.up("shimless")
    services = {item["Config"]["Labels"][SERVICE_LABEL]: item["Id"] for item in post.containers("shimless")}
    (shim,) = post.private.shims(services["redis"])

    shim.kill()
    until(lambda: post.invoke("env.status", "--name", "shimless")[0] == 7)
    status = post.invoke("env.status", "--name", "shimless")[1]
    code, out, _ = post.invoke("env.down", "--name", "shimless")

    ended = {line.split()[0] for line in status.splitlines() if "exited" in line}
    assert ended == {"redis"}
    assert code == 0, out


def test_images_of_ours_that_no_one_needs_go_and_no_others(post: Outpost) -> None:
    api = post.engine.api
    for name, label in (("stackyard/redis:debian-000000000000", "stackyard.image=redis"), ("theirs/redis:1", "x=y")):
        repository, tag = name.split(":")
        api.import_image_from_data(b"\0" * 10240, repository=repository, tag=tag, changes=[f"LABEL {label}"])
    planned = post.invoke("cleanup.images", "--dry-run")
    code, out, _ = post.invoke("cleanup.images", "--yes")
    tags = {tag for row in api.images() for tag in row["RepoTags"]}
    aliases = {tag for tag in tags if tag in {f"stackyard/{service}:debian" for service in load_services().published}}
    api.remove_image("theirs/redis:1")

    assert planned[0] == code == 0, out
    assert "stackyard/redis:debian-000000000000" in planned[1]
    assert out.splitlines()[0] == "removed stackyard/redis:debian-000000000000"
    assert tags - aliases == {"theirs/redis:1", *post.references.values()}


@pytest.mark.timeout(300)
def test_what_a_killed_engine_and_a_power_cut_leave_is_removed(
    yard_for_all: Yard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    there = yard_for_all.snapshot()
    with outpost(yard_for_all, tmp_path_factory.mktemp("cut") / "state") as post:
        _lose_containers_behind_a_dead_engine(post)
        post.untouchable[:] = [item for item in post.untouchable if item[1].startswith("stackyard-test-")]
        here = ids(post.snapshot())
        _lose_power(post)

        assert ids(post.snapshot()) == here
        assert post.remains() == CLEAN
    assert yard_for_all.snapshot() == there


def _lose_containers_behind_a_dead_engine(post: Outpost) -> None:
    """Kill the engine, then the containers' processes: it still lists them, their network has their endpoints."""
    post.up("behind")
    pids = [item["State"]["Pid"] for item in post.containers("behind")]
    post.private.kill()
    signal_all(pids, signal.SIGKILL)
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))

    post.start_engine()
    code, out, _ = post.invoke("env.down", "--name", "behind")

    assert code == 0, out
    assert post.remains() == CLEAN


def _lose_power(post: Outpost) -> None:
    """End everything at once; the next boot finds a detached lease, and one of a run, of the boot before."""
    post.up("before")
    finish(post.flow(crash="probe"))
    standing = len(post.standing())
    post.private.power_off()
    age_boot(post.state)

    post.start_engine()
    code, out, _ = post.invoke("cleanup.stale")

    assert standing == 10
    assert code == 0, out
    assert "3 leases released" in out  # the control's too: no stack but one that keeps its data outlives a boot
    post.spared.clear()


@pytest.mark.timeout(300)
def test_a_stack_that_keeps_its_data_comes_back_by_itself_after_its_engine_was_restarted(
    yard_for_all: Yard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with outpost(yard_for_all, tmp_path_factory.mktemp("again") / "state") as post:
        words = ("env.up", "--environment", "dev", "--json")
        code, out, _ = post.invoke(*words)
        assert code == 0, out
        before = {item["Id"]: item["State"]["StartedAt"] for item in post.containers("dev")}
        fleeting = {item["Id"] for item in post.containers("control")}
        post.private.stop()
        post.start_engine()

        until(lambda: post.invoke("env.wait", "--name", "dev")[0] == 0)
        after = {item["Id"]: item["State"]["StartedAt"] for item in post.containers("dev")}
        ended = {item["Id"] for item in post.containers("control") if item["State"]["Status"] == "exited"}
        removed, said, _ = post.invoke("env.down", "--name", "dev", "--volumes", "--yes")

        assert before.keys() == after.keys()
        assert all(before[identity] < after[identity] for identity in before)
        assert ended == fleeting  # a test's stack stays down
        assert removed == 0, said

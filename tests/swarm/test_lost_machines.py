"""Machines of a Swarm that are drained, cut off or lost under copies: what goes on, what moves, and what is said."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.swarm import nodes
from tests.swarm.test_commands import typed
from tests.swarm.test_copies import answers, left, written

from stackyard.docker import Engine
from stackyard.docker.swarm import Swarm
from stackyard.errors import EngineError, NotReadyError
from stackyard.running.swarm_stack import SwarmStack
from stackyard.sites.swarm import copies
from stackyard.sites.swarm.copies import Copy
from stackyard.sites.swarm.leases import LEASE_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.swarm.nodes import Node

    from stackyard.project import Project

pytestmark = pytest.mark.timeout(400)
SLOW: dict[str, Any] = {"command": ["sleep", "600"], "healthcheck": {"test": ["CMD", "false"], "interval": "1s"}}


def on(node: str, **more: Any) -> dict[str, Any]:
    return {"deploy": {"placement": {"constraints": [f"node.hostname == {node}"]}}, **more}


def all_answer(copy: Copy) -> bool:
    """Say whether all three containers answer; one that has just been started may not yet."""
    found = copy.addresses
    try:
        return len(found) == 3 and all(answers(f"http://{address.where}") for address in found)
    except OSError:
        return False


def until(happened: Callable[[], object], seconds: float = 90) -> float:
    """Ask until it has *happened*; managers that elect a leader do not answer, and are asked again."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with contextlib.suppress(EngineError):
            if happened():
                return time.monotonic() - began
        time.sleep(0.2)
    pytest.fail(f"it has not happened within {seconds:g} s")


@pytest.fixture
def drained(machines: list[Node]) -> Iterator[Callable[[], None]]:
    """Give a function that drains n3; the node takes tasks again after the test."""

    def set_to(availability: str) -> None:
        machines[0].docker("node", "update", "--availability", availability, "n3")

    yield lambda: set_to("drain")
    set_to("active")


def test_a_node_drained_under_a_start_fails_it_at_once(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node], drained: Callable[[], None]
) -> None:
    project = written(tmp_path, {"web": {"image": box, **on("n3")}, "slow": {"image": box, **on("n1"), **SLOW}})
    began = time.monotonic()

    with pytest.raises(NotReadyError, match=r"web: the Swarm ended its container on node n3 \(availability drain\), "):
        start_and(project, site, drained)
    assert time.monotonic() - began < 60
    assert left(site, machines) == []


def start_and(project: Project, site: Swarm, act: Callable[[], object]) -> Copy:
    """Start a copy, and do something as soon as its first container runs."""

    def watch() -> None:
        until(lambda: any(task.state == "running" for task in site.tasks(LEASE_LABEL) if task.service == "web"))
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return copies.start(project, site.engine, deadline=200)
    finally:
        thread.join()


def test_a_copy_on_a_drained_node_moves_or_says_that_it_is_gone(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node], drained: Callable[[], None]
) -> None:
    gone = {"image": box, "ports": ["81"], **on("n3")}
    moves = {"image": box, "ports": ["80"], "restart": "on-failure"}
    preferred = {"deploy": {"replicas": 3, "placement": {"max_replicas_per_node": 2}}}
    copy = copies.start(written(tmp_path, {"gone": gone, "moves": moves | preferred}), site.engine, deadline=100)
    stack = SwarmStack(copy)
    lost = machines[2].address
    assert lost in {address.host for address in copy.addresses}

    drained()
    until(lambda: all_answer(copy) and lost not in {address.host for address in copy.addresses})
    with pytest.raises(NotReadyError, match=r"service gone answers nowhere now: .* on node n3 \(availability drain"):
        stack.url("gone")
    copy.down()
    assert left(site, machines) == []


def test_a_node_that_is_cut_off_and_comes_back_keeps_nothing_of_what_moved(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    away, address = machines[2], machines[2].address
    web = {"image": box, "ports": ["80"], "restart": "on-failure", "deploy": {"replicas": 3}}
    copy = copies.start(written(tmp_path, {"web": web}), site.engine, deadline=100)
    assert address in {one.host for one in copy.addresses}
    try:
        away.cut(off=True)
        until(lambda: {node.state for node in site.nodes() if node.name == "n3"} == {"down"})
        until(lambda: all_answer(copy) and address not in {one.host for one in copy.addresses})
    finally:
        away.cut(off=False)
    until(lambda: all(node.state == "ready" for node in site.nodes()))
    copy.down()
    assert left(site, machines) == []


def test_copies_outlive_the_leading_manager_of_three(box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = {"image": box, "ports": ["80"], "restart": "on-failure", "deploy": {"replicas": 3}}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))
    with nodes.swarm([box], managers=3) as machines:
        monkeypatch.setenv("DOCKER_HOST", machines[1].host)
        assert typed(tmp_path, "up", "--name", "mine").returncode == 0
        with Engine() as engine:
            before, lost = Copy.of(engine, "mine").addresses, machines[0].address
            machines[0].kill()
            until(lambda: {node.state for node in Swarm(engine).nodes() if node.name == "n1"} == {"down"})
            until(lambda: all_answer(Copy.of(engine, "mine")))
            after = Copy.of(engine, "mine").addresses

        stayed = [one for one in before if one.host != lost]
        assert len(stayed) == 2
        assert set(stayed) < set(after)
        second = typed(tmp_path, "up", "--name", "second", "--timeout", "100s")
        assert second.returncode == 0, second.stderr
        assert typed(tmp_path, "down", "--all").returncode == 0
        machines[2].kill()
        until(lambda: typed(tmp_path, "ps").returncode == 3)
        alone = typed(tmp_path, "ps")
        assert (alone.returncode, alone.stderr.count("\n")) == (3, 1), alone.stderr


def test_a_node_that_was_removed_and_a_swarm_that_was_left_end_commands_with_their_reason(
    box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = written(tmp_path, {"web": {"image": box, "ports": ["80"], **on("n2")}})
    with nodes.swarm([box], count=2) as machines:
        monkeypatch.setenv("DOCKER_HOST", machines[0].host)
        with Engine() as engine:
            copies.start(project, engine, name="mine", ttl=600, deadline=100)
            machines[1].kill()
            machines[0].docker("node", "rm", "--force", "n2")
            ports, ps, down = (typed(tmp_path, word, "mine", "--json") for word in ("ports", "ps", "down"))
            slow = written(tmp_path, {"web": {"image": box}, "slow": {"image": box, **SLOW}})

            assert (ports.returncode, json.loads(ports.stdout)["ports"]) == (0, []), ports.stderr
            assert (ps.returncode, down.returncode) == (7, 0), ps.stderr + down.stderr
            (row,) = json.loads(ps.stdout)["services"]
            assert row["status"] in {"orphaned", "lost"}  # the latter until the Swarm has written it down
            with pytest.raises(EngineError, match="This node is not a swarm manager"):
                start_and(slow, Swarm(engine), lambda: machines[0].docker("swarm", "leave", "--force"))
        left_swarm = typed(tmp_path, "ps")

        assert (left_swarm.returncode, left_swarm.stderr.count("\n")) == (3, 1), left_swarm.stderr
        assert "manages no Swarm; 'docker swarm init' there, or name a manager" in left_swarm.stderr
        assert machines[0].holds(LEASE_LABEL) == []

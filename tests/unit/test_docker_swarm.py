"""What the Swarm's lists say, whatever a node leaves out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from stackyard.docker.swarm import Node, Swarm, Task, detailed, member


def row(container: str, ports: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    status = {"State": "running", "ContainerStatus": {"ContainerID": container, "ExitCode": -1}, "PortStatus": ports}
    return {"DesiredState": "running", "CreatedAt": "2026-01-01", "Spec": {"ContainerSpec": {"Labels": {}}},
            "Status": status, **more}  # fmt: skip


PORTS = {"Ports": [{"TargetPort": 80, "Protocol": "tcp", "PublishedPort": 32768}]}


def listed(*answers: list[dict[str, Any]]) -> list[list[Task]]:
    """Ask one Swarm for its tasks several times."""
    waiting = iter(answers)
    engine = SimpleNamespace(api=SimpleNamespace(tasks=lambda **_: next(waiting)))
    swarm = Swarm(cast("Any", engine))
    swarm.remember({"kept": {(81, "tcp"): 5}})
    return [swarm.tasks("label") for _ in answers]


@pytest.mark.parametrize("without", [{}, None])
def test_a_container_keeps_its_ports_though_its_node_tells_them_to_no_new_leader(without: dict[str, Any]) -> None:
    before, after = listed([row("a", PORTS)], [row("a", without), row("b", without), row("kept", without)])

    assert [dict(task.ports) for task in before] == [{(80, "tcp"): 32768}]
    assert [dict(task.ports) for task in after] == [{(80, "tcp"): 32768}, {}, {(81, "tcp"): 5}]


def test_an_exit_code_that_is_not_known_is_none() -> None:
    ((found,),) = listed([row("a", PORTS)])

    assert (found.exit_code, found.said) == (0, "running")


def test_what_the_manager_itself_writes_into_a_log_is_kept_whole() -> None:
    line = "Error grabbing logs: warning: incomplete log stream: node n3 is not available"

    assert detailed(line) == ("", "", line)
    assert detailed("2026-11-28T10:00:02Z com.docker.swarm.task.id=t1 a line") == (
        "2026-11-28T10:00:02Z",
        "t1",
        "a line",
    )


def test_a_node_says_why_it_takes_no_tasks() -> None:
    nodes = [Node(id="1", name="n1", address="", state="ready", availability=word) for word in ("active", "drain")]

    assert [node.shown for node in nodes] == ["n1", "n1 (availability drain)"]


@pytest.mark.parametrize(("swarm", "expected"), [({"NodeID": "n"}, "n"), ({"NodeID": ""}, ""), ({}, "")])
def test_an_engine_knows_which_node_it_is(swarm: dict[str, str], expected: str) -> None:
    engine = SimpleNamespace(api=SimpleNamespace(info=lambda: {"Swarm": swarm}))

    assert member(cast("Any", engine)) == expected

"""A Swarm whose manager is on another machine: reached over TCP with TLS, through a Docker context and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.swarm import nodes
from tests.swarm.test_commands import typed
from tests.swarm.test_copies import answers, left
from tests.swarm.test_lost_machines import on

from stackyard.docker.ownership import COPY_LABEL
from stackyard.docker.remote_claims import CLAIM

if TYPE_CHECKING:
    from pathlib import Path

    from tests.swarm.nodes import Node

    from stackyard.docker.swarm import Swarm

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def manager(site: Swarm, contexts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands reach the manager by its context alone."""
    del site, contexts
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "n1")


def test_a_copy_on_a_swarm_whose_manager_tls_reaches_answers_and_leaves_nothing(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    services = {f"web{number}": {"image": box, "ports": ["80"], **on(f"n{number}")} for number in (1, 2)}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": services}))

    up = typed(tmp_path, "up", "--name", "mine", "--json")
    assert up.returncode == 0, up.stderr
    ports = json.loads(up.stdout)["ports"]
    shown = json.loads(typed(tmp_path, "ports", "--name", "mine", "--json").stdout)["ports"]
    assert [port["host"] for port in ports] == [node.address for node in machines[:2]]
    assert shown == ports
    assert all(answers(port["url"]) for port in ports)
    for service in services:
        inside = typed(tmp_path, "exec", service, "--", "echo", service)
        assert inside.stdout == f"{service}\n", inside.stderr
        assert typed(tmp_path, "logs", service).returncode == 0
    down = typed(tmp_path, "down", "mine")

    assert down.returncode == 0, down.stderr
    assert left(site, machines) == []


def test_the_manager_s_own_engine_is_a_site_as_any_other(box: str, tmp_path: Path, machines: list[Node]) -> None:
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": {"image": box, "ports": ["80"]}}}))

    up = typed(tmp_path, "up", "--name", "mine", "--json", site="context:n1")
    assert up.returncode == 0, up.stderr
    (port,) = json.loads(up.stdout)["ports"]
    assert (port["host"], answers(port["url"])) == (machines[0].address, True)
    assert len(machines[0].holds(COPY_LABEL)) == 1
    down = typed(tmp_path, "down", "mine", site="context:n1")

    assert down.returncode == 0, down.stderr
    assert machines[0].holds(COPY_LABEL) + machines[0].holds(CLAIM) == []


def test_a_manager_whose_certificate_is_not_trusted_is_one_line(tmp_path: Path, machines: list[Node]) -> None:
    host = machines[0].over_tls.partition(",")[0]
    nodes.docker("context", "create", "stranger", "--docker", f"{host},{machines[1].keys}")
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": {"image": "any"}}}))

    refused = typed(tmp_path, "up", site="context:stranger")

    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1), refused.stderr
    assert "certificate verify failed" in refused.stderr

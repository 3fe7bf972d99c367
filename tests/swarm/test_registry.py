"""Images that the nodes do not have: a registry on the Swarm, pushes by content, pulls by digest."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.swarm import nodes
from tests.swarm.test_commands import typed
from tests.swarm.test_copies import left

from stackyard._util import process
from stackyard.sites.swarm.registry import LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.swarm.nodes import Node

    from stackyard.docker.swarm import Swarm

pytestmark = pytest.mark.timeout(400)
IMAGE: Final = "stackyard-test/registry"
FOLDER: Final = Path(__file__).parents[2] / "compose" / "registry"
# nodes that have none of the images: the manager builds from one, and none of them has what it builds
DOCKERFILE: Final = "FROM {box}\nRUN echo {word} >/word\nCMD sh -c 'cat /word; exec httpd'\n"


def image_of_a_registry(machines: list[Node]) -> None:
    """Let the manager's engine have Debian's registry."""
    words = ["docker", "build", "--quiet", "--build-arg", f"BASE={nodes.base()}", "--tag", IMAGE, str(FOLDER)]
    process.run(words, deadline=600, env={"DOCKER_HOST": ""})
    machines[0].load([IMAGE])


@pytest.fixture
def registry(machines: list[Node], site: Swarm, tmp_path: Path) -> Iterator[dict[str, Any]]:
    del site  # DOCKER_HOST is set
    image_of_a_registry(machines)
    done = typed(tmp_path, "site", "registry", "--image", IMAGE, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    for node in machines:
        nodes.docker("exec", node.container, "sh", "-ec", "\n".join(found["trust"]))
    yield found
    removed = typed(tmp_path, "site", "registry", "--remove", "--yes")
    assert sorted(removed.stdout.split()) == sorted(
        [*"removed service removed config removed secret removed volume".split(), *["stackyard-registry"] * 4]
    ), removed.stderr


def test_a_build_runs_on_every_node_and_each_pulls_the_same_content(
    registry: dict[str, Any], box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(box=box, word="first"))
    web = {"build": ".", "ports": ["80"], "deploy": {"replicas": 3, "placement": {"max_replicas_per_node": 1}}}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))

    up = typed(tmp_path, "up", "--name", "mine", "--json")
    assert up.returncode == 0, up.stderr
    ports = json.loads(up.stdout)["ports"]
    (item,) = site.labelled("service", LABEL.replace("registry", "lease"))
    shown = machines[0].docker("service", "inspect", item.id)
    image = json.loads(shown)[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    for port in ports:
        with urllib.request.urlopen(port["url"], timeout=20) as reply:  # noqa: S310 - http
            assert reply.read() == b"box"

    assert {port["host"] for port in ports} == {node.address for node in machines}
    assert image.startswith(f"{registry['address']}/stackyard@sha256:")
    assert typed(tmp_path, "logs", "web", "--name", "mine").stdout.splitlines() == ["first"] * 3
    assert machines[0].docker("images", "--format", "{{.Tag}}", f"{registry['address']}/stackyard") in {"", "<none>"}
    assert typed(tmp_path, "down", "mine").returncode == 0
    assert left(site, machines[1:]) == []


def test_the_registry_that_runs_is_shown_and_one_at_another_port_is_refused(
    registry: dict[str, Any], tmp_path: Path
) -> None:
    again = typed(tmp_path, "site", "registry", "--json")
    other = typed(tmp_path, "site", "registry", "--port", "5001")
    kept = typed(tmp_path, "site", "registry", "--remove")

    assert json.loads(again.stdout) == registry
    assert (other.returncode, other.stderr) == (
        2, f"the Swarm has a registry at {registry['address']}; remove that one first, or leave the port out\n"
    )  # fmt: skip
    assert (kept.returncode, kept.stderr) == (2, "nothing removed; --yes removes without asking\n")


def test_a_node_that_does_not_trust_the_registry_is_a_start_s_failure_with_the_reason(
    registry: dict[str, Any], box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    folder = f"/etc/docker/certs.d/{registry['address']}"
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(box=box, word="second"))
    web = {"build": ".", "deploy": {"placement": {"constraints": ["node.hostname == n2"]}}}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))
    nodes.docker("exec", machines[1].container, "rm", "-r", folder)
    start = typed(tmp_path, "up", "--name", "mine")
    nodes.docker("exec", machines[0].container, "rm", "-r", folder)
    push = typed(tmp_path, "up", "--name", "mine")

    assert start.returncode == 7
    assert "web rejected" in start.stderr
    assert "on node n2" in start.stderr
    assert push.returncode == 6
    assert push.stderr.splitlines()[-1].endswith(
        "see how a node trusts the registry's certificate ('stackyard site registry --site swarm')"
    )
    assert left(site, machines[1:]) == []


def test_a_port_that_is_taken_on_the_node_is_named_and_nothing_stays(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    image_of_a_registry(machines)
    holder = machines[0].docker("run", "--detach", "--publish", "5002:80", box)
    try:
        refused = typed(tmp_path, "site", "registry", "--image", IMAGE, "--port", "5002")
    finally:
        machines[0].docker("rm", "--force", holder)

    assert refused.returncode == 7
    assert "port is already allocated" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert site.everything(LABEL) == []
    assert machines[0].holds(LABEL) == []

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.projects.expected import BARE

from stackyard.errors import NotReadyError, UsageError
from stackyard.project import Project
from stackyard.sites.swarm import copies, removal
from stackyard.sites.swarm.leases import LABEL, LEASE_LABEL, Leases
from stackyard.stacks.readiness import waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.swarm.nodes import Node

    from stackyard.docker.swarm import Swarm

pytestmark = pytest.mark.timeout(300)  # the first one makes the nodes, and images that have changed
MANY = 12


def written(folder: Path, services: dict[str, object]) -> Project:
    (folder / "compose.yaml").write_text(json.dumps({"services": services}))
    return Project.find(folder, environment=BARE)


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=20) as reply:  # noqa: S310 - http
        return bool(reply.read() == b"box")


def left(site: Swarm, machines: list[Node]) -> list[object]:
    """List what is on the Swarm, and what its nodes hold; they remove a container a moment after its task."""
    until = time.monotonic() + 20
    while (held := [one for node in machines for one in node.holds(LEASE_LABEL)]) and time.monotonic() < until:
        time.sleep(0.2)
    return [*site.everything(LEASE_LABEL), *site.labelled("config", LABEL), *held]


@pytest.mark.parametrize(
    "name",
    [pytest.param("five-services", marks=pytest.mark.core), "secrets-and-configs", "replicas", "database-folder"],
)
def test_a_foreign_project_runs_on_the_swarm_and_leaves_nothing(
    name: str, project: Callable[[str], Path], site: Swarm, machines: list[Node]
) -> None:
    found = Project.find(project(name), environment=BARE | {"LEDGER_KEY": "k"})
    copy = copies.start(found, site.engine, deadline=60)
    urls = [address.url for address in copy.addresses if address.url]
    proved = {one.service for one in copy.startup.ready.services} if copy.startup.ready else set()

    assert all(map(answers, urls))
    assert proved == {word for word, service in found.model()["services"].items() if service.get("scale") != 0}
    copy.down()
    assert left(site, machines) == []


def test_order_is_kept(project: Callable[[str], Path], site: Swarm) -> None:
    copy = copies.start(Project.find(project("five-services"), environment=BARE), site.engine, deadline=60)
    try:
        assert copy.startup.critical_path == ["db", "migrate", "web", "worker"]
    finally:
        copy.down()


def test_twelve_copies_at_once_spread_over_the_nodes(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    web = {"image": box, "ports": ["80"], "volumes": ["data:/data"]}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}, "volumes": {"data": {}}}))
    found = Project.find(tmp_path, environment=BARE)
    with ThreadPoolExecutor(MANY) as threads:
        started = list(threads.map(lambda _: copies.start(found, site.engine, deadline=200), range(MANY)))
        addresses = [copy.addresses[0] for copy in started]

        assert len({address.where for address in addresses}) == MANY
        assert {address.host for address in addresses} == {node.address for node in machines}
        assert all(answers(f"http://{address.where}") for address in addresses)
        list(threads.map(lambda copy: copy.down(), started))
    assert left(site, machines) == []


def test_the_copy_that_has_the_name_is_returned_and_another_project_does_not_get_it(
    box: str, tmp_path: Path, site: Swarm
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (written(tmp_path / word, {"web": {"image": box, "ports": ["80"]}}) for word in "ab")
    copy = copies.start(one, site.engine, name="mine", ttl=600, deadline=60)
    try:
        again = copies.start(one, site.engine, name="mine", ttl=600)

        assert (again.lease.id, again.addresses) == (copy.lease.id, copy.addresses)
        with pytest.raises(UsageError, match="the name mine belongs to a copy of a-"):
            copies.start(other, site.engine, name="mine", ttl=600)
    finally:
        copy.down()


def test_a_stack_that_does_not_fit_waits_and_says_the_scheduler_s_reason(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    large = {"image": box, "deploy": {"resources": {"reservations": {"memory": "900g"}}}}
    said: list[str] = []

    with pytest.raises(NotReadyError, match=r"no suitable node \(insufficient resources on 3 nodes"):
        copies.start(written(tmp_path, {"web": large}), site.engine, deadline=5, progress=said.append)
    assert "s: waits for a node: no suitable node (insufficient resources on 3 nodes)" in said[0]
    assert left(site, machines) == []


FAILURES: dict[str, tuple[dict[str, object], str]] = {
    "image": ({"image": "box-that-is-nowhere:1"}, "web rejected .*box-that-is-nowhere"),
    "exit": ({"command": ["sh", "-c", "echo so it ends; exit 7"]}, "web failed with exit code 7(.|\n)*so it ends"),
    "loop": ({"command": ["false"], "restart": "on-failure"}, "web failed with exit code 1"),
    "unhealthy": ({"healthcheck": {"test": ["CMD", "false"]}}, r"not ready after 15 s: web \("),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_start_says_why_and_leaves_nothing(
    case: str, box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    service, expected = FAILURES[case]

    with pytest.raises(NotReadyError, match=expected):
        copies.start(written(tmp_path, {"web": {"image": box, **service}}), site.engine, deadline=15)
    assert left(site, machines) == []


def test_a_port_that_never_listens_is_given_up_with_a_warning_and_one_that_listens_late_is_waited_for(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENCE", 12.0)
    services = {
        "never": {"command": ["sh", "-c", "while sleep 5; do continue; done"], "ports": ["1883"]},
        "late": {"command": ["sh", "-c", "sleep 6; exec httpd"], "ports": ["80"]},
        "partly": {"ports": ["80", "1883"]},
    }
    said: list[str] = []
    project = written(tmp_path, {name: {"image": box, **service} for name, service in services.items()})

    copy = copies.start(project, site.engine, deadline=90, progress=said.append)
    copy.down()

    assert copy.startup.ready
    ready = {one.service: one for one in copy.startup.ready.services}
    assert ready["never"].how == "has run without writing anything for 30 s; port 1883 accepts no connection"
    assert ready["never"].seconds > ready["late"].seconds + 11
    warnings = sorted(line for line in said if line.startswith("warning: "))
    assert [line.partition(";")[0] for line in warnings] == [
        "warning: never: port 1883 accepts no connection, and the container has written nothing for 30 s",
        "warning: partly: port 1883 accepts no connection, although the Compose file publishes it",
    ]
    assert left(site, machines) == []


def test_a_build_is_refused_before_anything_is_made(tmp_path: Path, site: Swarm, machines: list[Node]) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(
        UsageError, match=r"services\.web\.build: nodes get a build from a registry, and this Swarm has none"
    ):
        copies.start(written(tmp_path, {"web": {"build": "."}}), site.engine)
    assert left(site, machines) == []


def test_a_copy_whose_time_is_over_is_removed_by_the_next_command(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    copy = copies.start(written(tmp_path, {"web": {"image": box}}), site.engine, name="short", ttl=600, deadline=60)

    assert removal.sweep(site) == []
    Leases(site).renew(copy.lease, 0)
    assert removal.sweep(site) == ["short"]
    assert left(site, machines) == []


def test_what_has_no_lease_is_removed_by_the_next_command(site: Swarm, machines: list[Node]) -> None:
    site.create_network("lost_default", {LEASE_LABEL: "lost"})

    assert removal.sweep(site) == ["lost"]
    assert left(site, machines) == []

"""A reaper as a service of the Swarm: what has ended goes without any command, also after its manager was lost."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.swarm import nodes
from tests.swarm.test_commands import typed
from tests.swarm.test_copies import left, written
from tests.swarm.test_lost_machines import until

from stackyard.docker import Engine
from stackyard.docker.swarm import Swarm
from stackyard.sites.swarm import copies, reaper_service, removal
from stackyard.sites.swarm.leases import LABEL, Leases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.swarm.nodes import Node

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="session")
def python() -> str:
    """Return an image with Python that this host's engine has."""
    listed = nodes.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return next(line for line in listed if "/base-python-debian:" in line)


@pytest.fixture
def reaper(python: str, machines: list[Node], site: Swarm, tmp_path: Path) -> Iterator[dict[str, Any]]:
    del site  # DOCKER_HOST is set
    machines[0].load([python])
    done = typed(tmp_path, "site", "reaper", "--image", python, "--json")
    assert done.returncode == 0, done.stderr
    yield json.loads(done.stdout)
    removed = typed(tmp_path, "site", "reaper", "--remove", "--yes")
    assert removed.stdout == "removed service stackyard-reaper\n", removed.stderr


def leases_of(site: Swarm) -> set[str]:
    return {lease.name for lease in Leases(site).leases()}


def test_a_copy_whose_time_is_over_is_removed_without_a_command_and_a_renewed_one_stays(
    reaper: dict[str, Any], box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    project = written(tmp_path, {"web": {"image": box, "ports": ["80"]}})
    copies.start(project, site.engine, name="short", ttl=10, deadline=60)
    renewed = copies.start(project, site.engine, name="renewed", ttl=10, deadline=60)
    Leases(site).renew(renewed.lease, 600)

    until(lambda: leases_of(site) == {"renewed"})
    shown = typed(tmp_path, "site", "reaper")

    assert reaper["node"] == "n1"
    assert shown.stdout.startswith("the reaper runs on node n1; it looks for copies whose lease has ended every 5 s")
    assert {address.service for address in copies.Copy.of(site.engine, "renewed").addresses} == {"web"}
    assert typed(tmp_path, "down", "renewed").returncode == 0
    assert left(site, machines) == []


def test_several_reapers_at_once_and_a_command_remove_each_copy_and_no_other(
    reaper: dict[str, Any], box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    del reaper
    machines[0].docker("service", "scale", "--detach", f"{reaper_service.NAME}=3")
    project = written(tmp_path, {"web": {"image": box}})
    kept = copies.start(project, site.engine, name="kept", ttl=600, deadline=60)
    for number in range(4):
        copies.start(project, site.engine, name=f"short{number}", ttl=600, deadline=60)
    for lease in Leases(site).leases():
        if lease.name != "kept":
            Leases(site).renew(lease, 0)
    threads = [threading.Thread(target=removal.sweep, args=(site,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    until(lambda: leases_of(site) == {"kept"})
    assert Leases(site).get("kept").id == kept.lease.id
    assert kept.tasks()[0].state == "running"
    kept.down()
    assert left(site, machines) == []


def test_a_reaper_that_cannot_run_says_why_and_is_removed(tmp_path: Path, site: Swarm, machines: list[Node]) -> None:
    no_image = typed(tmp_path, "site", "reaper", "--image", "nowhere-at-all:1")
    no_python = typed(tmp_path, "site", "reaper", "--image", f"{machines[0].address}:1/none")
    kept = typed(tmp_path, "site", "reaper", "--remove")

    assert (no_image.returncode, no_python.returncode, kept.returncode) == (6, 6, 2)
    assert "the reaper's image cannot be built from nowhere-at-all:1: " in no_image.stderr
    assert no_image.stderr.count("\n") == 1
    assert kept.stderr == "nothing removed; --yes removes without asking\n"
    assert site.labelled("service", reaper_service.LABEL) == []


def test_the_reaper_moves_when_its_manager_of_three_is_lost(
    python: str, box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nodes.swarm([box, python], managers=3) as machines:
        monkeypatch.setenv("DOCKER_HOST", machines[0].host)
        with Engine() as engine:
            reaper_service.build(Swarm(engine), python)
        machines[0].give(machines[1:], reaper_service.BUILT)
        started = typed(tmp_path, "site", "reaper", "--image", python, "--json")
        assert started.returncode == 0, started.stderr
        lost = next(node for node in machines if node.name == json.loads(started.stdout)["node"])
        other = next(node for node in machines if node is not lost)
        monkeypatch.setenv("DOCKER_HOST", other.host)
        with Engine() as engine:
            copies.start(written(tmp_path, {"web": {"image": box}}), engine, name="short", ttl=20, deadline=60)
            lost.kill()
            until(lambda: Swarm(engine).labelled("config", LABEL) == [], seconds=150)
            moved = json.loads(typed(tmp_path, "site", "reaper", "--json").stdout)["node"]

        assert moved != lost.name
        assert typed(tmp_path, "site", "reaper", "--remove", "--yes").returncode == 0

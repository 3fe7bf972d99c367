from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest
from tests.projects.expected import BARE
from tests.swarm import nodes
from tests.swarm.test_copies import answers, written
from tests.swarm.test_lost_machines import on, until

from stackyard.docker import Engine
from stackyard.docker.swarm import Swarm
from stackyard.errors import NotReadyError
from stackyard.project import Project
from stackyard.running.swarm_stack import SwarmStack
from stackyard.sites.swarm import copies, removal
from stackyard.sites.swarm.leases import LABEL, LEASE_LABEL

if TYPE_CHECKING:
    from pathlib import Path

MANY, KILLED, STACKS = 64, 50, 6
# a copy up to its network: what a start holds when it is killed; each says what it got, and lives on
HOLDER = """
import sys, time
from stackyard.docker import Engine
from stackyard.docker.swarm import Swarm
from stackyard.sites.swarm.leases import LEASE_LABEL, Leases
swarm = Swarm(Engine())
lease = Leases(swarm).acquire("race-0a1b2c", None, {})
network = swarm.create_network(f"{lease.id}_default", {LEASE_LABEL: lease.id})
print(lease.name, lease.id, network, flush=True)
time.sleep(600)
"""


@pytest.mark.timeout(300)
def test_of_64_processes_no_two_get_one_name_or_network_and_50_killed_ones_are_reaped(site: Swarm) -> None:
    words = [sys.executable, "-c", HOLDER]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(MANY)]  # noqa: S603 - our own
    try:
        got = [process.stdout.readline().split() for process in started if process.stdout]
        for process in started[:KILLED]:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

        assert [len(set(column)) for column in zip(*got, strict=True)] == [MANY] * 3
        assert sorted(removal.sweep(site)) == sorted(name for name, _, _ in got[:KILLED])
        kept = {item.labels[LEASE_LABEL] for item in site.labelled("network", LEASE_LABEL)}
        assert kept == {identity for _, identity, _ in got[KILLED:]}
    finally:
        for process in started:
            process.kill()
            process.communicate()
    removal.sweep(site)
    assert [*site.everything(LEASE_LABEL), *site.labelled("config", LABEL)] == []


SOON: Final = 15.0  # seconds from the end of a machine until each of its copies has moved or says why it cannot
BUSY: Final = 4.0  # load of each processor from which on everything takes longer, and so twice as long is allowed


def elsewhere(copy: copies.Copy, lost: str) -> bool:
    """Say whether a copy answers, and not on the lost machine."""
    found = copy.addresses
    try:
        return bool(found) and found[0].host != lost and answers(f"http://{found[0].where}")
    except OSError:
        return False


@pytest.mark.timeout(400)
def test_stacks_of_a_killed_node_move_or_say_why_they_cannot_in_time_and_the_others_stay(
    box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    web = {"image": box, "ports": ["80"], "restart": "on-failure"}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))
    (tmp_path / "stays").mkdir()
    stays = written(tmp_path / "stays", {"web": {"image": box, "ports": ["80"], **on("n3")}})
    project = Project.find(tmp_path, environment=BARE)
    with nodes.swarm([box], heartbeat="3s") as machines:
        monkeypatch.setenv("DOCKER_HOST", machines[0].host)
        lost = machines[2].address
        with Engine() as engine, ThreadPoolExecutor(STACKS) as threads:
            started = list(threads.map(lambda _: copies.start(project, engine, ttl=600, deadline=100), range(STACKS)))
            before = [copy.addresses[0] for copy in started]
            gone = SwarmStack(copies.start(stays, engine, name="gone", ttl=600, deadline=100))
            load = os.getloadavg()[0] / (os.cpu_count() or 1)
            began = time.monotonic()
            machines[2].kill()
            until(lambda: all(elsewhere(copy, lost) for copy in started))
            until(lambda: "lost (node n3 is down)" in gone._there.said("web"))
            seconds = time.monotonic() - began
            with capsys.disabled():
                sys.stdout.write(f"\n{STACKS} copies have moved, 1 says why not: {seconds:.1f} s after the end of n3\n")
            after = [copy.addresses[0] for copy in started]
            with pytest.raises(NotReadyError, match=r"web answers nowhere now: lost \(node n3 is down\) on node n3"):
                gone.url("web")
            gone.down()
            for copy in started:
                copy.down()

            assert seconds <= SOON * (1 if load < BUSY else 2)
            assert any(address.host == lost for address in before)
            assert [new for old, new in zip(before, after, strict=True) if old.host != lost] == [
                old for old in before if old.host != lost
            ]
            assert Swarm(engine).everything(LEASE_LABEL) == []

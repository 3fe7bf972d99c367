from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.projects.expected import BARE
from tests.swarm.test_copies import left

from stackyard.docker.swarm import SERVICE_LABEL
from stackyard.sites.swarm.leases import LABEL, LEASE_LABEL, Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.swarm.nodes import Node

    from stackyard.docker.swarm import Swarm

pytestmark = pytest.mark.timeout(300)
ASK = "import os, urllib.request as u; print(u.urlopen(os.environ['STACKYARD_WEB_URL']).read().decode()); exit(3)"


def typed(folder: Path, *words: str, site: str = "swarm") -> subprocess.CompletedProcess[str]:
    argv, env = _line(folder, words, site)
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 - ours


def _line(folder: Path, words: Sequence[str], site: str = "swarm") -> tuple[list[str], dict[str, str]]:
    argv = [sys.executable, "-m", "stackyard", words[0], "--site", site, *words[1:]]
    names = ("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return argv, BARE | kept | {"STACKYARD_STATE_DIR": str(folder / "state")}


def until(happened: Callable[[], object], seconds: float = 30) -> None:
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)


def test_a_command_runs_beside_a_copy_and_gets_its_addresses(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": {"image": box, "ports": ["80"]}}}))

    done = typed(tmp_path, "run", "--", sys.executable, "-c", ASK)

    assert (done.returncode, done.stdout) == (3, "box\n"), done.stderr
    assert left(site, machines) == []


def test_a_copy_that_is_up_is_no_place_for_a_run_and_tells_its_variables(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    web = {"image": box, "ports": ["${WEB_PORT:-8080}:80"]}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))
    up = typed(tmp_path, "up", "--name", "mine")
    refused = typed(tmp_path, "run", "--name", "mine", "--", "true")
    env = json.loads(typed(tmp_path, "env", "--name", "mine", "--json").stdout)

    assert (up.returncode, refused.returncode) == (0, 2), up.stderr
    assert re.search(
        r"copy mine \([\w-]+\) is up already; run the command with another --name, or without\n$", refused.stderr
    )
    assert env["STACKYARD_WEB_URL"] == f"http://{env['STACKYARD_WEB_ADDRESS']}"
    assert env["STACKYARD_WEB_ADDRESS"].endswith(f":{env['WEB_PORT']}")
    assert typed(tmp_path, "down", "--name", "mine").returncode == 0
    assert left(site, machines) == []


def test_a_copy_that_lacks_a_service_ends_as_on_one_engine(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    job = {"image": box, "command": ["true"]}
    web = {"image": box, "ports": ["80"], "restart": "always", "healthcheck": {"test": ["CMD", "true"]},
           "depends_on": {"job": {"condition": "service_completed_successfully"}}}  # fmt: skip
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web, "job": job}}))
    seen = typed(tmp_path, "check", "--json")
    up, well = typed(tmp_path, "up", "--name", "mine"), typed(tmp_path, "ps", "mine", "--json")
    (service,) = (item for item in site.labelled("service", LEASE_LABEL) if item.labels[SERVICE_LABEL] == "web")
    machines[0].docker("service", "rm", service.id)
    until(lambda: all(task.service != "web" for task in site.tasks(LEASE_LABEL)))
    lacking, again = typed(tmp_path, "ps", "mine", "--json"), typed(tmp_path, "up", "--name", "mine")
    down = typed(tmp_path, "down", "mine")

    assert [one.returncode for one in (seen, up, well, lacking, again, down)] == [0, 0, 0, 7, 7, 0], up.stderr
    states = [
        {row["service"]: (row["status"], row["health"]) for row in json.loads(one.stdout)["services"]}
        for one in (well, lacking)
    ]
    assert states[0] == {"web": ("running", "healthy"), "job": ("complete", "none")}
    assert states[1] == {"web": ("missing", "none"), "job": ("complete", "none")}
    assert "is up, but not every service of it runs: web (missing); end the copy ('stackyard down " in again.stderr
    assert "services.web.restart" in [change["place"] for change in json.loads(seen.stdout)["changes"]]
    assert left(site, machines) == []


def test_a_removal_that_is_killed_is_finished_by_the_next_command(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    deaf = {
        "image": box,
        "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
        "stop_grace_period": "9s",
    }
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": deaf}}))
    up = typed(tmp_path, "up", "--name", "mine", "--graceful", "--ttl", "10h")
    argv, env = _line(tmp_path, ["down", "mine"])
    removing = subprocess.Popen(argv, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
    until(lambda: Leases(site).get("mine").state == "ending")
    removing.kill()
    removing.wait()
    cleaned = typed(tmp_path, "cleanup")

    assert (up.returncode, cleaned.returncode) == (0, 0), up.stderr + cleaned.stderr
    assert cleaned.stdout.startswith("removed copy mine\n")
    assert left(site, machines) == []


WRITES = "n=0; while [ $$n -lt 9 ]; do n=$$((n+1)); echo $$HOSTNAME $$n; sleep 0.4; done; exit $${CODE:-0}"


def test_new_lines_of_all_containers_are_followed_until_none_runs(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    services = {
        "web": {"image": box, "command": ["sh", "-c", WRITES], "scale": 2, "depends_on": ["quiet"]},
        "again": {"image": box, "command": ["sh", "-c", WRITES], "restart": "on-failure:1", "environment": ["CODE=3"]},
        "quiet": {"image": box, "command": ["sh", "-c", "echo before; exec sleep 20"]},
    }
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": services}))
    up = typed(tmp_path, "up", "--name", "mine")

    followed = typed(tmp_path, "logs", "--name", "mine", "--follow", "--tail", "2")
    one = typed(tmp_path, "logs", "web", "again", "--name", "mine", "--tail", "1")
    typed(tmp_path, "down", "mine")

    assert (up.returncode, followed.returncode, followed.stderr) == (0, 0, ""), up.stderr + followed.stderr
    lines = re.findall(r"^(\w+) +\| (?:(\w+) )?(\w+)$", followed.stdout, re.MULTILINE)
    assert len(lines) == len(followed.stdout.splitlines())
    counts: dict[tuple[str, str], list[int]] = {}
    for service, container, number in lines:
        counts.setdefault((service, container), []).append(0 if number == "before" else int(number))
    assert sorted(service for service, _ in counts) == ["again", "again", "quiet", "web", "web"]
    for (service, _), numbers in counts.items():  # none twice, none missing
        assert numbers == ([0] if service == "quiet" else [*range(numbers[0], 10)]), counts
    assert len(one.stdout.splitlines()) == 4
    assert left(site, machines) == []


ENDS = "trap 'sleep 1; exit 4' TERM; while :; do sleep 0.1; done"


def ends(machines: list[Node], since: float) -> list[tuple[str, int]]:
    """List the services whose containers have ended on any node, in order, each with its exit code."""
    form = '{{.TimeNano}} {{index .Actor.Attributes "stackyard.swarm.service"}} {{.Actor.Attributes.exitCode}}'
    words = ["--filter", "event=die", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}", "--format", form]
    found = [line.split() for node in machines for line in node.docker("events", *words).splitlines()]
    return [(name, int(code)) for _, name, code in sorted(found)]


def test_services_of_a_copy_that_was_started_so_get_time_to_end_in_order(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    services = {
        "db": {"command": ["sh", "-c", ENDS], "stop_grace_period": "30s"},
        "web": {"command": ["sh", "-c", ENDS], "stop_grace_period": "30s", "depends_on": ["db"]},
        "deaf": {"command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], "stop_grace_period": "2s"},
    }
    services = {name: {"image": box, **service} for name, service in services.items()}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": services}))
    began = time.time()
    up = typed(tmp_path, "up", "--name", "mine", "--graceful")
    down = typed(tmp_path, "down", "mine", "--graceful")
    ended = ends(machines, began)

    assert (up.returncode, down.returncode) == (0, 0), up.stderr + down.stderr
    assert sorted(ended) == [("db", 4), ("deaf", 137), ("web", 4)]
    assert ended.index(("web", 4)) < ended.index(("db", 4))
    assert "waiting until " in down.stderr
    assert down.stderr.endswith(" have ended, at most 1 min 2 s\n")
    assert left(site, machines) == []


def test_a_copy_that_was_not_started_gracefully_is_removed_at_once_and_says_so(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    web = {"image": box, "command": ["sh", "-c", ENDS], "stop_grace_period": "30s"}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))
    began = time.time()
    typed(tmp_path, "up", "--name", "mine")
    refused = typed(tmp_path, "down", "mine", "--graceful")
    again = typed(tmp_path, "up", "--name", "mine", "--graceful")
    typed(tmp_path, "down", "mine")

    for one in (refused, again):
        assert one.returncode == 2
        assert one.stderr.startswith("copy mine was started without --graceful, so the Swarm ends its services at once")
    assert ends(machines, began) == [("web", 137)]
    assert left(site, machines) == []


NO_REGISTRY = (
    "nodes get a build from a registry, and this Swarm has none; name one in STACKYARD_REGISTRY, or run a "
    "registry on the Swarm ('stackyard site registry --site swarm')"
)
REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "the host's network": (
        {"network_mode": "host"},
        "services.web.network_mode: host: a service has its own; run this project on one engine",
    ),
    "a bind that can be written to": (
        {"volumes": ["./data:/data"]},
        "services.web.volumes[0]: a container cannot write into this host's files; add ':ro', or use a volume",
    ),
    "a build where there is no registry": (
        {"build": "."},
        f"services.web.build: {NO_REGISTRY}",
    ),
    "a device": (
        {"devices": ["/dev/fuse:/dev/fuse"]},
        "services.web.devices: a node's devices are not part of a service; run this project on one engine",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_swarm_cannot_have_is_one_line_and_nothing_is_made(
    case: str, box: str, tmp_path: Path, site: Swarm
) -> None:
    service, expected = REFUSED[case]
    (tmp_path / "data").mkdir()
    (tmp_path / "Dockerfile").write_text(f"FROM {box}\n")
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": {"image": box, **service}}}))

    done = typed(tmp_path, "up")

    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{expected}\n")
    assert [*site.everything(LEASE_LABEL), *site.labelled("config", LABEL)] == []

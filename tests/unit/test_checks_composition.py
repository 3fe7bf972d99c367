from __future__ import annotations

import copy
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_docker import install_docker

from stackyard.checks import composition
from stackyard.checks.composition import Model, compose_lint
from stackyard.checks.records import Spot, examine
from stackyard.errors import CommandError
from stackyard.project.environments import Environment, project_root

LABELS = dict.fromkeys(composition.LABELS, "x")
SOUND: dict[str, Any] = {
    "profiles": ["dev", "test"], "image": "stackyard/redis:alpine", "user": "10001:10001", "read_only": True,
    "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "labels": LABELS, "restart": "no",
    "mem_limit": "100000000", "memswap_limit": "100000000", "mem_reservation": "16777216", "cpus": 0.5,
    "pids_limit": 32, "ports": [{"host_ip": "127.0.0.1", "published": "6380", "target": 6379}],
    "environment": {"REDIS_PASSWORD_FILE": "/run/secrets/redis_password", "EMPTY": None},
    "logging": {"driver": "json-file", "options": {"max-size": "5m", "max-file": "1"}},
    "volumes": [{"type": "tmpfs", "target": "/data"}],
    "healthcheck": {
        "test": ["CMD", "/x"], "interval": "5s", "timeout": "3s", "retries": 10, "start_period": "30s",
        "start_interval": "250ms",
    },
}  # fmt: skip


def model(**changes: Any) -> Model:
    service = copy.deepcopy(SOUND) | changes
    return Model(
        profiles=frozenset({"dev", "test"}), services={"redis": service}, networks={"platform": {"labels": LABELS}}
    )


def found(looked_at: Model) -> list[tuple[str, str]]:
    checks = (*composition.FILE_CHECKS, *composition.CHECKS)
    return [(item.check, item.found) for outcome in examine(checks, looked_at, "x") for item in outcome.findings]


def test_a_sound_model_passes_every_check() -> None:
    assert found(model()) == []


def health(**changes: Any) -> dict[str, Any]:
    return {"healthcheck": SOUND["healthcheck"] | changes}


PLANTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing limit": ({"pids_limit": None}, "compose-limits", "redis: no pids_limit"),
    "swap in addition to memory": (
        {"memswap_limit": "200000000"}, "compose-limits", "redis: memswap_limit 200000000 B, mem_limit 100000000 B"
    ),
    "no reservation": ({"mem_reservation": None}, "compose-reservations", "redis: no mem_reservation"),
    "reservation above the limit": (
        {"mem_reservation": "100000000"}, "compose-reservations",
        "redis: mem_reservation 100000000 B, mem_limit 100000000 B",
    ),
    "over budget": (
        {"mem_limit": "2100000000", "memswap_limit": "2100000000"}, "compose-memory",
        "2,003 MiB together, budget 1,907 MiB",
    ),
    "no health check": ({"healthcheck": None}, "compose-health", "redis: no health check"),
    "disabled health check": (health(disable=True), "compose-health", "redis: no health check"),
    "no start interval": (health(start_interval=None), "compose-health", "redis: no start_interval"),
    "no retries": (health(retries=0), "compose-health", "redis: no retries"),
    "interval too short": (
        health(interval="500ms", timeout="500ms"), "compose-health", "redis: interval 0.5 s, outside 1-60 s"
    ),
    "timeout too long": (
        health(timeout="6s"), "compose-health", "redis: timeout 6 s is longer than interval 5 s"
    ),
    "start interval outside its period": (
        health(start_period="200ms"), "compose-health",
        "redis: start_interval 0.25 s, start_period 0.2 s, interval 5 s",
    ),
    "dead for long": (health(retries=100), "compose-health", "redis: a dead service is seen after 800 s"),
    "every address": (
        {"ports": [{"published": "6380", "target": 6379}]}, "compose-loopback", "redis: 0.0.0.0:6380->6379"
    ),
    "public address": (
        {"ports": [{"host_ip": "10.0.0.1", "published": "1", "target": 2}]}, "compose-loopback",
        "redis: 10.0.0.1:1->2",
    ),
    "missing profile": ({"profiles": ["test"]}, "compose-profiles", "redis: not in dev"),
    "missing label": (
        {"labels": {key: "x" for key in LABELS if key != "stackyard.lease"}}, "compose-labels",
        "redis: no stackyard.lease",
    ),
    "container name": ({"container_name": "redis"}, "compose-container-name", "redis: redis"),
    "restart": ({"restart": "always"}, "compose-restart", "redis: restart always, expected no"),
    "latest": ({"image": "host:5000/redis:latest"}, "compose-image", "redis: host:5000/redis:latest"),
    "no tag": ({"image": "host:5000/redis"}, "compose-image", "redis: host:5000/redis"),
    "no image": ({"image": None}, "compose-image", "redis: no image"),
    "root": ({"user": "0:0"}, "compose-confinement", "redis: user 0:0"),
    "no user": ({"user": None}, "compose-confinement", "redis: user not set"),
    "writable root": ({"read_only": False}, "compose-confinement", "redis: its root can be written"),
    "capability": (
        {"cap_add": ["NET_ADMIN"]}, "compose-confinement", "redis: cap_drop ['ALL'], cap_add ['NET_ADMIN']"
    ),
    "new privileges": ({"security_opt": []}, "compose-confinement", "redis: no-new-privileges is not set"),
    "no filter": (
        {"security_opt": ["no-new-privileges", "seccomp=unconfined"]}, "compose-confinement",
        "redis: security_opt seccomp:unconfined",
    ),
    "privileged": ({"privileged": True}, "compose-confinement", "redis: privileged True"),
    "host network": ({"network_mode": "host"}, "compose-confinement", "redis: network_mode: host"),
    "the engine's socket": (
        {"volumes": [{"type": "bind", "source": "/var/run/docker.sock", "target": "/x"}]}, "compose-confinement",
        "redis: mounts the host's /var/run/docker.sock",
    ),
    "secret in a variable": (
        {"environment": {"REDIS_PASSWORD": "x"}}, "compose-secret", "redis: REDIS_PASSWORD"
    ),
    "unbounded log": ({"logging": None}, "compose-logging", "redis: max-size None, max-file None"),
}  # fmt: skip


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_found_by_exactly_its_check(defect: str) -> None:
    changes, check, words = PLANTED[defect]

    assert found(model(**changes)) == [(check, words)]


def test_a_network_without_labels_is_found() -> None:
    bare = replace(model(), networks={"platform": None})

    assert [check for check, _ in found(bare)] == ["compose-labels"]


def test_an_image_by_digest_and_an_environment_that_restarts_are_fine() -> None:
    kept = replace(model(image="x@sha256:00", restart="unless-stopped"), restart="unless-stopped")

    assert found(kept) == []


def test_what_compose_lint_says_is_reported_with_its_line() -> None:
    assert found(replace(model(), lint=[Spot(found="CL-0005 redis: bound", line=3)])) == [
        ("compose-lint", "CL-0005 redis: bound")
    ]


def test_compose_lint_finds_a_port_on_every_address_and_respects_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    file.write_text("services:\n  web:\n    image: x:1\n    ports: ['80:80']\n")
    before = compose_lint(tmp_path, file)
    shutil.copy(project_root() / "compose/.compose-lint.yml", tmp_path)
    after = compose_lint(tmp_path, file)

    assert any(spot.found.startswith("CL-0005 web: ") and spot.line == 4 for spot in before)
    assert {spot.found[:7] for spot in before} - {spot.found[:7] for spot in after} == {"CL-0019"}


def test_compose_lint_may_complain_of_other_folders_but_not_of_the_one_that_the_project_lies_in() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # to compose-lint all below /dev or /root is sensitive
        file = Path(folder, "compose.yml")
        file.write_text("services:\n  web:\n    image: x\n    volumes: ['./own:/own:ro', '/dev/other:/other:ro']\n")

        found = [spot.found for spot in compose_lint(Path(folder), file) if "CL-0013" in spot.found]

    assert len(found) == 1
    assert "/dev/other" in found[0]


def test_compose_lint_on_no_compose_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("a: [")

    with pytest.raises(CommandError, match=r"c\.yml"):
        compose_lint(tmp_path, tmp_path / "c.yml")


def test_the_model_is_what_compose_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    install_docker(tmp_path, """echo '{"services": {"redis": {}}, "networks": {"platform": {}}}'""")
    dev, test = (Environment.load(name) for name in ("dev", "test"))

    rendered = [Model.render(each, ["dev", "test"]) for each in (dev, test)]

    assert [each.restart for each in rendered] == ["unless-stopped", "no"]
    assert rendered[0].services == {"redis": {}}
    assert rendered[0].memory == dev.budget.memory_mb * 1_000_000

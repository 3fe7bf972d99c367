"""Any content of a Compose file gives a verdict, or one line that says what is wrong."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackyard.errors import StackyardError
from stackyard.plan import Preview, exclusive
from stackyard.project import Project

BARE = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
NAMES = ["db", "web", "app-1", "x_y"]
WORDS = st.sampled_from(
    ["", "a", "1", "${V:-2}", "${V}", "$$", "${COMPOSE_PROJECT_NAME}-x", "localhost:80", "default", "host", "none",
     "./d", "é"]
)  # fmt: skip
PORTS = st.one_of(
    st.integers(0, 70000),
    st.sampled_from(["80", "8080:80", "1-3:1-3", "5000-5009:80", "127.0.0.1::81", "[::1]:9:9/udp", "${P:-7}:7"]),
    st.fixed_dictionaries({"target": st.integers(0, 70000)}, optional={
        "published": st.sampled_from(["8080", "1-2", 9, ""]), "protocol": st.sampled_from(["tcp", "udp", "sctp"]),
        "mode": st.sampled_from(["host", "ingress"]), "host_ip": WORDS,
    }),
)  # fmt: skip
NETWORK = st.one_of(st.none(), st.fixed_dictionaries({}, optional={
    "name": WORDS, "external": st.booleans(), "driver": st.sampled_from(["bridge", "host", "overlay"]),
    "ipam": st.sampled_from([{"config": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}]}, {"config": []}, {},
                             {"config": [{"subnet": "fd00:9::/64"}, {"subnet": "10.8.0.0/16"}]}]),
}))  # fmt: skip
VOLUME = st.one_of(st.none(), st.fixed_dictionaries({}, optional={"name": WORDS, "external": st.booleans()}))
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 99999) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
    max_leaves=4,
)
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "image": st.sampled_from(["box", "postgres:17", "redis"]), "build": st.sampled_from([".", {"context": "."}]),
    "ports": st.lists(PORTS, max_size=3), "container_name": WORDS,
    "restart": st.sampled_from(["always", "no", "maybe"]),
    "networks": st.lists(st.sampled_from(["lan", "default"])) | st.just({"lan": {"ipv4_address": "10.9.0.9"}}),
    "network_mode": st.sampled_from(["host", "none", "bridge", "service:db", "container:db", "container:other"]),
    "volumes": st.lists(st.sampled_from(["data:/d", "./d:/var/lib/mysql", "/none:/x:ro", "/anonymous", "~/y:/y"])),
    "environment": st.one_of(st.dictionaries(st.sampled_from(["A", "B"]), WORDS), st.lists(WORDS)),
    "depends_on": st.one_of(st.lists(st.sampled_from(NAMES)), st.just({"db": {"condition": "service_healthy"}})),
    "deploy": st.sampled_from([{"replicas": 3}, {"replicas": 0}, {}, {"mode": "global"}]), "scale": st.integers(-1, 3),
    "profiles": st.lists(st.sampled_from(["p", "q"])), "command": WORDS, "labels": st.lists(WORDS), "pid": WORDS,
    "env_file": st.sampled_from([".env", "none.env", [{"path": "x", "required": False}]]), "links": st.lists(WORDS),
    "devices": st.lists(WORDS), "extra_hosts": st.lists(WORDS), "healthcheck": ANY, "configs": ANY, "secrets": ANY,
}  # fmt: skip
USUAL = st.lists(st.sampled_from(sorted(KEYS)), max_size=4, unique=True).flatmap(
    lambda chosen: st.fixed_dictionaries({"image": st.just("box")} | {key: KEYS[key] for key in chosen})
)
SERVICE = st.one_of(USUAL, USUAL, USUAL, ANY)  # most files are right in most places
FILES = st.fixed_dictionaries(
    {"services": st.dictionaries(st.sampled_from(NAMES), SERVICE, min_size=1, max_size=3)},
    optional={"networks": st.dictionaries(st.sampled_from(["lan", "default"]), NETWORK),
              "volumes": st.dictionaries(st.just("data"), VOLUME), "name": WORDS},
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(FILES)
@example({"services": {"db": {"image": "box", "scale": -1, "ports": [1]}}})
@example({"services": {"db": {"image": "box", "deploy": {"replicas": -2}}}})
def test_every_file_gets_a_verdict_or_one_line(content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "compose.yaml").write_text(json.dumps(content))  # JSON is YAML
        said = _said(Path(folder))

    assert said in {"copies", "one at a time", "not possible"} or said.count("\n") == 0


def _said(folder: Path) -> str:
    try:
        project = Project.find(folder, environment=BARE)
        assert project.model(name="mine") == replace(project, copied=None).model(name="mine")
        verdict = Preview.of(project).plan.verdict
    except StackyardError as refused:
        return str(refused)
    claimed = verdict == "not possible" or exclusive(project.model(), frozenset())
    assert bool(claimed) == (verdict != "copies"), "a lease claims what only one copy can have"
    return verdict

"""What the containers under test are made of: the flavour their environment promises, and no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from stackyard._util.process import run
from stackyard.project.environments import Environment

if TYPE_CHECKING:
    from tests.platform.conftest import Stack

# The C library's loader, which every program that is not linked statically has mapped.
LOADERS: Final = {"debian": "/ld-linux-x86-64.so.2", "alpine": "/ld-musl-x86_64.so.1"}
STATIC: Final = frozenset({("redis", "alpine")})


@pytest.fixture(scope="module", params=["postgres", "redis", "auth", "backend"])
def running(request: pytest.FixtureRequest, stack: Stack) -> tuple[str, str, str]:
    """Return service, flavour and container of one service of the stack under test."""
    words = ["docker", "ps", "--no-trunc", "--format=json", f"--filter=label=stackyard.lease={stack.audience}"]
    rows = [json.loads(line) for line in run(words, deadline=120).stdout.splitlines()]
    for row in rows:
        labels = dict(label.split("=", 1) for label in row["Labels"].split(",") if "=" in label)
        if labels.get("com.docker.compose.service") == request.param:
            return request.param, Environment.load(labels["stackyard.environment"]).flavour, row["ID"]
    pytest.skip(f"no container of {request.param} on this engine")


def inside(container: str, *words: str) -> str:
    return run(["docker", "exec", container, *words], deadline=120).stdout


def test_the_system_is_the_one_the_environment_names(running: tuple[str, str, str]) -> None:
    _, flavour, container = running

    assert f"ID={flavour}" in inside(container, "cat", "/etc/os-release").splitlines()


def test_the_server_runs_on_that_systems_c_library(running: tuple[str, str, str]) -> None:
    service, flavour, container = running

    mapped = inside(container, "cat", "/proc/1/maps")

    loaded = {name for name, loader in LOADERS.items() if loader in mapped}
    assert loaded == (set() if (service, flavour) in STATIC else {flavour})


def test_the_system_carries_its_own_marks(running: tuple[str, str, str]) -> None:
    _, flavour, container = running

    if flavour == "alpine":
        assert {"alpine-release", "busybox", "musl"} <= set(inside(container, "apk", "info").split())
    else:
        assert inside(container, "cat", "/etc/debian_version").startswith("13.")

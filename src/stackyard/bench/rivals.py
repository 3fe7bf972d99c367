"""
One start and removal of the four services by a library other than stackyard, timed: RIVAL, the services on stdin.

It runs by path under the Python that has the rivals installed, so it imports nothing of stackyard. Each is used as its
own documentation does: `with`, its own waiting, its own removal. It prints JSON, ``{"up": s, "down": s}``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

# Its reaper is an image of a container registry, which a host may not reach; the labels do its work.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
# What is published on 127.0.0.1 answers nowhere else; inside a container the library would look for a gateway.
os.environ["TESTCONTAINERS_HOST_OVERRIDE"] = "127.0.0.1"
os.environ["TESTCONTAINERS_CONNECTION_MODE"] = "docker_host"

# Its documentation's ways to wait; a health check it would run is part of the service's own definition.
LOGS = {"postgres": "database system is ready to accept connections", "redis": "Ready to accept connections"}
PORTS = {"postgres": 5432, "redis": 6379, "auth": 8001, "backend": 8000}


def testcontainers_compose(given: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Use testcontainers' DockerCompose, which runs `docker compose up --wait`."""
    made: AbstractContextManager[Any] = importlib.import_module("testcontainers.compose").DockerCompose(
        str(Path(given["file"]).parent), compose_file_name=given["file"], env_file=given["env_file"]
    )
    return made


@contextlib.contextmanager
def testcontainers(given: Mapping[str, Any]) -> Iterator[None]:
    """Use testcontainers' single containers on a network of their own, one after another, as `with` does."""
    core = importlib.import_module("testcontainers.core")
    network = importlib.import_module("testcontainers.core.network").Network
    options = {"labels": given["labels"], "driver": "bridge", "ipam": _ipam(given["subnet"])}
    with contextlib.ExitStack() as undo:
        joined = undo.enter_context(network(docker_network_kw=options))
        for name in LOGS | PORTS:
            undo.enter_context(_container(core, name, given["services"][name], given["labels"], joined))
        yield


def _container(core: Any, name: str, service: Mapping[str, Any], labels: Mapping[str, str], network: Any) -> Any:
    strategies = importlib.import_module(f"{core.__name__}.wait_strategies")
    container = importlib.import_module(f"{core.__name__}.container").DockerContainer(
        service["image"], env=service["environment"], network=network, network_aliases=[name], labels=labels,
        **service["options"],
    )  # fmt: skip
    container.ports[PORTS[name]] = ("127.0.0.1", service["port"])
    container.tmpfs = service["tmpfs"]
    for path, target in service["secrets"].items():
        container.with_volume_mapping(path, target)
    waiting = strategies.LogMessageWaitStrategy(LOGS[name]) if name in LOGS else None
    return container.waiting_for(waiting or strategies.HttpWaitStrategy(PORTS[name], "/readyz").for_status_code(200))


def _ipam(subnet: str) -> Any:
    types = importlib.import_module("docker.types")
    return types.IPAMConfig(pool_configs=[types.IPAMPool(subnet=subnet)])


def pytest_docker(given: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Use what pytest-docker's fixture does; `--build` left out, for there is nothing to build."""
    made: AbstractContextManager[Any] = importlib.import_module("pytest_docker.plugin").get_docker_services(
        f"docker compose --env-file {given['env_file']}", given["file"], given["project"], "up --wait", "down -v"
    )
    return made


RIVALS: dict[str, Callable[[Mapping[str, Any]], AbstractContextManager[Any]]] = {
    "testcontainers-compose": testcontainers_compose,
    "testcontainers": testcontainers,
    "pytest-docker": pytest_docker,
}
# imported before the clock runs: every library here is seen from a program that has it already
MODULES = {
    "testcontainers-compose": ("testcontainers.compose",),
    "testcontainers": ("testcontainers.core.container", "testcontainers.core.network", "docker.types"),
    "pytest-docker": ("pytest_docker.plugin",),
}


def main(arguments: list[str]) -> None:
    """Time one start and one removal: RIVAL."""
    (name,) = arguments
    for module in MODULES[name]:
        importlib.import_module(module)
    given = json.load(sys.stdin)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            told = timed(RIVALS[name], given)
    except Exception as error:  # noqa: BLE001 - a rival raises what it likes; its last words are the reason
        sys.exit(f"{name}: {type(error).__name__}: {error}")
    print(json.dumps(told))  # noqa: T201 - told to the process that compares


def timed(
    rival: Callable[[Mapping[str, Any]], AbstractContextManager[Any]], given: Mapping[str, Any]
) -> dict[str, float]:
    """Return how many seconds one start (`up`) and one removal (`down`) took."""
    began = time.monotonic()
    with rival(given):
        ready = time.monotonic()
    return {"up": ready - began, "down": time.monotonic() - ready}


if __name__ == "__main__":
    main(sys.argv[1:])

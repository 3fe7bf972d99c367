"""
Other libraries that start and remove the same services, each used as its own documentation does.

testcontainers' containers and its DockerCompose, what pytest-docker's fixture does, and stackyard's drop-in for
testcontainers' class: every one with its own way to wait and its own removal. None is imported before it is used.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from stackyard.bench.configuration import Ready

WITHOUT_REAPER: Final = "testcontainers ran without its reaper, whose image is in a container registry"
MISSING: Final = "testcontainers is not installed, so nothing was measured by it"
# What is loaded before the clock runs: every library is seen from a program that has imported it already.
MODULES: Final = {
    "testcontainers-compose": ("testcontainers.compose",),
    "testcontainers": ("testcontainers.core.container", "testcontainers.core.network", "docker.types"),
    "pytest-docker": ("pytest_docker.plugin",),
    "drop-in": ("stackyard.testcontainers",),
}


def available(name: str = "testcontainers") -> bool:
    """Tell whether a library is installed: those of this module are in the dependency group `bench`."""
    return importlib.util.find_spec(name) is not None


def load(name: str) -> None:
    """Import what *name* (a key of `RIVALS`) needs, and let testcontainers work without its reaper."""
    for module in MODULES[name]:
        importlib.import_module(module)
    if name.startswith("testcontainers"):
        config = importlib.import_module("testcontainers.core.config")
        # the image of its reaper is in a container registry, which a host may not reach; our labels do its work
        config.testcontainers_config.ryuk_disabled = True
        # what is published on 127.0.0.1 answers nowhere else; in a container the library would look for a gateway
        config.testcontainers_config.tc_host_override = "127.0.0.1"
        config.testcontainers_config.connection_mode_override = config.ConnectionMode.docker_host


def _compose(module: str, given: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Use testcontainers' DockerCompose, or stackyard's as a suite does that has changed one import."""
    made: AbstractContextManager[Any] = importlib.import_module(module).DockerCompose(
        str(Path(given["file"]).parent), compose_file_name=given["file"], env_file=given["env_file"]
    )
    return made


@contextlib.contextmanager
def testcontainers(given: Mapping[str, Any]) -> Iterator[None]:
    """Use testcontainers' single containers on a network of their own, one after another, as `with` does."""
    with contextlib.ExitStack() as undo:
        joined = undo.enter_context(network(given))
        for name in given["services"]:
            undo.enter_context(container(name, given, joined))
        yield


def network(given: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Return testcontainers' network for its single containers; it is made when the block is entered."""
    types = importlib.import_module("docker.types")
    ipam = types.IPAMConfig(pool_configs=[types.IPAMPool(subnet=given["subnet"])])
    made: AbstractContextManager[Any] = importlib.import_module("testcontainers.core.network").Network(
        docker_network_kw={"labels": given["labels"], "driver": "bridge", "ipam": ipam}
    )
    return made


def container(name: str, given: Mapping[str, Any], joined: Any) -> Any:
    """Return testcontainers' container of one service, with its way to wait; `start` and `stop` are its methods."""
    service: Mapping[str, Any] = given["services"][name]
    made = importlib.import_module("testcontainers.core.container").DockerContainer(
        service["image"], env=service["environment"], network=joined, network_aliases=[name], labels=given["labels"],
        **service["options"],
    )  # fmt: skip
    made.ports[service["target"]] = ("127.0.0.1", service["port"])
    made.tmpfs = service["tmpfs"]
    for path, target in service["secrets"].items():
        made.with_volume_mapping(path, target)
    return made.waiting_for(_strategy(service["ready"], service["target"]))


def _strategy(ready: Ready, port: int) -> Any:
    """Return one of the ways to wait that its documentation shows."""
    strategies = importlib.import_module("testcontainers.core.wait_strategies")
    if ready.log:
        return strategies.LogMessageWaitStrategy(ready.log)
    return strategies.HttpWaitStrategy(port, ready.path).for_status_code(200)


def pytest_docker(given: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Use what pytest-docker's fixture does, without `--build`, because there is nothing to build."""
    made: AbstractContextManager[Any] = importlib.import_module("pytest_docker.plugin").get_docker_services(
        f"docker compose --env-file {given['env_file']}", given["file"], given["project"], "up --wait", "down -v"
    )
    return made


RIVALS: Final[dict[str, Callable[[Mapping[str, Any]], AbstractContextManager[Any]]]] = {
    "testcontainers-compose": partial(_compose, "testcontainers.compose"),
    "testcontainers": testcontainers,
    "pytest-docker": pytest_docker,
    "drop-in": partial(_compose, "stackyard.testcontainers"),
}


@contextlib.contextmanager
def surrounded(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the block runs: these libraries give the commands they run no others."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

"""
The fixtures that users of pytest-docker know; a project asks for them with ``-p stackyard.pytest_plugin.docker``.

Tests that use `docker_ip`, `docker_services` and `docker_compose_file` stay as they are.
"""

from __future__ import annotations

import time
import timeit
from os import PathLike
from typing import TYPE_CHECKING

import pytest

from stackyard.pytest_plugin import fixture_scope, scope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stackyard.running import Stack


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run together with pytest-docker: its fixtures have the same names."""
    if config.pluginmanager.hasplugin("docker"):
        raise pytest.UsageError(
            "pytest-docker and stackyard.pytest_plugin.docker have fixtures of the same names; "
            "add '-p no:docker' to addopts"
        )


class Services:
    """
    The services of a stack, as pytest-docker offers them.

    Args:
        stack: The stack.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def port_for(self, service: str, container_port: int) -> int:
        """
        Return the host port of a TCP port of *service*.

        Raises:
            UsageError: If the project has no such service, or the service does not publish the port.
        """
        return self.stack.port(service, container_port)

    def wait_until_responsive(
        self,
        check: Callable[[], object],
        timeout: float,
        pause: float,
        clock: Callable[[], float] = timeit.default_timer,
    ) -> None:
        """
        Call *check* until it returns something true.

        Args:
            check: Asks the service.
            timeout: Seconds until it has failed.
            pause: Seconds between two calls.
            clock: Tells the time in seconds.

        Raises:
            TimeoutError: If it has failed.
        """
        began = clock()
        while clock() - began < timeout:
            if check():
                return
            time.sleep(pause)
        raise TimeoutError(f"the check of wait_until_responsive did not succeed in {timeout:g} s")


@pytest.fixture(scope=fixture_scope)
def docker_ip(request: pytest.FixtureRequest) -> str:
    """Give the address at which published ports answer; on a Swarm that is the one of the only node with services."""
    from stackyard.sites import Site

    site = Site.find()
    if site.kind != "swarm":
        return site.endpoint.address
    services: Services = request.getfixturevalue("docker_services")
    hosts = sorted({address.host for address in services.stack.addresses})
    if len(hosts) != 1:
        listed = ", ".join(hosts) or "none"
        pytest.fail(
            f"stackyard: docker_ip: the services are on several nodes of the Swarm ({listed}); "
            "use docker_services.stack.url(SERVICE)",
            pytrace=False,
        )
    return hosts[0]


@pytest.fixture(scope=fixture_scope)
def docker_compose_file(pytestconfig: pytest.Config) -> str | list[str]:
    """Give the Compose files: tests/docker-compose.yml if there is one, else those that Compose finds. Override it."""
    usual = pytestconfig.rootpath / "tests" / "docker-compose.yml"
    return str(usual) if usual.exists() else []


@pytest.fixture(scope=fixture_scope)
def docker_services(
    request: pytest.FixtureRequest, docker_compose_file: str | Path | Sequence[str | Path]
) -> Iterator[Services]:
    """Give the services of a copy of the project of *docker_compose_file*; `--stackyard-scope` says whose it is."""
    from stackyard.pytest_plugin.stacks import given

    named = [docker_compose_file] if isinstance(docker_compose_file, str | PathLike) else docker_compose_file
    with given(request.config, shared=scope_of(request.config) == "run", files=[*map(str, named)]) as stack:
        yield Services(stack)

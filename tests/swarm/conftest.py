"""One Swarm of three nodes for the whole session; a test that breaks it makes its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.projects.conftest import box
from tests.swarm import nodes

from stackyard.docker import Engine
from stackyard.docker.swarm import Swarm

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["box"]


@pytest.fixture(scope="session")
def machines(box: str) -> Iterator[list[nodes.Node]]:
    nodes.build()
    with nodes.swarm([box]) as made:
        yield made


@pytest.fixture
def site(machines: list[nodes.Node], monkeypatch: pytest.MonkeyPatch) -> Iterator[Swarm]:
    """Give the Swarm as its users reach it: through one of its managers."""
    monkeypatch.setenv("DOCKER_HOST", machines[0].host)
    with Engine() as engine:
        yield Swarm(engine)

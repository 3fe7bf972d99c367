"""One Swarm of three nodes for the whole session; a test that breaks it makes its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.projects.conftest import box
from tests.swarm import nodes

from stackyard.docker import Engine
from stackyard.docker.swarm import Swarm
from stackyard.sites.swarm import removal
from stackyard.sites.swarm.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["box"]
PROJECTS: Final = Path(__file__).parents[1] / "projects"


@pytest.fixture(scope="session")
def machines(box: str) -> Iterator[list[nodes.Node]]:
    nodes.build()
    with nodes.swarm([box]) as made:
        yield made


@pytest.fixture
def project(box: str, tmp_path: Path) -> Callable[[str], Path]:
    """Copy one of the small foreign projects, with the image that the nodes have."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(PROJECTS / name, folder)
        for file in folder.rglob("*.yaml"):
            text = file.read_text()
            for image in ("image: box", 'image: "postgres:17"'):
                text = text.replace(image, f"image: {box}")
            file.write_text(text)
        return folder

    return make


@pytest.fixture
def site(machines: list[nodes.Node], monkeypatch: pytest.MonkeyPatch) -> Iterator[Swarm]:
    """Give the Swarm as its users reach it: through one of its managers."""
    monkeypatch.setenv("DOCKER_HOST", machines[0].host)
    with Engine() as engine:
        yield Swarm(engine)
        leases = Leases(Swarm(engine))
        for lease in leases.leases():  # what a failed test has left
            leases.renew(lease, 0)
        removal.sweep(Swarm(engine))


@pytest.fixture
def contexts(machines: list[nodes.Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each node's engine a Docker context of the node's name, which reaches it over TCP with TLS."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for number, node in enumerate(machines, 1):
        nodes.docker("context", "create", f"n{number}", "--docker", node.over_tls)

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fake_engine import FakeEngine, serve
from fake_images import Yard, lay_out, surround

from stackyard import images
from stackyard._util import advice
from stackyard.cli.commands import COMMANDS
from stackyard.docker import Engine

advice.offer(COMMANDS)  # whichever test is imported first
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# what a caller's shell may have set for stackyard, Compose, Docker, nox and for the shape of output
FOREIGN = ("STACKYARD_", "COMPOSE_", "DOCKER_", "NOX")
FOREIGN_NAMES = frozenset({"CI", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTEST_ADDOPTS"})


def forget_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what the caller's shell set for us out of the environment."""
    for name in [name for name in os.environ if name.startswith(FOREIGN) or name in FOREIGN_NAMES]:
        monkeypatch.delenv(name)
    # tests count leases and processes; those of the reaper start one for themselves
    monkeypatch.setenv("STACKYARD_REAPER", "off")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test the environment of a shell in which nothing is set for us, and no site that a command named."""
    forget_the_callers(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))  # never the user's own book
    monkeypatch.setattr(advice, "_commands", {**COMMANDS})
    monkeypatch.setattr(advice, "_site", [])


@pytest.fixture
def free_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every port and subnet be free, whatever real stacks run on this host."""
    monkeypatch.setattr("stackyard.leases.grants.host_ports.can_bind", lambda _port: True)
    monkeypatch.setattr("stackyard.leases.grants.messages.can_bind", lambda _port: True)
    monkeypatch.setattr("stackyard.leases.grants.host_ports.routes", list)


@pytest.fixture
def fake_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    engine = FakeEngine()
    server = serve(engine, tmp_path / "docker.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("STACKYARD_START", "compose")  # a `docker` of a few lines renders no model
    yield engine
    server.shutdown()
    server.server_close()


@pytest.fixture
def engine(fake_engine: FakeEngine) -> Iterator[Engine]:
    del fake_engine  # DOCKER_HOST names it
    with Engine(deadline=5) as connected:
        yield connected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the folder of a project named shop; its Compose file is empty, because a fake Compose renders it."""
    made = tmp_path / "shop"
    made.mkdir()
    (made / "compose.yaml").touch()
    return made


@pytest.fixture
def image_yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    surround(monkeypatch, tmp_path)
    with lay_out(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def debian_images(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    """Build the Debian images once: it takes over a second."""
    folder = tmp_path_factory.mktemp("debian")
    with pytest.MonkeyPatch.context() as patch, lay_out(folder) as made:
        forget_the_callers(patch)
        surround(patch, folder)
        images.ensure("debian", source="packages")
        return made


@pytest.fixture
def built_yard(image_yard: Yard, debian_images: Yard) -> Yard:
    """Return a yard in which the Debian images of its tree have been built."""
    image_yard.copy(debian_images)
    return image_yard

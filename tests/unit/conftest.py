from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fake_engine import FakeEngine, serve
from fake_images import Yard, lay_out

from stackyard.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# tests count leases and processes; those of the yardmaster start one for themselves
os.environ["STACKYARD_YARDMASTER"] = "off"


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
def image_yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("STACKYARD_START", "compose")  # a `docker` of a few lines renders no model
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with lay_out(tmp_path) as made:
        monkeypatch.setenv("STACKYARD_ROOT", str(made.root))
        yield made

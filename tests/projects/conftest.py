"""What the projects' containers run: one small image, made here from an image of the platform; no registry is asked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.projects.expected import PLACES

from stackyard._util import process
from stackyard.cleanup import removal
from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments.launch import prepare_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stackyard.leases import LeaseBook

BOX: Final = "stackyard-test/box"

os.environ.update(PLACES)  # some tests give commands the caller's environment
os.environ["STACKYARD_REAPER"] = "off"  # what a test leaves is to be seen; the tests of the reaper start one


@pytest.fixture(scope="session")
def box() -> str:
    base = prepare_images(Environment.load("alpine-test"), print)["STACKYARD_IMAGE_BACKEND"]
    folder = Path(__file__).with_name("box")
    process.run(["docker", "build", "--quiet", "--build-arg", f"BASE={base}", "--tag", BOX, str(folder)], deadline=300)
    return BOX


@pytest.fixture
def project(box: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Copy one of the projects here, with the image that is to be had instead of those that it names."""
    here = request.path.parent

    def make(name: str) -> Path:
        folder = tmp_path / name.partition("/")[0]
        shutil.copytree(here / name.partition("/")[0], folder)
        for file in folder.rglob("*.yaml"):
            text = file.read_text()
            for image in ("image: box", 'image: "postgres:17"'):
                text = text.replace(image, f"image: {box}")
            file.write_text(text)
        for file in folder.rglob("Dockerfile"):
            file.write_text(f"FROM {box}\n")
        return tmp_path / name

    return make


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as connected:
        yield connected


@pytest.fixture
def book(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeaseBook]:
    """Give a lease book of this test alone; what a failed test leaves under its leases is removed."""
    state = tmp_path_factory.mktemp("state")
    state.chmod(0o700)
    made = open_book(Settings.load({**PLACES, "STACKYARD_STATE_DIR": str(state), "STACKYARD_REAPER": "off"}), engine)
    yield made
    removal.sweep(made, engine, everything=True)

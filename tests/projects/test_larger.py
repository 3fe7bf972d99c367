"""Larger projects: many copies at once, each by a command of its own; own data, own ports, nothing left."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.projects.expected import BARE

from stackyard._util import process
from stackyard.docker.ownership import HOST_LABEL
from stackyard.project import Project
from stackyard.project.environments import Environment
from stackyard.stacks.copies.leased_project import CopiedProject
from stackyard.stacks.environments.launch import prepare_images

if TYPE_CHECKING:
    from types import ModuleType

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

HERE: Final = Path(__file__).with_name("larger")
NAMES: Final = [path.parent.name for path in sorted(HERE.glob("*/compose.yaml"))]
NUMBER: Final = 10 if os.environ.get("STACKYARD_FULL") == "1" else 2
STACKYARD: Final = [sys.executable, "-c", "from stackyard.cli.entry import main; main()"]


@pytest.fixture(scope="session")
def images(box: str) -> None:
    platform = prepare_images(Environment.load("alpine-test"), print)
    bases = {f"images/{name}": platform[f"STACKYARD_IMAGE_{name.upper()}"] for name in ("postgres", "redis")}
    for folder, base in {**bases, "programs": box}.items():
        words = ["--build-arg", f"BASE={base}", "--tag", f"stackyard-test/{Path(folder).name}", str(HERE / folder)]
        process.run(["docker", "build", "--quiet", *words], deadline=300)


class Copies:
    """Copies of one project, by the commands that its users type."""

    def __init__(self, folder: Path, book: LeaseBook) -> None:
        self.folder = folder
        self.env = {
            **BARE, "STACKYARD_STATE_DIR": str(book.settings.state_dir), "STACKYARD_REAPER": "off",
        }  # fmt: skip

    def ask(self, *words: str) -> Any:
        done = subprocess.run(  # noqa: S603 - ours
            [*STACKYARD, *words, "--json"], cwd=self.folder, env=self.env, text=True, capture_output=True, check=False,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def up(self, number: int) -> list[dict[str, int]]:
        """Start as many copies at once; return each one's ports by service and target."""
        with ThreadPoolExecutor(number) as threads:
            found = list(
                threads.map(lambda index: self.ask("up", "--name", f"copy-{index}", "--timeout", "5m"), range(number))
            )
        return [{f"{item['service']} {item['target']}": item["port"] for item in one["ports"]} for one in found]


@pytest.fixture
def kept(images: None, tmp_path: Path, book: LeaseBook, request: pytest.FixtureRequest) -> Copies:
    del images  # they are there now
    folder = tmp_path / request.param
    shutil.copytree(HERE / request.param, folder)
    return Copies(folder, book)


def items(port: int, new: str = "") -> list[str]:
    """Read the items of the web front at *port*, after one more was written to it."""
    url = f"http://127.0.0.1:{port}/"
    if new:
        urllib.request.urlopen(url, data=new.encode(), timeout=120).close()
    with urllib.request.urlopen(url, timeout=120) as answer:
        found: list[str] = json.load(answer)
    return found


def until_kept(port: int, wanted: list[str]) -> None:
    """Ask until a worker has done its part."""
    end = time.monotonic() + 120
    while (found := items(port)) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def broker_client() -> ModuleType:
    spec = importlib.util.spec_from_file_location("broker", HERE / "programs" / "broker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kept", NAMES, indirect=True)
def test_many_copies_at_once_share_nothing_and_leave_nothing(kept: Copies, engine: Engine, book: LeaseBook) -> None:
    ports = kept.up(NUMBER)

    everywhere = [port for one in ports for port in one.values()]
    assert len(set(everywhere)) == len(everywhere)
    webs = [next(port for where, port in one.items() if where.startswith("web ")) for one in ports]
    for index, web in enumerate(webs):
        items(web, f"item of copy {index}")
    for index, web in enumerate(webs):
        until_kept(web, [f"item of copy {index}"])
    for index, one in enumerate(ports):
        if "broker 9092" in one:
            outside = ("localhost", one["broker 9092"])
            assert broker_client().metadata(*outside) == outside
            assert broker_client().fetch(*outside) == [f"item of copy {index}"]
    assert len(kept.ask("ps")) == NUMBER

    removed = kept.ask("down", "--all")

    forget(kept.folder)
    assert [item for one in removed["removals"] for item in one["left"]] == []
    assert engine.everything([f"{HOST_LABEL}={book.host}"]) == []
    assert book.leases() == []


def forget(folder: Path) -> None:
    """Remove the images that the copies were built with."""
    name = CopiedProject.of(Project.find(folder, environment=BARE)).name
    found = process.run(["docker", "images", "--quiet", f"stackyard-copy/*/{name}"], deadline=120).stdout.split()
    if found:
        process.run(["docker", "image", "rm", "--force", *found], deadline=280)

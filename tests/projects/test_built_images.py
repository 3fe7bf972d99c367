"""The images that copies are built with, on a real engine: what is held, what a kill leaves, what is removed."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackyard._util import process
from stackyard._util.failpoints import VARIABLE
from stackyard.cleanup import removal
from stackyard.docker import images
from stackyard.docker.lease_book import open_book
from stackyard.docker.ownership import BUILD_LABEL, HOST_LABEL
from stackyard.images import copy_images, unused
from stackyard.project import Project
from stackyard.stacks import builds, unused_images
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.copies.leased_project import CopiedProject
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.docker import Engine
    from stackyard.images.unused import Clearance
    from stackyard.leases import LeaseBook

PROGRAM = Path(sys.executable).with_name("stackyard")
FILE = """
services:
  web:
    build: .
    init: true
"""

TIED = """
services:
  db: {image: stackyard-test/box, command: [sleep, "1000"], ipc: shareable, init: true, volumes: ["rows:/rows"]}
  web: {build: ., init: true, links: ["db:database"], volumes_from: [db]}
  tool: {build: {context: ., args: {of: tool}}, init: true, network_mode: "service:db", ipc: "service:db"}
  guest: {build: {context: ., args: {of: guest}}, init: true, pid: "service:db"}
volumes: {rows: {}}
"""


@pytest.fixture
def shop(box: str, tmp_path: Path) -> Path:
    """Make a project of one service with a build."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "compose.yaml").write_text(FILE)
    (folder / "Dockerfile").write_text(f"FROM {box}\nCOPY app.py /app.py\n")
    (folder / "app.py").write_text("1\n")
    return folder


@pytest.fixture
def book(book: LeaseBook, engine: Engine) -> Iterator[LeaseBook]:
    """Give a lease book that removes all images of its own at the end."""
    yield book
    removal.sweep(book, engine, everything=True)
    for row in own(engine, book):
        for name in row.references:
            images.untag(engine, name)


def own(engine: Engine, book: LeaseBook) -> list[images.EngineImage]:
    return images.labelled(engine, f"{BUILD_LABEL}.host={book.host}")


def impatient(book: LeaseBook, engine: Engine) -> LeaseBook:
    """Return the same book with a setting that keeps no image that no copy uses."""
    return open_book(replace(book.settings, keep_images=0.001), engine)


def cleared(book: LeaseBook, engine: Engine) -> Clearance:
    return unused.remove(engine, unused_images.find(book, engine), unused_images.guard(book, engine))


def run(folder: Path, book: LeaseBook, *words: str, **more: str) -> process.Completed:
    environment = {"STACKYARD_STATE_DIR": str(book.settings.state_dir), "STACKYARD_REAPER": "off", **more}
    return process.run([str(PROGRAM), *words], deadline=280, env=environment, cwd=folder, check=False)


def test_a_kill_between_the_build_and_the_start_leaves_an_image_that_the_next_start_uses(
    shop: Path, engine: Engine, book: LeaseBook
) -> None:
    killed = run(shop, book, "up", **{VARIABLE: "build"})

    assert killed.returncode == -9
    assert engine.everything([f"{HOST_LABEL}={book.host}"]) == []
    assert book.leases() == []
    (image,) = own(engine, book)
    assert unused_images.find(book, engine) == []
    assert sorted(path.suffix for path in (book.settings.state_dir / "builds").iterdir()) in (
        [".json", ".lock"], [".json", ".lock", ".lock"],
    )  # fmt: skip

    lines = list[str]()
    copy = lifecycle.start(Project.find(shop, environment=os.environ), book, engine, CopyRequest(progress=lines.append))
    assert [line for line in lines if "building" in line] == []
    assert copy.model["services"]["web"]["image"] == image.id
    assert cleared(impatient(book, engine), engine).removed == ()
    copy.down()

    assert cleared(impatient(book, engine), engine).removed == image.references
    assert own(engine, book) == []


def test_a_build_needs_no_service_that_its_own_is_tied_to(shop: Path, book: LeaseBook) -> None:
    (shop / "compose.yaml").write_text(TIED)

    up = run(shop, book, "up")
    assert up.returncode == 0, up.stderr


def test_a_clean_up_of_another_process_waits_for_a_start_and_leaves_its_image(
    shop: Path, engine: Engine, book: LeaseBook
) -> None:
    project = Project.find(shop, environment=os.environ)
    name = CopiedProject.of(project).name

    with builds.built(project, project.model(), name, book, engine, lambda _line: None) as built:
        words = ["cleanup-images", "--yes", "--json"]
        found: dict[str, Any] = json.loads(run(shop, book, *words, STACKYARD_KEEP_IMAGES="1ms").stdout)
        assert (found["removed"], [reason for _, reason in found["kept"]]) == ([], [unused.BUSY])
        assert copy_images.exists(engine, built["web"])
    found = json.loads(run(shop, book, *words, STACKYARD_KEEP_IMAGES="1ms").stdout)

    assert found["removed"] == [f"stackyard-copy/{book.host}/{name}:web"]
    assert copy_images.exists(engine, built["web"]) is None


def test_starts_and_clean_ups_at_once_never_miss_an_image(shop: Path, engine: Engine, book: LeaseBook) -> None:
    over, failures = threading.Event(), list[str]()

    def sweep() -> None:
        hasty = impatient(book, engine)
        while not over.is_set():
            failures.extend(f"{name}: {reason}" for name, reason in cleared(hasty, engine).left)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        started = []
        for number in range(3):
            (shop / "app.py").write_text(f"{number}\n")
            started.append(lifecycle.start(Project.find(shop, environment=os.environ), book, engine))
        used = {copy.model["services"]["web"]["image"] for copy in started}
        assert used == {row.id for row in own(engine, book)}
        for copy in started:
            copy.down()
    finally:
        over.set()
        sweeper.join()

    assert len(used) == 3
    assert failures == []
    cleared(impatient(book, engine), engine).check()
    assert own(engine, book) == []


def test_a_name_that_somebody_gave_keeps_the_image(shop: Path, engine: Engine, book: LeaseBook) -> None:
    project, mine = Project.find(shop, environment=os.environ), f"stackyard-test/kept-{book.host}:1"
    with builds.built(
        project, project.model(), CopiedProject.of(project).name, book, engine, lambda _line: None
    ) as built:
        images.tag(engine, built["web"], mine)

    cleared(impatient(book, engine), engine).check()

    answer = copy_images.exists(engine, mine)
    images.untag(engine, mine)
    assert answer
    assert answer["RepoTags"] == [mine]

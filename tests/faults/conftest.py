"""The host of the fault tests, made once; each test gets it clean, must leave it clean, and must touch nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from typing import TYPE_CHECKING

import pytest
from tests import places
from tests.faults.fault_host import CHECKOUT, CLEAN, Yard

from stackyard import images
from stackyard.docker import Engine
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments.launch import launch
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.starts.request import EnvironmentRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def own_number(folder: Path) -> int:
    """Return the lowest number from 0 to 8 that no other run of these tests has; it is kept until this process ends."""
    for number in range(9):
        handle = os.open(folder / f"stackyard-faults-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        os.close(handle)
    pytest.fail("nine runs of these tests are under way already; wait for one to end")


@pytest.fixture(scope="session")
def yard_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    number = own_number(tmp_path_factory.getbasetemp().parent)
    first = 21000 + number * 1000  # two of these at once on one machine are two books: each its own pool
    folder = tmp_path_factory.mktemp("yard")
    root = folder / "project"
    for part in ("envs", "compose"):
        shutil.copytree(CHECKOUT / part, root / part, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    environments = root / "envs" / "docker_environments.yaml"
    environments.write_text(environments.read_text().replace("startup: 30s", "startup: 280s"))  # on a busy machine
    root.joinpath("tests", "platform").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, Engine() as engine, contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, root)  # plain image names that were given for it are free again
        for name, value in {
            "STACKYARD_ROOT": root, "STACKYARD_STATE_DIR": folder / "state", "STACKYARD_POOL": f"{first}-{first + 999}",
            "STACKYARD_POOL_SUBNETS": f"10.214.{number * 16}.0/20", "PYTHONDONTWRITEBYTECODE": "1",
            "STACKYARD_REAPER": "off", **places.PATIENT,
        }.items():  # fmt: skip
            patch.setenv(name, str(value))
        found = images.ensure("debian", source="auto", progress=print)
        references = {f"STACKYARD_IMAGE_{service.upper()}": name for service, name in found.items()}
        made = Yard(
            root=root, state=folder / "state", host=Settings.load().host, engine=engine, references=references
        )  # fmt: skip
        _lay_out_untouchable(made, undo)
        yield made
        assert made.remains() == CLEAN


def _lay_out_untouchable(yard: Yard, undo: contextlib.ExitStack) -> None:
    """Put a live stack, and things that only look like ours, for the fault tests."""
    control, _ = launch(
        Environment.load("test"),
        yard.book,
        yard.engine,
        EnvironmentRequest(deadline=280, fixed="prefer", progress=print),
    )
    yard.spared.add(control.lease.id)
    undo.callback(lambda: yard.spared.discard(control.lease.id))
    undo.callback(control.down)
    yard.untouchable.extend(("container", item.id) for item in yard.engine.containers(control.labels))
    yard.untouchable.extend(("network", item.id) for item in yard.engine.networks(control.labels))
    api, mark = yard.engine.api, uuid.uuid4().hex[:8]
    another = {"stackyard.lease": "0badcafe", "stackyard.host": f"not-{mark}"}
    for name, labels in ((f"stackyard-test-{mark}", {}), (f"stackyard-test-{mark}-labelled", another)):
        api.create_container(
            yard.references["STACKYARD_IMAGE_REDIS"], name=name, labels=labels, entrypoint=["sleep", "infinity"]
        )  # fmt: skip
        undo.callback(api.remove_container, name, force=True)
        api.start(name)
        api.create_network(name, labels=labels)
        undo.callback(api.remove_network, name)
        api.create_volume(name, labels=labels)
        undo.callback(api.remove_volume, name)
        yard.untouchable.extend((kind, name) for kind in ("container", "network", "volume"))


@pytest.fixture
def yard(yard_for_all: Yard) -> Iterator[Yard]:
    """The yard with a payload that passes; afterwards CLEAN and FOREIGN-SAFE must hold."""
    yard_for_all.suite("assert os.environ['STACKYARD_BACKEND_URL']")
    before = yard_for_all.snapshot()
    try:
        yield yard_for_all
        assert yard_for_all.remains() == CLEAN
        assert yard_for_all.snapshot() == before
    finally:
        _sweep(yard_for_all)


def _sweep(yard: Yard) -> None:
    """Remove what a failed test left, so that the next one is judged by itself."""
    for lease in yard.book.leases():
        if lease.id not in yard.spared:
            Stack(Environment.load("test"), lease, yard.book, yard.engine).down()


@pytest.fixture
def stack(yard: Yard) -> Iterator[Stack]:
    """A stack that is up; it is removed afterwards, whatever became of it."""
    made = yard.stack()
    try:
        made.up()
        yield made
    finally:
        assert made.down().left == []

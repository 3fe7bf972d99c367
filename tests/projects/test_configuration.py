"""What a project's configuration decides, in containers of real copies."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from tests.projects.expected import BARE

from stackyard._util import process
from stackyard.errors import UsageError
from stackyard.project import Project
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook
    from stackyard.stacks.copies.lifecycle import Copy

DIRECTORY = """
services:
  directory: {image: box, networks: [offices]}
  web: {image: box, ports: ["8080:80"], depends_on: [directory], networks: [offices, default]}
networks: {offices: {}}
"""


@contextlib.contextmanager
def started(project: Project, book: LeaseBook, engine: Engine) -> Iterator[Copy]:
    copy = lifecycle.start(project, book, engine)
    try:
        yield copy
    finally:
        copy.down().check()


def inside(copy: Copy, service: str, *words: str) -> str:
    return Stack.of(copy.lease, copy.book, copy.engine).exec_output(service, " ".join(words)).stdout


def test_a_value_follows_the_copy_where_the_configuration_says_so(
    project: Callable[[str], Path], engine: Engine, book: LeaseBook
) -> None:
    folder = project("port-named-elsewhere")
    (folder / "stackyard.toml").write_text(
        'rewrite = ["shop.ORDERS_URL"]\n[services.orders]\nready = {http = "/up"}\n[services.shop]\nready = "running"\n'
    )

    with started(Project.find(folder, environment=BARE), book, engine) as copy:
        (orders,) = copy.addresses
        variables = inside(copy, "shop", "env").splitlines()

        assert {f"ORDERS_URL=http://localhost:{orders.port}/v2", "LEVEL=8080"} <= {*variables}
        assert orders.url == f"http://127.0.0.1:{orders.port}"
        assert copy.ready is not None
        assert {one.service: one.rule.kind for one in copy.ready.services} == {"orders": "http", "shop": "running"}


def test_copies_use_the_service_that_they_share_and_leave_it_running(
    box: str, tmp_path: Path, engine: Engine, book: LeaseBook
) -> None:
    folder = tmp_path / "hr"
    folder.mkdir()
    (folder / "compose.yaml").write_text(f"name: hr-{os.urandom(3).hex()}" + DIRECTORY.replace("box", box))
    (folder / "pyproject.toml").write_text('[tool.stackyard.share]\nnetworks = ["offices"]\nservices = ["directory"]\n')
    project = Project.find(folder, environment=BARE)
    own = ["docker", "compose"]

    with pytest.raises(UsageError, match="shared by the configuration but missing: network hr-"):
        lifecycle.start(project, book, engine)
    try:
        process.run([*own, "up", "--detach", "directory"], deadline=280, env=BARE, cwd=folder)
        shared = process.run([*own, "ps", "--quiet", "directory"], deadline=120, env=BARE, cwd=folder).stdout[:12]
        with started(project, book, engine) as one, started(project, book, engine) as two:
            assert [inside(copy, "web", "getent", "hosts", "directory") != "" for copy in (one, two)] == [True, True]
            for copy in (one, two):
                assert [item.service for item in Stack.of(copy.lease, book, engine).status()] == ["web"]
        left = process.run([*own, "ps", "--quiet"], deadline=120, env=BARE, cwd=folder).stdout[:12]
    finally:
        process.run([*own, "down", "--timeout", "0"], deadline=280, env=BARE, cwd=folder)

    assert left == shared != ""
    assert book.leases() == []

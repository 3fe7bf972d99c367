"""Each project whose verdict is "copies": two copies at once with the user's own stack, and nothing of them left."""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.projects.expected import BARE, COPIES

from stackyard._util import process
from stackyard.docker.compose import taken
from stackyard.docker.ownership import COPY_LABEL, HOST_LABEL
from stackyard.errors import CommandError
from stackyard.leases.grants.host_ports import can_bind
from stackyard.project import Project, published_ports
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.copies.leased_project import CopiedProject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook
    from stackyard.plan import Address

VARIABLES = {"secrets-and-configs": {"LEDGER_KEY": "k"}}
# plain Compose cannot start them together with others: they need what is outside the project
NOT_PLAIN = {"external-network", "named-volumes", "database-folder", "the-engine-s-socket"}


def opened(folder: Path, name: str) -> Project:
    return Project.find(folder, environment=BARE | VARIABLES.get(name, {}))


@contextlib.contextmanager
def the_user_s_own(project: Project, *, possible: bool) -> Iterator[bool]:
    """Run plain Compose on the same files, if their ports are free on this host."""
    fixed = [port for entry in published_ports(project.model()) for port in entry.published or ()]
    if not possible or not all(map(can_bind, fixed)):
        yield False
        return
    words = ["docker", "compose", "--project-name", f"plain-{os.urandom(4).hex()}"]
    try:
        yield _is_up(project, words)
    finally:
        down = [*words, "down", "--volumes", "--timeout", "0", "--rmi", "local"]
        process.run(down, deadline=280, env=project.environment, cwd=project.home)


def _is_up(project: Project, words: list[str]) -> bool:
    """Start the user's own; another program of this host may take one of its fixed ports after they were looked at."""
    for _ in range(5):  # Compose starts a container and the one whose network it joins together, which may fail
        try:
            process.run([*words, "up", "--detach"], deadline=280, env=project.environment, cwd=project.home)
        except CommandError as error:
            if taken(error):
                return False
            if "cannot join network of a non running container" not in str(error):
                raise
        else:
            return True
    return False


def answers(address: Address) -> bool:
    if address.protocol == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.settimeout(1)
            for _ in range(10):  # a datagram may get lost
                line.sendto(b"ping", (address.host, address.port))
                with contextlib.suppress(TimeoutError):
                    return line.recv(10) == b"ping"
            return False
    with urllib.request.urlopen(f"http://{address.where}", timeout=60) as reply:
        return bool(reply.read() == b"box")


def forget_images(project: Project) -> None:
    """Remove the images that the copies were built with: this checkout is of one test alone."""
    listed = ["docker", "images", "--quiet", f"stackyard-copy/*/{CopiedProject.of(project).name}"]
    if images := process.run(listed, deadline=120).stdout.split():
        process.run(["docker", "image", "rm", "--force", *images], deadline=280)


def of_copies(engine: Engine, book: LeaseBook) -> list[Any]:
    return engine.everything([f"{HOST_LABEL}={book.host}", COPY_LABEL])


@pytest.mark.parametrize("name", COPIES)
def test_two_copies_run_beside_the_user_s_own_and_leave_nothing(
    name: str, project: Callable[[str], Path], engine: Engine, book: LeaseBook
) -> None:
    found = opened(project(name), name)

    with the_user_s_own(found, possible=name not in NOT_PLAIN), ThreadPoolExecutor() as threads:
        started = [threads.submit(lifecycle.start, found, book, engine) for _ in range(2)]
        pair = [one.result() for one in started]
        everywhere = [address for copy in pair for address in copy.addresses]

        assert len({(address.port, address.protocol) for address in everywhere}) == len(everywhere)
        assert len(pair[0].addresses) == len(pair[1].addresses) >= (1 if COPIES[name][0] else 0)
        assert all(map(answers, everywhere))
        removals = list(threads.map(lambda copy: copy.down(), pair))

    forget_images(found)
    assert [item for removal in removals for item in removal.left] == []
    assert of_copies(engine, book) == []
    assert book.leases() == []

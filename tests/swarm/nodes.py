"""A Docker Swarm of three engines, each in a privileged container of this host's engine; removed with all they hold."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.projects.second_engine import certificates

from stackyard._util import process
from stackyard.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGE: Final = "stackyard-test/node"
START: Final = """
mount --make-rshared / 2>/dev/null
until [ -e /node/certified ]; do sleep 0.1; done
exec dockerd --host unix:///node/docker.sock --host unix:///var/run/docker.sock --host tcp://0.0.0.0:2376 \\
  --tlsverify --tlscacert /node/ca.pem --tlscert /node/cert.pem --tlskey /node/key.pem \\
  --bip 172.31.255.1/24 --storage-driver overlay2 >/node/log 2>&1
"""
MADE: Final = "stackyard-test-swarm"  # label of everything that is made here
TIMEOUT_S: Final = 60.0  # seconds for one command about a node


def docker(*words: str, deadline: float = TIMEOUT_S) -> str:
    # a test may have set them to one of the nodes
    own = {"DOCKER_HOST": "", "DOCKER_CONTEXT": ""}
    return process.run(["docker", *words], deadline=deadline, env=own).stdout.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One engine of the Swarm."""

    container: str
    folder: Path

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def docker(self, *words: str) -> str:
        return docker("--host", self.host, *words)

    @property
    def address(self) -> str:
        return docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self.container)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def over_tls(self) -> str:
        """What `docker context create --docker` takes for its engine as other machines reach it."""
        return f"host=tcp://{self.address}:2376,{self.keys}"

    @property
    def keys(self) -> str:
        return ",".join(f"{name}={self.folder / name}.pem" for name in ("ca", "cert", "key"))

    def give(self, others: Sequence[Node], image: str) -> None:
        """Copy an image of this engine to others."""
        self.docker("save", "--output", f"{self.folder}/image.tar", image)
        for other in others:
            other.docker("load", "--quiet", "--input", f"{self.folder}/image.tar")

    def kill(self) -> None:
        """Take the machine away without a word to the others."""
        docker("kill", self.container)

    def cut(self, *, off: bool) -> None:
        """Take the machine off the network, or put it back."""
        docker("exec", self.container, "ip", "link", "set", "eth0", "down" if off else "up")

    def load(self, images: Sequence[str]) -> None:
        """Copy images of this host's engine, unless they are there."""
        with tempfile.TemporaryDirectory() as folder:
            docker("save", "--output", f"{folder}/images.tar", *images)
            self.docker("load", "--quiet", "--input", f"{folder}/images.tar")

    def holds(self, label: str) -> list[str]:
        """List containers with *label*, and all volumes: nothing else on these engines has any."""
        found = self.docker("ps", "--all", "--quiet", "--filter", f"label={label}").split()
        return [*found, *self.docker("volume", "ls", "--quiet").split()]


@contextlib.contextmanager
def swarm(images: Sequence[str], *, count: int = 3, managers: int = 1, heartbeat: str = "3s") -> Iterator[list[Node]]:
    """Give a `with` block a Swarm whose first nodes are its managers; the nodes have *images*."""
    name, folder = f"{MADE}-{os.urandom(3).hex()}", Path(tempfile.mkdtemp(prefix="swarm-"))
    try:
        docker("network", "create", "--label", MADE, name)
        with ThreadPoolExecutor() as threads:
            nodes = list(threads.map(lambda number: _node(name, folder, number), range(1, count + 1)))
            _join(nodes, managers, heartbeat)
            list(threads.map(lambda node: node.load(images), nodes if images else []))
        yield nodes
    finally:
        _remove(name)
        shutil.rmtree(folder, ignore_errors=True)


def base() -> str:
    """Return the platform's Debian base."""
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return next(line for line in listed if "/base-debian:" in line)


def build() -> None:
    """Build the image of a node from the platform's Debian base, if it has changed."""
    here = Path(__file__).parent / "node"
    words = ["docker", "build", "--quiet", "--build-arg", f"BASE={base()}", "--tag", IMAGE, str(here)]
    process.run(words, deadline=600)


def _node(swarm_name: str, folder: Path, number: int) -> Node:
    node = Node(container=f"{swarm_name}-{number}", folder=folder / f"n{number}")
    node.folder.mkdir()
    docker(
        "run", "--detach", "--privileged", "--name", node.container, "--hostname", f"n{number}", "--label", MADE,
        "--network", swarm_name, "--volume", "/var/lib/docker", "--volume", f"{node.folder}:/node", IMAGE,
        "sh", "-c", START,
    )  # fmt: skip
    certificates(node.folder, node.address)
    (node.folder / "certified").touch()
    for left in range(100, -1, -1):
        try:
            node.docker("version")
        except CommandError:
            if not left:
                raise AssertionError((node.folder / "log").read_text()[-2000:]) from None
            time.sleep(0.2)
        else:
            break
    return node


def _join(nodes: Sequence[Node], managers: int, heartbeat: str) -> None:
    first, *others = nodes
    # the heartbeat with which copies leave a lost node soonest (docs/many-machines.md)
    first.docker("swarm", "init", "--advertise-addr", first.address, "--dispatcher-heartbeat", heartbeat)
    for number, node in enumerate(others, 2):
        token = first.docker("swarm", "join-token", "--quiet", "manager" if number <= managers else "worker")
        node.docker("swarm", "join", "--token", token, f"{first.address}:2377")


def _remove(name: str) -> None:
    """Remove the nodes with their volumes, then the network."""
    for word in docker("ps", "--all", "--quiet", "--filter", f"name={name}").split():
        docker("rm", "--force", "--volumes", word)
    with contextlib.suppress(CommandError):
        docker("network", "rm", name)

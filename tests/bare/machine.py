"""A machine with nothing but a small Debian on it: a privileged container, in which an engine of its own can run."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from image_builder import debian
from stackyard._util import process

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = "bookworm"
INCLUDED = ("python3", "ca-certificates", "git")
LABEL = "bare-machine"
TREE = "/root/stackyard"
TRUST = "/usr/local/share/ca-certificates/host.crt"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
DEADLINE = 600.0  # seconds for a step of the host


@dataclass(frozen=True, slots=True)
class Machine:
    """
    A running bare machine.

    Attributes:
        name: Of its container.
    """

    name: str

    def read(self, *words: str) -> str:
        """Return what a command prints; raise CommandError if it fails."""
        return process.run(["docker", "exec", self.name, *words], deadline=DEADLINE).stdout

    def run(self, *words: str) -> tuple[int, float]:
        """Run a command in the tree, without a terminal or standard input; return its exit code and seconds."""
        began = time.monotonic()
        code = process.passthrough(["docker", "exec", "--workdir", TREE, self.name, *words], inherit=False)
        return code, time.monotonic() - began

    def start(self, *words: str, log: str) -> None:
        """Start a command that goes on in the background and writes to the file *log*."""
        script = 'log=$1; shift; exec "$@" >"$log" 2>&1'
        argv = ["docker", "exec", "--detach", self.name, "sh", "-c", script, "sh", log, *words]
        process.run(argv, deadline=DEADLINE)

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or folder of the host into the machine, as root's."""
        process.run(["docker", "cp", "--quiet", str(source), f"{self.name}:{target}"], deadline=DEADLINE)

    def packages(self) -> dict[str, str]:
        """Return the Debian packages with their versions."""
        rows = self.read("dpkg-query", "--show", "--showformat", "${Package} ${Version}\n").splitlines()
        return dict(row.split(" ", 1) for row in rows)


@contextlib.contextmanager
def bare_machine(tree: Path) -> Iterator[Machine]:
    """
    Make a bare machine with a fresh clone of *tree*, and remove all of it in the end.

    Raises:
        ImageError: If the host cannot make a Debian root.
        CommandError: If the engine refuses.
    """
    name = f"{LABEL}-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        image = _image(name, Path(folder))
        try:
            words = ["--privileged", "--init", "--volume", "/var/lib/docker", "--label", LABEL, "--hostname", "bare"]
            process.run(["docker", "run", "--detach", "--name", name, *words, image, "sleep", "infinity"], deadline=60)
            machine = Machine(name)
            _furnish(machine, tree, Path(folder))
            yield machine
        finally:
            process.run(["docker", "rm", "--force", "--volumes", name], deadline=DEADLINE, check=False)
            process.run(["docker", "image", "rm", image], deadline=DEADLINE, check=False)


def _image(name: str, folder: Path) -> str:
    archive, work = folder / "root.tar", folder / "work"
    work.mkdir()
    debian.make_root(archive, work, suite=SUITE, included=INCLUDED)
    process.run(["docker", "import", str(archive), name], deadline=DEADLINE)
    archive.unlink()
    return name


def _furnish(machine: Machine, tree: Path, folder: Path) -> None:
    """Bring in a clone of *tree*, and of the host only whom it trusts: its certificates may be a proxy's."""
    clone = folder / "clone"
    process.run(["git", "clone", "--quiet", "--depth", "1", tree.as_uri(), str(clone)], deadline=DEADLINE)
    machine.copy(clone, TREE)
    trusted = Path(os.environ.get("SSL_CERT_FILE", BUNDLE))
    if trusted.exists():
        machine.copy(trusted, TRUST)
        machine.read("update-ca-certificates")

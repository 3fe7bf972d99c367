"""
A second Docker engine, which is reached as one on another machine is: over TCP with TLS, at an address of its own.

It is in the network namespace of a container of the machine's engine, so a bridge connects it with this machine.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.faults.private_engine import PrivateEngine

from stackyard._util import process
from stackyard.docker import Engine, Resource
from stackyard.docker.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT: Final = "second"
CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
USES: Final = "extendedKeyUsage=serverAuth,clientAuth"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondEngine:
    """
    One that runs.

    Attributes:
        private: Its processes.
        address: Its IPv4 address.
        config: Folder for DOCKER_CONFIG, with a context `second`.
    """

    private: PrivateEngine
    address: str
    config: Path

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.find({"DOCKER_CONFIG": str(self.config), "DOCKER_CONTEXT": CONTEXT})

    def everything(self) -> list[Resource]:
        """List what it holds, the claims too; its own networks are no part of it."""
        with Engine(endpoint=self.endpoint) as engine:
            own = {"bridge", "host", "none"}
            return [item for item in engine.everything([]) if item.name not in own]


@contextlib.contextmanager
def second_engine(image: str) -> Iterator[SecondEngine]:
    """Start one that has *image*, and remove it."""
    with contextlib.ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="sy-")))
        main = undo.enter_context(Engine())
        pid, address = undo.enter_context(network_of(main, image))
        certificates(folder, address)
        words = ("--host", f"tcp://{address}:2376", "--tlsverify", "--tlscacert", str(folder / "ca.pem"),
                 "--tlscert", str(folder / "cert.pem"), "--tlskey", str(folder / "key.pem"))  # fmt: skip
        private = PrivateEngine(folder / "e", words, namespace=pid)
        undo.callback(private.close)
        private.lay_out()
        private.start()
        private.load(main, [image])
        made = SecondEngine(private=private, address=address, config=folder / "config")
        _context(folder, made)
        yield made


@contextlib.contextmanager
def network_of(main: Engine, image: str) -> Iterator[tuple[int, str]]:
    """Give the process and the address of a container that does nothing but have a network namespace, as a machine."""
    words = ["docker", "run", "--detach", "--entrypoint", "sleep", image, "infinity"]
    identity = process.run(words, deadline=280).stdout.strip()
    try:
        found: Any = main.api.inspect_container(identity)
        yield found["State"]["Pid"], found["NetworkSettings"]["IPAddress"]
    finally:
        main.remove(Resource(kind="container", id=identity, name=identity, labels={}))


def certificates(folder: Path, address: str) -> None:
    """Make an authority, and one certificate for both sides: `ca.pem`, `cert.pem` and `key.pem`."""
    (folder / "uses").write_text(f"subjectAltName=IP:{address}\n{USES}\n")
    for words in (
        ("req", "-x509", *CURVE, "-days", "2", "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=authority"),
        ("req", *CURVE, "-keyout", "key.pem", "-out", "request", "-subj", "/CN=engine"),
        ("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2",
         "-out", "cert.pem", "-extfile", "uses"),
    ):  # fmt: skip
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=120)  # noqa: S603, S607 - our own words


def _context(folder: Path, made: SecondEngine) -> None:
    made.config.mkdir()
    files = ",".join(f"{name}={folder / name}.pem" for name in ("ca", "cert", "key"))
    words = ["docker", "context", "create", CONTEXT, "--docker", f"host=tcp://{made.address}:2376,{files}"]
    process.run(words, deadline=120, env={"DOCKER_CONFIG": str(made.config)})

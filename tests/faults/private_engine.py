"""
A Docker engine of the tests' own, so that engines can be killed, frozen, filled up and started again.

It has a containerd, a network namespace and a data root of its own, the last on a tmpfs of a known size. The machine's
engine, its bridges and its packet filter know nothing of it. To reach a port published here, join the namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from stackyard.docker import Engine
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.images import export

if TYPE_CHECKING:
    from collections.abc import Iterable

# what `ip link set lo up` asks the kernel; a small Debian has no `ip`
LOOPBACK_UP = """
import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))
"""
SIZE = "900m"  # of the tmpfs: four Debian images unpacked, and room for a stack
TIMEOUT_S = 120.0  # seconds for dockerd to answer; it takes 2 to 4


@dataclass(slots=True)
class PrivateEngine:
    """
    One dockerd with its containerd.

    Attributes:
        folder: Where everything of it is; short, because a socket's path may have 107 bytes.
        options: More options for dockerd.
        namespace: A process in whose network namespace it is to be; 0 makes a new namespace.
        children: The processes started here, by program.
    """

    folder: Path
    options: tuple[str, ...] = ()
    namespace: int = 0
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def inside(self, *words: str) -> list[str]:
        """Return *words* as a command in the engine's network namespace."""
        return ["nsenter", f"--net=/proc/{self.namespace}/ns/net", "--", *words]

    def lay_out(self) -> None:
        """Make the file system, the network namespace and containerd."""
        self.folder.mkdir(mode=0o755)
        run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "tmpfs", str(self.folder))
        if not self.namespace:
            self._make_namespace()
        self._start_containerd()

    def _make_namespace(self) -> None:
        # the namespace lives as long as somebody is in it, whatever becomes of dockerd
        self._start("holder", "unshare", "--net", "sleep", "infinity")
        self.namespace = self.children["holder"].pid
        own = Path("/proc/self/ns/net").readlink()
        _until(lambda: Path(f"/proc/{self.namespace}/ns/net").readlink() != own)
        run(*self.inside(sys.executable, "-c", LOOPBACK_UP))

    def _start_containerd(self) -> None:
        (self.folder / "containerd.sock").unlink(missing_ok=True)
        self._start(
            "containerd", "containerd", "--root", str(self.folder / "containerd"),
            "--state", str(self.folder / "containerd-run"), "--address", str(self.folder / "containerd.sock"),
        )  # fmt: skip
        _until((self.folder / "containerd.sock").exists)

    def start(self) -> None:
        """Start dockerd, and containerd if it has ended, and wait until it answers."""
        if "containerd" not in self.children:
            self._start_containerd()
        (self.folder / "docker.pid").unlink(missing_ok=True)
        self._start("dockerd", *self.inside(
            "dockerd", "--host", self.address, "--data-root", str(self.folder / "data"),
            "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "docker.pid"),
            "--containerd", str(self.folder / "containerd.sock"), "--bridge=none", *self.options,
        ))  # fmt: skip
        _until(self._answers)

    def _start(self, name: str, *words: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.children[name] = subprocess.Popen(  # noqa: S603 - our own words
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )  # fmt: skip

    def _answers(self) -> bool:
        assert self.children["dockerd"].poll() is None, (self.folder / "dockerd.log").read_text()[-2000:]
        return Endpoint(url=self.address).ping(deadline=1.0).state == "answers"

    def signal(self, number: signal.Signals) -> None:
        """Send dockerd a signal, as an administrator or the kernel would."""
        self.children["dockerd"].send_signal(number)

    def kill(self) -> None:
        """Let the kernel end dockerd: no clean-up, containers and their shims go on."""
        self.signal(signal.SIGKILL)
        self.children.pop("dockerd").wait(TIMEOUT_S)

    def crash(self) -> None:
        """Let the kernel end dockerd and containerd at once: containers and their shims go on."""
        for child in (self.children.pop("dockerd"), self.children.pop("containerd")):
            child.kill()
            child.wait(TIMEOUT_S)

    def stop(self) -> None:
        """Stop dockerd in order; without live-restore that ends every container."""
        self.signal(signal.SIGTERM)
        self.children.pop("dockerd").wait(TIMEOUT_S)

    def power_off(self) -> None:
        """End dockerd, containerd, the shims and every container at once, as a power cut does, and forget /run."""
        self.crash()
        self._end_containers()
        for mount in _mounts_below(self.folder):
            if mount not in {str(self.folder), str(self.folder / "data")}:
                run("umount", "--lazy", mount)
        for name in ("exec", "containerd-run"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _end_containers(self) -> None:
        found = self.remains()
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=TIMEOUT_S)

    def remains(self) -> list[psutil.Process]:
        """List the shims of this engine and all below them: no others name its containerd's socket."""
        shims, below = self.shims(), []
        for shim in shims:
            with contextlib.suppress(psutil.NoSuchProcess):
                below += shim.children(recursive=True)
        return [*shims, *below]

    def shims(self, container: str = "") -> list[psutil.Process]:
        """List the shims of this engine, or the one that has started the container with the id *container*."""
        found = psutil.process_iter(["cmdline"])  # what they start comes and goes, so nothing is asked again
        return [
            process
            for process in found
            if "containerd-shim" in (words := process.info["cmdline"] or [""])[0]
            and str(self.folder / "containerd.sock") in words
            and (not container or container in words)
        ]

    def load(self, source: Engine, references: Iterable[str]) -> None:
        """Bring images here from another engine."""
        with self.engine() as target:
            api: Any = target.api  # the type stubs leave load_image untyped
            for reference in references:
                api.load_image(b"".join(export(source, reference)))

    def engine(self) -> Engine:
        """Return a client of this engine, whatever DOCKER_HOST says later."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", self.address)
            made = Engine(deadline=120)
            made.api  # noqa: B018 - connects now
        return made

    def fill(self) -> Path:
        """Leave no byte free below the engine; deleting the file that is returned makes room again."""
        path = self.folder / "filler"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while os.write(handle, bytes(size)):
                        pass
        finally:
            os.close(handle)
        return path

    def close(self) -> None:
        """End and remove all of it."""
        for name in ("dockerd", "containerd", "holder"):
            child = self.children.pop(name, None)
            if child is not None:
                child.send_signal(signal.SIGCONT)
                child.kill()
                child.wait(TIMEOUT_S)
        self._end_containers()
        for mount in _mounts_below(self.folder):
            run("umount", "--lazy", mount)
        self.folder.rmdir()


def run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=TIMEOUT_S)  # noqa: S603 - our own words


def _mounts_below(folder: Path) -> list[str]:
    """List the mounts, the innermost first."""
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = [place for place in places if place == str(folder) or place.startswith(f"{folder}/")]
    return sorted(found, key=len, reverse=True)


def _until(check: Any) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not check():
        assert time.monotonic() < end, f"the private engine did not get there within {TIMEOUT_S} s"
        time.sleep(0.02)

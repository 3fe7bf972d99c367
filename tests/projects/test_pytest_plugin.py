"""The pytest plugin in another project, as pip installs it: workers, three scopes, runs that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.etree import ElementTree as ET

import psutil
import pytest
from fake_install import INI, install

from stackyard.cleanup import removal
from stackyard.docker.ownership import COPY_LABEL, HOST_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

COMPOSE: Final = 'services: {{web: {{image: {box}, container_name: shop-web, ports: ["8080:80"]}}}}\n'
SUITE: Final = """
import os, time, urllib.request
import pytest

@pytest.mark.parametrize("number", range(int(os.environ["TESTS"])))
def test_web(stack, number):
    assert urllib.request.urlopen(stack.url("web")).read() == b"box"
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(f"{os.environ.get('PYTEST_XDIST_WORKER')} {os.getpid()} {stack.lease.id} {number}\\n")
    if number >= int(os.environ["SLOW"]):
        time.sleep(600)
"""
WORKERS: Final = 8
ENOUGH: Final = 280.0  # seconds, on a machine that does much else


class Seen(NamedTuple):
    """One test that has found its stack."""

    worker: str
    pid: int
    lease: str
    number: int


@dataclass
class Shop:
    """A stranger's project and what is known of its runs."""

    folder: Path
    book: LeaseBook
    engine: Engine
    child: subprocess.Popen[str] | None = None

    def start(self, *words: str, tests: int = 2 * WORKERS, slow: int = 1000, workers: int = WORKERS) -> None:
        """Run pytest; tests from number *slow* on do not end."""
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "STACKYARD_STATE_DIR": str(self.book.settings.state_dir), "STACKYARD_REAPER": "off", "TESTS": str(tests),
            "SLOW": str(slow), "SEEN": str(self.folder / "seen"), "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(self.folder / "installed"),
        }  # fmt: skip
        argv = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "--junit-xml=report.xml", *words]
        self.child = subprocess.Popen(  # noqa: S603 - ours
            argv, env=env, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    @property
    def run(self) -> subprocess.Popen[str]:
        assert self.child is not None
        return self.child

    def end(self) -> tuple[int, str]:
        """Wait for pytest's end; return its exit code and output."""
        out, _ = self.run.communicate(timeout=ENOUGH)
        return self.run.returncode, out

    def seen(self) -> list[Seen]:
        """Return the tests that have found their stacks, in the order of time."""
        path = self.folder / "seen"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [Seen(worker, int(pid), lease, int(number)) for worker, pid, lease, number in rows]

    def things(self) -> list[Any]:
        return self.engine.everything([f"{HOST_LABEL}={self.book.host}", COPY_LABEL])

    def keepers(self) -> list[int]:
        mark = str(self.folder / "tmp")
        return [item.pid for item in psutil.process_iter(["cmdline"]) if mark in " ".join(item.info["cmdline"] or [])]

    def left(self) -> list[Any]:
        """Return all that is left of this project's runs: on the engine, in the book, on the disk, of processes."""
        folders = [*(self.folder / "tmp").glob("stackyard-run-*")]
        return [*self.things(), *self.book.leases(), *folders, *self.keepers()]


@pytest.fixture
def shop(box: str, tmp_path: Path, book: LeaseBook, engine: Engine) -> Shop:
    install(tmp_path / "installed")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(box=box))
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "test_shop.py").write_text(SUITE)
    return Shop(folder=tmp_path, book=book, engine=engine)


def until(met: Callable[[], object], *, seconds: float = ENOUGH) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)


def addresses(report: Path) -> set[str]:
    return {
        str(item.get("value"))
        for item in ET.parse(report).iter("property")  # noqa: S314 - ours
        if item.get("name") == "stackyard web 80/tcp"
    }


def test_all_workers_share_one_stack_of_the_run(shop: Shop) -> None:
    shop.start()

    code, out = shop.end()

    assert code == 0, out
    seen = shop.seen()
    assert len(seen) == 2 * WORKERS
    assert len({item.worker for item in seen}) > 1
    assert len({item.lease for item in seen}) == 1
    assert len(addresses(shop.folder / "report.xml")) == 1
    assert shop.left() == []


def test_each_worker_has_a_stack_of_its_own(shop: Shop) -> None:
    shop.start("--stackyard-scope=worker")

    code, out = shop.end()

    assert code == 0, out
    pairs = {(item.worker, item.lease) for item in shop.seen()}
    assert len(pairs) == len({worker for worker, _ in pairs}) == len({lease for _, lease in pairs}) > 1
    assert len(addresses(shop.folder / "report.xml")) > 1
    assert shop.left() == []


def test_each_test_has_a_stack_of_its_own(shop: Shop) -> None:
    shop.start("--stackyard-scope=test", tests=WORKERS)

    code, out = shop.end()

    assert code == 0, out
    assert len({item.lease for item in shop.seen()}) == len(shop.seen()) == WORKERS
    assert shop.left() == []


@pytest.mark.parametrize("scope", ["run", "worker"])
def test_a_worker_that_is_killed_takes_nothing_from_the_others(shop: Shop, scope: str) -> None:
    shop.start(f"--stackyard-scope={scope}", tests=WORKERS, slow=WORKERS - 1, workers=3)
    until(lambda: len(shop.seen()) == WORKERS)
    (slow,) = [item for item in shop.seen() if item.number == WORKERS - 1]  # the others have passed, or will

    os.kill(slow.pid, signal.SIGKILL)
    code, out = shop.end()

    assert code == 1
    assert f"1 failed, {WORKERS - 1} passed" in out, out
    others = {item.lease for item in shop.seen() if item.pid != slow.pid}
    assert (others == {slow.lease}) if scope == "run" else (slow.lease not in others)
    assert shop.left() == []


@pytest.mark.parametrize("scope", ["run", "worker"])
def test_ctrl_c_removes_everything_before_pytest_ends(shop: Shop, scope: str) -> None:
    shop.start(f"--stackyard-scope={scope}", slow=0, workers=2)
    until(lambda: len(shop.seen()) == 2)

    os.killpg(shop.run.pid, signal.SIGINT)  # as a terminal does
    code, out = shop.end()

    assert code == pytest.ExitCode.INTERRUPTED, out
    assert shop.left() == []


@pytest.mark.parametrize(("scope", "workers"), [("run", 0), ("test", 0), ("run", 2), ("worker", 2)])
def test_sigterm_removes_everything_before_pytest_ends(shop: Shop, scope: str, workers: int) -> None:
    shop.start(f"--stackyard-scope={scope}", slow=0, workers=workers)
    until(lambda: len(shop.seen()) == max(workers, 1))

    shop.run.send_signal(signal.SIGTERM)  # as a build server does, to the process that it started
    code, out = shop.end()

    assert code == pytest.ExitCode.INTERRUPTED, out
    assert shop.left() == []


def test_ctrl_c_breaks_off_a_start(shop: Shop) -> None:
    text = (shop.folder / "compose.yaml").read_text()
    never = text.replace("container_name", "healthcheck: {test: [CMD, 'false'], interval: 1s}, container_name")
    (shop.folder / "compose.yaml").write_text(never)
    shop.start("--stackyard-timeout=20m", workers=2)
    until(shop.things)

    os.killpg(shop.run.pid, signal.SIGINT)
    code, out = shop.end()  # long before the start would have failed

    assert code == pytest.ExitCode.INTERRUPTED, out
    assert shop.left() == []


def test_a_run_that_is_killed_leaves_no_shared_stack(shop: Shop) -> None:
    shop.start(slow=0, workers=2)
    until(lambda: len(shop.seen()) == 2)

    os.killpg(shop.run.pid, signal.SIGKILL)
    shop.end()

    until(lambda: shop.left() == [])


def test_the_next_command_removes_what_workers_of_a_killed_run_had(shop: Shop) -> None:
    shop.start("--stackyard-scope=worker", slow=0, workers=2)
    until(lambda: len(shop.seen()) == 2)
    os.killpg(shop.run.pid, signal.SIGKILL)
    shop.end()
    assert len(shop.book.leases()) == 2

    removal.sweep(shop.book, shop.engine)

    assert shop.things() == shop.book.leases() == []

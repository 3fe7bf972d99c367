"""An engine that is killed with its containerd while a stranger's project starts or runs; it is the tests' own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest
from tests.faults.private_engine import PrivateEngine
from tests.projects.expected import BARE

from stackyard.docker import Engine
from stackyard.leases import LeaseBook
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stackyard.leases import Lease

STACKYARD: Final = (sys.executable, "-c", "from stackyard.cli.entry import main; main()")
ENOUGH: Final = 240.0  # seconds, on a machine that does much else
STANDARD: Final = "unix:///var/run/docker.sock"
NETWORKS: Final = ("bridge", "host", "none")  # the engine's own

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A stranger's project on that engine, and the commands that its user types."""

    private: PrivateEngine
    folder: Path
    settings: dict[str, str]

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - ours
            self.private.inside(*STACKYARD, *words), cwd=self.folder, env=BARE | self.settings, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def end(self, *words: str) -> tuple[int, str]:
        return finish(self.begin(*words))

    @property
    def leases(self) -> list[Lease]:
        return LeaseBook(Settings.load({**BARE, **self.settings})).leases()

    def things(self) -> list[Any]:
        with self.private.engine() as engine:
            return [item for item in engine.everything([]) if item.name not in NETWORKS]


def finish(child: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = child.communicate(timeout=ENOUGH)
    return child.returncode, out + err


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + ENOUGH
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def private(box: str) -> Iterator[PrivateEngine]:
    with tempfile.TemporaryDirectory(prefix="sy-") as short, Engine() as main:
        made = PrivateEngine(Path(short) / "e")
        try:
            made.lay_out()
            made.start()
            made.load(main, [f"{box}:latest"])
            yield made
        finally:
            made.close()


@pytest.fixture
def remote(private: PrivateEngine, project: Callable[[str], Path], tmp_path: Path) -> Iterator[Remote]:
    state = tmp_path / "state"
    settings = {"STACKYARD_STATE_DIR": str(state), "STACKYARD_REAPER": "off", "DOCKER_HOST": private.address}
    made = Remote(private=private, folder=project("five-services"), settings=settings)
    yield made
    assert made.things() == made.leases == []
    until(lambda: private.remains() == [])


def refused(code: int, said: str) -> bool:
    """Say whether a command ended as one does that finds no engine: in one line, with the code of an engine's error."""
    return code == 3 and "Traceback" not in said and said.count("\n") == 1 and "no engine answers" in said


@pytest.mark.parametrize("containers", [1, 3], ids=["first-containers", "while-dependencies-start"])
def test_an_engine_killed_while_a_copy_starts_keeps_the_lease_until_the_copy_can_be_removed(
    remote: Remote, containers: int
) -> None:
    child = remote.begin("up", "--name", "mine")
    until(lambda: len([item for item in remote.things() if item.kind == "container"]) >= containers)
    remote.private.crash()
    code, said = finish(child)
    kept = [lease.parallel_id for lease in remote.leases]
    swept = remote.end("cleanup")

    remote.private.start()

    assert (code, kept) == (3, ["mine"]), said
    assert "Traceback" not in said
    assert "no engine answers" in said
    assert refused(*swept), swept
    assert remote.end("down", "mine")[0] == 0


def test_an_engine_killed_while_a_copy_runs_costs_only_another_removal(remote: Remote) -> None:
    code, said = remote.end("up", "--name", "mine")
    assert code == 0, said
    shims = remote.private.shims()
    remote.private.crash()
    away = [remote.end(*words) for words in (("ps", "mine"), ("down", "mine"))]
    running = [shim for shim in shims if psutil.pid_exists(shim.pid)]
    kept = [lease.parallel_id for lease in remote.leases]

    remote.private.start()
    again = remote.end("up", "--name", "mine")
    code, said = remote.end("down", "mine")

    assert all(refused(*found) for found in away), away
    assert running == shims != []  # what the engine had started went on without it
    assert kept == ["mine"]
    assert (again[0], "is up, but not every service of it runs" in again[1]) == (7, True), again
    assert code == 0, said


def test_a_run_whose_engine_was_killed_ends_with_its_error_and_is_swept(remote: Remote) -> None:
    child = remote.begin("run", "--name", "mine", "--", "sh", "-c", "touch begun; sleep 2")
    until((remote.folder / "begun").exists)
    remote.private.crash()
    code, said = finish(child)

    remote.private.start()
    later = remote.end("cleanup")

    assert code == 3, said
    assert "Traceback" not in said
    assert later[0] == 0, later


def test_a_command_that_uses_another_engine_neither_ends_nor_takes_over_a_copy(remote: Remote) -> None:
    code, said = remote.end("up", "--name", "mine")
    assert code == 0, said
    before, here = remote.things(), replace(remote, settings={**remote.settings, "DOCKER_HOST": STANDARD})

    ended, again, seen = (here.end(*words) for words in (("down", "mine"), ("up", "--name", "mine"), ("ps", "mine")))

    words = f"is on another engine, {remote.private.address}, and this command uses {STANDARD} (from DOCKER_HOST)"
    assert (ended[0], words in ended[1]) == (8, True), ended
    assert (again[0], words in again[1]) == (2, True), again
    assert (seen[0], words in seen[1]) == (2, True), seen
    assert [lease.parallel_id for lease in remote.leases] == ["mine"]
    assert remote.things() == before
    assert remote.end("down", "mine")[0] == 0

"""One stack for several processes: who starts it, who gets it, what ends it, and what is left then."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.errors import LeftoversError, NotReadyError, StackyardError
from stackyard.leases.owners import start_ticks
from stackyard.running import keeper, shared
from stackyard.running.keeper import Keeper
from stackyard.running.shared import Run, ask
from stackyard.running.stack_description import StackDescription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WANTED = StackDescription(folder="/shop")
STACK = SimpleNamespace(lease=SimpleNamespace(id="l1", directory=Path("/state/leases/l1")), seconds=1.5)
ANSWER = {"lease": "l1", "state": "/state", "seconds": 1.5}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    # longer than a name of a Unix socket may be
    folder = tmp_path / ("run-" + "x" * 120)
    folder.mkdir()
    return folder / WANTED.key


@pytest.fixture(autouse=True)
def _usual_signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a stack be a word in a list."""
    words: list[str] = []

    @contextlib.contextmanager
    def run(_wanted: StackDescription, _progress: object) -> Iterator[Any]:
        words.append("up")
        try:
            yield STACK
        finally:
            words.append("down")

    monkeypatch.setattr(StackDescription, "run", run)
    monkeypatch.setattr(keeper, "_release", lambda: words.append("released"))
    return words


def interrupt(number: signal.Signals) -> None:
    # the kernel may give a signal for the process to a thread that Python does not wake from its sleep
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def keep(
    base: Path, work: Callable[[], None] | None = None, *, pid: int | None = None, ticks: int | None = None
) -> None:
    """Run a keeper while *work* is done by a thread."""
    alive = os.getpid() if pid is None else pid
    since = start_ticks(alive) if ticks is None else ticks
    asked = {"pid": alive, "ticks": since, "wanted": {"folder": "/shop", "files": [], "profiles": []}}
    base.with_suffix(".json").write_text(json.dumps(asked))
    failed: list[BaseException] = []

    def busy() -> None:
        try:
            while work and not shared._listens(base):
                time.sleep(0.01)
            if work:
                work()
        except BaseException as error:  # noqa: BLE001 - the test gets it
            failed.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=busy)
    kept = Keeper(base)
    thread.start()
    kept.run()
    thread.join()
    if failed:
        raise failed[0]


def test_all_who_ask_get_the_same_stack_and_the_end_removes_it(base: Path, log: list[str]) -> None:
    def work() -> None:
        assert [ask(base, "stack") for _ in range(3)] == [ANSWER] * 3
        assert ask(base, "end") == {"left": []}

    keep(base, work)

    assert log == ["up", "down", "released"]
    assert not base.with_suffix(".sock").exists()


def test_only_the_first_failure_is_the_first(base: Path, log: list[str]) -> None:
    del log  # in place

    def work() -> None:
        run = Run(folder=str(base.parent), pid=os.getpid())
        assert [run.is_first_failure(WANTED) for _ in range(3)] == [True, False, False]
        ask(base, "end")

    keep(base, work)


def test_a_start_that_fails_tells_all_who_ask_why(base: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    del log  # in place

    def run(_wanted: StackDescription, _progress: object) -> Any:
        raise NotReadyError("service db ended with exit code 3")

    monkeypatch.setattr(StackDescription, "run", run)

    def work() -> None:
        assert [ask(base, "stack") for _ in range(2)] == [{"error": "service db ended with exit code 3"}] * 2
        assert ask(base, "end") == {"left": []}

    keep(base, work)


def test_what_cannot_be_removed_is_reported_to_the_main_process(
    base: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    del log  # in place

    @contextlib.contextmanager
    def run(_wanted: StackDescription, _progress: object) -> Iterator[Any]:
        yield STACK
        raise LeftoversError("1 left")

    monkeypatch.setattr(StackDescription, "run", run)
    left: list[str] = []

    def work() -> None:
        ask(base, "stack")
        left.extend(Run(folder=str(base.parent), pid=os.getpid()).end())

    keep(base, work)

    assert left == ["1 left"]
    assert not base.parent.exists()


@pytest.mark.parametrize("how", ["end", "SIGTERM", "SIGHUP"])
def test_an_end_breaks_off_a_start(base: Path, monkeypatch: pytest.MonkeyPatch, log: list[str], how: str) -> None:
    starting = threading.Event()

    @contextlib.contextmanager
    def run(_wanted: StackDescription, _progress: object) -> Iterator[Any]:
        try:
            starting.set()
            for _ in range(600):  # a signal from outside may come just before the program begins to sleep
                time.sleep(60 if how == "end" else 0.1)
            yield STACK
        finally:
            log.append("undone")

    monkeypatch.setattr(StackDescription, "run", run)

    def work() -> None:
        starting.wait()
        if how == "end":
            assert ask(base, "end") == {"left": []}
        else:
            interrupt(signal.Signals[how])

    keep(base, work)

    assert log == ["undone", "released"]


def test_ctrl_c_during_the_removal_changes_nothing(base: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    @contextlib.contextmanager
    def run(_wanted: StackDescription, _progress: object) -> Iterator[Any]:
        yield STACK
        interrupt(signal.SIGINT)
        log.append("down")

    monkeypatch.setattr(StackDescription, "run", run)

    def work() -> None:
        ask(base, "stack")
        ask(base, "end")

    keep(base, work)

    assert log == ["down", "released"]


def test_the_end_of_the_main_process_is_the_end_of_the_stack_and_of_the_run_s_folder(
    base: Path, log: list[str]
) -> None:
    with subprocess.Popen(["sleep", "60"]) as main:  # noqa: S607 - any sleep

        def work() -> None:
            ask(base, "stack")
            main.kill()
            main.wait()

        keep(base, work, pid=main.pid)

    assert log == ["up", "down", "released"]
    assert not base.parent.exists()


def test_another_process_with_the_main_process_s_number_is_not_it(base: Path, log: list[str]) -> None:
    keep(base, ticks=1)

    assert log[-1] == "released"


def test_a_keeper_that_is_gone_is_named_with_its_last_words(base: Path) -> None:
    base.with_suffix(".log").write_text("Traceback\nMemoryError\n\n")

    with pytest.raises(StackyardError, match=r"keeps the stack of this run has ended: MemoryError$"):
        ask(base, "stack")
    base.with_suffix(".log").unlink()
    with pytest.raises(StackyardError, match=r"has ended: it said nothing$"):
        ask(base, "stack")


def test_a_keeper_that_does_not_start_is_named_with_its_last_words(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "STARTED", 0.0)

    def detach(_words: object, *, output: int, env: object) -> None:
        del env
        os.write(output, b"no module named stackyard\n")

    monkeypatch.setattr("stackyard._util.process.detach", detach)

    with (
        pytest.raises(StackyardError, match="this run did not start: no module named stackyard"),
        Run(folder=str(base.parent), pid=os.getpid()).share(WANTED),
    ):
        pass


def run_folder(place: Path, number: int, *, word: str = "ab") -> Path:
    folder = place / f"stackyard-run-{number}-{word * 8}"
    folder.mkdir(mode=0o700)
    (folder / shared.IN_USE).touch(0o600)
    (folder / "1.sock").touch()  # a keeper that was killed leaves it
    return folder


def test_a_run_removes_the_folders_of_runs_of_which_no_process_is_left(tmp_path: Path) -> None:
    killed, used = run_folder(tmp_path, 1), run_folder(tmp_path, 2)
    handle = shared.hold(used)  # any user, and whatever its pid is here

    made = Run(folder=str(tmp_path / "stackyard-run-3-0123456789abcdef"), pid=3).use()

    assert made.stat().st_mode & 0o777 == 0o700
    assert (killed.exists(), used.exists()) == (False, True)
    os.close(handle)
    Run(folder=str(tmp_path / "stackyard-run-4-0123456789abcdef"), pid=3).use()
    assert (used.exists(), made.exists()) == (False, True)


@pytest.mark.parametrize(
    "name",
    [
        "stackyard-run-20251128-results", "stackyard-run-²-x", "stackyard-run-x-abababababababab",
        "stackyard-run-012-abababababababab", "stackyard-run-12-abababababababab-x", "12-abababababababab",
    ],
)  # fmt: skip
def test_a_folder_of_another_name_is_not_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / shared.IN_USE).touch()

    shared._forget_killed(tmp_path)

    assert (tmp_path / name / shared.IN_USE).exists()


def test_a_folder_that_no_run_has_used_and_a_link_to_one_are_not_ours(tmp_path: Path) -> None:
    unused = run_folder(tmp_path, 1)
    (unused / shared.IN_USE).unlink()
    (tmp_path / "elsewhere").mkdir()
    linked = run_folder(tmp_path / "elsewhere", 2)
    (tmp_path / linked.name).symlink_to(linked)

    shared._forget_killed(tmp_path)

    assert (unused / "1.sock").exists()
    assert (linked / "1.sock").exists()


def test_a_folder_of_somebody_else_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folder(tmp_path, 1)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)

    shared._forget_killed(tmp_path)

    assert folder.exists()
    with pytest.raises(StackyardError, match=r"is not a folder of yours.*TMPDIR can name another place"):
        shared.hold(folder)


def test_a_folder_that_is_removed_while_it_is_opened_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, flock = run_folder(tmp_path, 1), fcntl.flock
    waited: list[int] = []

    def wait(handle: int, kind: int) -> None:
        if kind == fcntl.LOCK_SH and not waited:
            waited.append(kind)
            shutil.rmtree(folder)
        flock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", wait)
    shared.hold(folder)

    assert [path.name for path in folder.iterdir()] == [shared.IN_USE]


def test_stacks_of_one_run_are_distinguished_by_what_they_are_made_of() -> None:
    kinds = [
        WANTED,
        StackDescription(folder="/shop", files=("a",)),
        StackDescription(folder="/shop", profiles=("a",)),
        StackDescription(folder="/x"),
    ]

    assert len({wanted.key for wanted in kinds}) == len(kinds)
    assert StackDescription(folder="/shop", timeout=3.0, wait=5.0).key == WANTED.key

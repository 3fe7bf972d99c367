from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from stackyard._util import process
from stackyard.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PYTHON = sys.executable


def test_output_and_exit_code_come_back() -> None:
    done = process.run([PYTHON, "-c", "import sys; print(input()); sys.stderr.write('e')"], deadline=120, stdin="hello")

    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "e")


def test_a_failure_carries_words_code_and_last_output() -> None:
    with pytest.raises(CommandError, match="failed with exit code 3") as caught:
        process.run(
            [PYTHON, "-c", "import sys; sys.exit('why' if 0 else print('why', file=sys.stderr) or 3)"], deadline=120
        )

    assert (caught.value.returncode, caught.value.output) == (3, "why\n")


def test_an_unchecked_failure_is_a_result() -> None:
    assert process.run([PYTHON, "-c", "raise SystemExit(4)"], deadline=120, check=False).returncode == 4


def test_a_missing_program_is_an_error_and_no_traceback() -> None:
    with pytest.raises(CommandError, match="no such program"):
        process.run(["/no/such/program"], deadline=1)
    with pytest.raises(CommandError, match="no such program"):
        process.passthrough(["/no/such/program"])
    with pytest.raises(CommandError, match="no such program"):
        asyncio.run(process.run_async(["/no/such/program"], deadline=1))


def test_a_deadline_ends_the_whole_process_group(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = (
        "import pathlib, subprocess, sys;"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); child.wait()"
    )

    _expire(note, lambda deadline: process.run([PYTHON, "-c", script], deadline=deadline))

    assert _living(note) == []


def _expire(note: Path, run: Callable[[float], object]) -> None:
    """Let *run* go past its deadline, which grows until the command has come as far as writing *note*."""
    for deadline in (0.5, 5, 50):
        with pytest.raises(CommandError, match="ran past its deadline"):
            run(deadline)
        if note.exists() and note.read_text():
            return
    pytest.fail("the command did not start")


def _living(note: Path) -> list[psutil.Process]:
    """Return the process that *note* names, if it is still there after a while in which a killed one is gone."""
    pid = int(note.read_text())
    found = [psutil.Process(pid)] if psutil.pid_exists(pid) else []
    alive: list[psutil.Process] = psutil.wait_procs(found, timeout=60)[1]
    return alive


def test_a_child_deaf_to_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_GRACE", 0.2)
    note = tmp_path / "pid"
    script = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )

    _expire(note, lambda deadline: process.run([PYTHON, "-c", script], deadline=deadline))

    assert _living(note) == []


def test_a_stream_hands_over_each_line_and_the_code() -> None:
    lines: list[str] = []

    done = process.stream(
        [PYTHON, "-c", "print('a'); print('b'); raise SystemExit(5)"], deadline=120, on_line=lines.append
    )

    assert (lines, done.returncode) == (["a", "b"], 5)


def test_a_stream_ends_at_its_deadline() -> None:
    with pytest.raises(CommandError, match="deadline"):
        process.stream([PYTHON, "-c", "import time; time.sleep(60)"], deadline=0.3, on_line=print)


def test_a_child_sees_only_allow_listed_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "hostile")
    monkeypatch.setenv("PIP_FIND_LINKS", "kept")

    environment = process.child_environment({"OWN": "1"})

    assert "COMPOSE_PROJECT_NAME" not in environment
    assert (environment["PIP_FIND_LINKS"], environment["OWN"]) == ("kept", "1")


def test_a_child_finds_the_same_engine_as_we_do(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {
        "DOCKER_HOST": "a", "DOCKER_CONTEXT": "b", "DOCKER_CONFIG": "c", "DOCKER_CERT_PATH": "d",
        "DOCKER_TLS_VERIFY": "1", "SSH_AUTH_SOCK": "e", "STACKYARD_ENGINE_TIMEOUT": "5",
    }  # fmt: skip
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)

    assert chosen.items() <= process.child_environment().items()


def test_async_runs_end_like_others() -> None:
    done = asyncio.run(process.run_async([PYTHON, "-c", "print('x')"], deadline=120))

    assert done.stdout == "x\n"
    with pytest.raises(CommandError, match="exit code 2"):
        asyncio.run(process.run_async([PYTHON, "-c", "raise SystemExit(2)"], deadline=120))
    with pytest.raises(CommandError, match="deadline"):
        asyncio.run(process.run_async([PYTHON, "-c", "import time; time.sleep(60)"], deadline=0.3))


def test_cancelling_ends_the_child_before_it_returns(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"

    async def cancel() -> None:
        task = asyncio.create_task(process.run_async([PYTHON, "-c", script], deadline=60))
        async with asyncio.timeout(60):
            while not (note.exists() and note.read_text()):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())

    assert not psutil.pid_exists(int(note.read_text()))


@pytest.mark.parametrize("ending", ["its own", "cancelled"])
def test_the_errors_of_a_command_are_known_however_it_ended(tmp_path: Path, ending: str) -> None:
    note, errors = tmp_path / "note", bytearray()
    script = (
        "import pathlib, sys, time; print('out'); sys.stderr.write('é' * 90_000); sys.stderr.flush(); "
        f"pathlib.Path({str(note)!r}).touch(); time.sleep({0 if ending == 'its own' else 60})"
    )

    async def run() -> None:
        task = asyncio.create_task(process.run_async([PYTHON, "-X", "utf8", "-c", script], deadline=60, errors=errors))
        async with asyncio.timeout(60):
            while not note.exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.01)
        if ending == "cancelled":
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())

    assert errors.decode() == "é" * 90_000


def test_passthrough_gives_the_callers_environment_and_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLER", "c")
    script = "import os, sys; sys.exit(0 if os.environ['CALLER'] + os.environ['OWN'] == 'co' else 1)"

    assert process.passthrough([PYTHON, "-c", script], env={"OWN": "o"}, cwd=tmp_path) == 0


def test_an_interrupted_passthrough_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"

    def interrupted(*_: object) -> int:
        while not (note.exists() and note.read_text()):
            os.sched_yield()
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.passthrough([PYTHON, "-c", script])

    assert not psutil.pid_exists(int(note.read_text()))


def test_no_child_outlives_a_parent_killed_with_sigkill(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    run = f"process.run([sys.executable, '-c', {child!r}], deadline=60)"
    script = f"import sys; from stackyard._util import process; {run}"

    parent = subprocess.Popen([PYTHON, "-c", script])  # noqa: S603 - our own
    while not (note.exists() and note.read_text()):
        os.sched_yield()
    parent.kill()
    parent.wait()

    assert _living(note) == []


def test_a_passthrough_past_its_deadline_takes_its_daemons_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_GRACE", 0.2)
    note = tmp_path / "pid"
    daemon = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    script = (
        "import pathlib, subprocess, sys, time; "
        f"child = subprocess.Popen([sys.executable, '-c', {daemon!r}], start_new_session=True); "
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); time.sleep(60)"
    )

    _expire(note, lambda deadline: process.passthrough([PYTHON, "-c", script], deadline=deadline))

    assert _living(note) == []


def test_a_passthrough_that_ends_leaves_no_daemon(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = (
        "import pathlib, subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); "
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); __import__('os')._exit(4)"
    )

    assert process.passthrough([PYTHON, "-c", script]) == 4
    assert _living(note) == []


def test_a_passthrough_may_be_kept_from_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_PROFILES", "evil")
    script = "import os, sys; sys.exit(5 if 'COMPOSE_PROFILES' in os.environ else 0)"

    assert process.passthrough([PYTHON, "-c", script]) == 5
    assert process.passthrough([PYTHON, "-c", script], inherit=False) == 0


def test_pipes_that_a_grandchild_holds_open_are_closed_with_the_command() -> None:
    grandchild = "import time; time.sleep(5)"
    script = (
        "import subprocess, sys; print('x', flush=True); "
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True); sys.stdin.read()"
    )

    async def cancelled() -> None:
        task = asyncio.create_task(process.run_async([PYTHON, "-c", script], deadline=0.5))
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    gc.collect()


def test_a_child_that_is_ended_with_a_full_pipe_is_waited_for() -> None:
    async def end() -> bytearray:
        creating = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                "sh", "-c", "head -c 300000 /dev/zero; exec sleep 60", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )  # fmt: skip
        child = await creating
        assert child.stdout is not None
        # the module stops reading at twice its limit and sends no event
        while not child.stdout._paused:  # type: ignore[attr-defined] # noqa: ASYNC110
            await asyncio.sleep(0.01)
        said = bytearray(), bytearray()
        await asyncio.wait_for(process._end_async(creating, said), 60)
        return said[0]

    assert asyncio.run(end()).startswith(bytes(131_072))

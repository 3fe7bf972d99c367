"""
Commands run against an engine that misbehaves: one program that forks for each, so imports are paid once.

As a program: engine_cases.py STATE PLAN, the plan in JSON; prints [socket, command, exit code, stderr, seconds] a line.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 120  # seconds for one case
HOST: Final = "h1"  # as the fake engine's labels say
AT_ONCE: Final = 6  # most of them wait


class End(NamedTuple):
    """How one command ended."""

    socket: str
    words: list[str]
    code: int
    stderr: str
    seconds: float


def run(planned: Sequence[tuple[Path, Sequence[str]]], state: Path) -> list[End]:
    """Run each command with the engine on a socket; `flow NAME` is the session NAME, `lost` before it has no book."""
    plan = json.dumps([(str(socket), list(words)) for socket, words in planned])
    words = [sys.executable, __file__, str(state), plan]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr
    return [End(*json.loads(line)) for line in done.stdout.splitlines()]


def main(state: str, planned: Sequence[tuple[str, Sequence[str]]]) -> None:
    import tasks

    for module in "cli.flows monitor docker.transport checks.host images.store images.unused checks ".split():
        importlib.import_module(f"stackyard.{module}")  # paid once, not in each fork
    folder = Path(state).with_name("cases")
    running: dict[int, tuple[str, Sequence[str], Path, float]] = {}
    for number, (socket, words) in enumerate(planned):
        if len(running) >= AT_ONCE:
            _collect(running)
        place = folder / str(number)
        if words[0] == "lost":
            (place / "state").mkdir(parents=True, mode=0o700)
        else:
            shutil.copytree(state, place / "state", symlinks=True)
        running[_fork(tasks.ns, socket, words, place)] = (socket, words, place, time.monotonic())
    while running:
        _collect(running)


def _collect(running: dict[int, tuple[str, Sequence[str], Path, float]]) -> None:
    pid, status = os.wait()
    socket, words, place, began = running.pop(pid)
    said = (place / "2").read_text(errors="replace")
    if "flow" in words:  # a session says all it has to say in one stream
        shown = (place / "1").read_text(errors="replace").splitlines()
        said += "".join(f"{line}\n" for line in shown if line.startswith("error: "))
    row = [socket, words, os.waitstatus_to_exitcode(status), said, time.monotonic() - began]
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def _fork(namespace: Any, socket: str, words: Sequence[str], place: Path) -> int:
    child = os.fork()
    if not child:
        code = 255
        try:
            signal.alarm(LIMIT)
            for number, name in enumerate((os.devnull, f"{place}/1", f"{place}/2")):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
            os.environ |= {"STACKYARD_STATE_DIR": str(place / "state"), "DOCKER_HOST": f"unix://{socket}"}
            code = _ended(namespace, words[1:] if words[0] == "lost" else words)
        finally:
            os._exit(code)
    return child


def _ended(namespace: Any, words: Sequence[str]) -> int:
    """Run one command as a program of its own would, up to its very end."""
    import atexit
    import threading
    import traceback

    from stackyard._util import files, streams
    from stackyard.cli import flows
    from stackyard.cli.program import Program
    from stackyard.settings import Settings

    files.write_json = lambda *_: None  # the checkout's own report stays
    Settings.host = property(lambda _: HOST)  # type: ignore[assignment,method-assign] # a copied book stays the same book

    code: Any = 0
    try:
        if words[0] == "flow":
            code = flows.dev(()) if words[1] == "dev" else flows.test(words[1], ())
        else:
            Program(namespace=namespace, version="0").run(["invoke", *words])
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    atexit._run_exitfuncs()
    streams.settle()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    main(sys.argv[1], json.loads(sys.argv[2]))

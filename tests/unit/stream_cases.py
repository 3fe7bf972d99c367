"""
Commands run with a standard stream closed, full or gone: one program that forks for each, so imports are paid once.

As a program: stream_cases.py STATE PLAN, the plan in JSON; prints [command, case, exit code, output] a line.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]
STUCK: Final = -signal.SIGALRM
LIMIT: Final = 120  # seconds for one case
OFTEN: Final = ("fine", "stdout gone", "stdout full")  # for each command
IN_TURN: Final = ("stdin closed", "stdout closed", "stderr closed", "stderr full", "stderr gone")


def plan(commands: Sequence[Sequence[str]]) -> list[tuple[Sequence[str], str]]:
    """Return each command with the cases that differ most, and with one of the others in turn."""
    return [
        (words, case)
        for number, words in enumerate(commands)
        for case in (*OFTEN, IN_TURN[number % len(IN_TURN)])
    ]  # fmt: skip


def run(planned: Sequence[tuple[Sequence[str], str]], state: Path) -> dict[tuple[str, str], tuple[int, str]]:
    """Run each command in its case; return exit codes and what was said, by command and case."""
    words = [sys.executable, __file__, str(state), json.dumps(planned)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {(command, case): (code, said) for command, case, code, said in rows}


def main(state: str, planned: Sequence[tuple[Sequence[str], str]]) -> None:
    import tasks
    from invoke.program import Program

    for module in (
        "cli.flows monitor docker.transport checks.host images stacks.environments.warm_stacks "
        "stacks.environments.resets"
    ).split():
        importlib.import_module(f"stackyard.{module}")  # paid once, not in each fork
    for words, case in planned:
        code, said = one(Program(namespace=tasks.ns, version="0"), words, case, Path(state))
        sys.stdout.write(json.dumps([words[0], case, code, said]) + "\n")
        sys.stdout.flush()


def one(program: Any, words: Sequence[str], case: str, state: Path) -> tuple[int, str]:
    """Run one command in a fork with a copy of the state; return its exit code and all it said."""
    copy = state.with_name(f"copy-{state.name}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(state, copy, symlinks=True)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(LIMIT)
        arrange(case, writer)
        os.environ["STACKYARD_STATE_DIR"] = str(copy)
        os._exit(settled(program, ["invoke", *words]))
    os.close(writer)
    said = b""
    while select.select([reader], [], [], LIMIT + 5)[0] and (got := os.read(reader, 65536)):
        said += got
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode(errors="replace")


def arrange(case: str, writer: int) -> None:
    """Make the standard streams as a shell would have, and Python's objects for them as at its start."""
    name, _, how = case.partition(" ")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (1, 2):
        os.dup2(writer, number)
    os.close(writer)
    number = ("stdin", "stdout", "stderr").index(name) if how else -1
    if how == "full":
        os.dup2(os.open("/dev/full", os.O_RDWR), number)
    if how == "gone":
        read_end, write_end = os.pipe()
        os.dup2(write_end if number else read_end, number)
        os.close(read_end)
        os.close(write_end)
    if how == "closed":
        os.close(number)
    for each, label in enumerate(("stdin", "stdout", "stderr")):
        made = None if how == "closed" and each == number else fresh(each)
        setattr(sys, label, made)
        setattr(sys, f"__{label}__", made)


def fresh(number: int) -> Any:
    raw = io.FileIO(number, "w" if number else "r", closefd=False)
    buffer: Any = io.BufferedWriter(raw) if number else io.BufferedReader(raw)
    return io.TextIOWrapper(buffer, encoding="utf-8", line_buffering=number == 2)


def settled(program: Any, words: list[str]) -> int:
    """Run the command as a program of its own would, up to its very end."""
    import atexit
    import traceback

    from stackyard._util import streams

    streams._outlets.clear()
    streams.guard()
    code: Any = 0
    try:
        program.run(words)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):
            try:
                stream.flush()
            except OSError:
                os.write(1, b"Exception ignored in the last flush")
                code = 120
    return int(code or 0)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    main(sys.argv[1], json.loads(sys.argv[2]))

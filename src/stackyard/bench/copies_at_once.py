"""Many copies of a project at once: seconds until the last is ready, and one's cost compared with a copy alone."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from stackyard._util import process
from stackyard.bench.outcomes import STAY, new_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COPIES: Final = 10
COMMAND_TIMEOUT_S: Final = 300.0  # seconds that one command may take
IDLE: Final = frozenset({"idle", "iowait", "steal", "guest", "guest_nice"})  # the guests' time is in the user's, too


def start(folder: Path, copies: int) -> tuple[float, float]:
    """
    Start *copies* copies of a project by as many commands at once, and remove them.

    Returns:
        Seconds until the last command has ended, and processor seconds of the whole host for each copy: those of the
        commands, the engine and the containers. Other programs count, too, so nothing else may be at work.

    Raises:
        CommandError: If a command fails.
    """
    names, program = [new_name() for _ in range(copies)], [sys.executable, "-m", "stackyard"]

    def run(*words: str, check: bool = True) -> Callable[[str], object]:
        return lambda name: process.run(
            [*program, words[0], "--name", name, *words[1:]], deadline=COMMAND_TIMEOUT_S, cwd=folder, check=check
        )  # fmt: skip

    with ThreadPoolExecutor(copies) as threads, ExitStack() as undo:
        undo.callback(lambda: list(threads.map(run("down", check=False), names)))
        began, busy = time.perf_counter(), _busy()
        list(threads.map(run("up", "--ttl", STAY, "--quiet"), names))
        return time.perf_counter() - began, (_busy() - busy) / copies


def _busy() -> float:
    """Return the seconds that all processors of the host have been at work."""
    import psutil

    times: dict[str, float] = psutil.cpu_times()._asdict()
    return sum(seconds for kind, seconds in times.items() if kind not in IDLE)

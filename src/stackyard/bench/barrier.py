"""Many equal processes that start their work at the same moment."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@contextlib.contextmanager
def processes_at_once(
    words: Sequence[str], size: int, gate: Path, env: Mapping[str, str]
) -> Iterator[tuple[list[subprocess.Popen[str]], float]]:
    """
    Start *size* processes, wait until each has printed a line, release all at once; kill them at the end of the block.

    Args:
        words: The program and its arguments; it must take a shared lock on *gate* once it is ready.
        size: How many.
        gate: The file whose lock they wait for.
        env: Their environment.

    Yields:
        The processes, and when the gate opened (``time.monotonic``, in seconds).
    """
    with gate.open("w", encoding="ascii") as barrier, contextlib.ExitStack() as undo:
        fcntl.flock(barrier, fcntl.LOCK_EX)
        children = [undo.enter_context(_started(words, env)) for _ in range(size)]
        for child in children:
            if child.stdout is not None:
                child.stdout.readline()
        opened = time.monotonic()
        fcntl.flock(barrier, fcntl.LOCK_UN)
        yield children, opened


@contextlib.contextmanager
def _started(words: Sequence[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    # Not through stackyard._util.process: that runs a command to its end, and these must live side by side.
    with subprocess.Popen(  # noqa: S603 - our own programs
        words, env=dict(env), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            yield child
        finally:
            child.kill()

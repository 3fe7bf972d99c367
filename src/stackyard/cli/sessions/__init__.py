"""
What nox sessions need beyond nox: exit codes that reach the shell.

nox ends with 1 whatever failed. A session made with `session` here notes the exit code of what it ran; the program
`python -m stackyard.cli.sessions`, which runs nox inside itself, ends with that code. `./noxw` starts this program,
and a `nox` that was started directly becomes it (`take_over`).
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import streams

streams.quiet_interrupts()  # before nox, whose import takes the longest

import nox  # noqa: E402 - as above
from nox.command import CommandFailed  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Callable

INSIDE: Final = "STACKYARD_NOX_INSIDE"  # holds the id of the process that already reports our exit codes
CLEAN_UP: Final = 60.0  # seconds that an interrupted program has to remove what it started
_codes: list[int] = []


def session(**options: Any) -> Callable[[Callable[[nox.Session], int | None]], Callable[[nox.Session], Any]]:
    """
    Make a function a nox session that notes how it failed.

    Args:
        options: What `nox.session` takes.

    Returns:
        A decorator. The function may return an exit code; any but 0 or None fails the session.
    """
    return lambda function: nox.session(**options)(_noting(function))


def run_module(running: nox.Session, *words: str) -> None:
    """Run ``python -m`` *words*, and let it clean up when it is interrupted; nox itself gives it half a second."""
    running.run(sys.executable, "-m", *words, interrupt_timeout=CLEAN_UP, terminate_timeout=CLEAN_UP)


def _noting(function: Callable[[nox.Session], int | None]) -> Callable[[nox.Session], None]:
    @functools.wraps(function)
    def run(running: nox.Session) -> None:
        noted = len(_codes)
        try:
            code = function(running)
            if code:
                _codes.append(code)
                running.error(f"exit code {code}")
        except Exception as error:
            if len(_codes) == noted:  # a session that it called has not noted it already
                _codes.append(getattr(error, "return_code", None) or 1)
            raise

    return run


def exit_code(of_nox: int) -> int:
    """Return the exit code of the sessions that failed, where they agree on one, else *of_nox*."""
    return _codes[0] if of_nox == 1 and len(set(_codes)) == 1 else of_nox


def forget() -> None:
    """Forget the exit codes noted so far."""
    _codes.clear()


def failed(code: int) -> CommandFailed:
    """Return the error that fails a session with *code*."""
    return CommandFailed(f"exit code {code}", return_code=code)


def take_over() -> None:
    """Let a nox that was started directly become the program that reports our exit codes; its words stay the same."""
    words = sys.argv[1:]
    options = words[: words.index("--")] if "--" in words else words
    direct = Path(sys.argv[0]).name == "nox" or sys.argv[0].endswith(os.path.join("nox", "__main__.py"))  # noqa: PTH118
    # a noxfile named by its path may lie elsewhere, and nox has changed the folder by now
    elsewhere = any(word.startswith(("-f", "--noxfile")) for word in options)
    if direct and not elsewhere and os.environ.get(INSIDE) != str(os.getpid()):
        os.execv(sys.executable, [sys.executable, "-P", "-m", "stackyard.cli.sessions", "--no-engine", *words])  # noqa: S606 - ours

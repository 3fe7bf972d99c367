"""`python -m stackyard.cli.sessions [--engine] [--yes] [-- nox's words]`: check the words, then run nox here."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util import streams
from stackyard.cli import sessions
from stackyard.cli.sessions import words
from stackyard.errors import StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS: Final = frozenset({"--engine", "--yes"})
INTERRUPTED: Final = 130
TERMINATED: Final = 143


def main(argv: Sequence[str] | None = None) -> int:
    """
    Return nox's exit code, or the one of the session that failed; 2 if a word is wrong.

    Args:
        argv: `--engine` to make the Docker engine usable first, `--yes` to agree to installing it, then -- and what
            nox gets.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    end = given.index("--") if "--" in given else len(given)
    try:
        right = words.checked(given[end + 1 :], Path("noxfile.py"))
        _prepare(given[:end])
    except StackyardError as error:
        print(f"noxw: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return run(right)


def _prepare(options: Sequence[str]) -> None:
    """Make the engine usable where that was asked for."""
    unknown = [word for word in options if word not in OPTIONS]
    if unknown:
        raise UsageError(f"unknown option {unknown[0]}; known are {', '.join(sorted(OPTIONS))}")
    if "--engine" in options:
        from stackyard.host.setup import consents, ensure_engine

        # leave through the clean-ups: half an install's temporary folder must not stay
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
        try:
            ensure_engine(consent=consents(yes="--yes" in options))
        finally:
            signal.signal(signal.SIGTERM, before)


def run(nox_words: Sequence[str]) -> int:
    """Run nox with *nox_words* in this process and return the exit code."""
    from nox.__main__ import main as nox_main

    sys.argv = ["nox", *nox_words]
    os.environ[sessions.INSIDE] = str(os.getpid())
    sessions.forget()
    try:
        nox_main()
    except SystemExit as end:
        code = end.code
    else:
        code = 0
    if isinstance(code, str):
        print(code, file=sys.stderr, flush=True)
        code = 1
    return sessions.exit_code(code or 0)


if __name__ == "__main__":
    streams.guard()
    sys.exit(streams.settle(main()))

"""`python -m stackyard.cli.sessions [noxw's options] [nox's words]`: check them, make an engine usable, run nox."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util import streams
from stackyard._util.signal_handlers import handling
from stackyard.cli import sessions
from stackyard.cli.sessions import words
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 130
TERMINATED: Final = 143


def main(argv: Sequence[str] | None = None) -> int:
    """
    Return nox's exit code, or the one of the session that failed; 2 if a word is wrong.

    Args:
        argv: What was typed after `./noxw`: its own options, those of nox, then -- and a session's own words.
    """
    own, given = words.split(sys.argv[1:] if argv is None else argv)
    engine = words.NO_ENGINE not in own
    if words.SETUP_ONLY in own:
        return _set_up(own) if engine else 0
    try:
        right = words.checked(given, Path("noxfile.py"))
        if engine and words.needs_engine(right):
            _ready_engine(consent=words.YES in own)
    except StackyardError as error:
        print(f"noxw: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return run(right)


def _set_up(own: frozenset[str]) -> int:
    """Make an engine usable, say which one it is, and return the exit code."""
    from stackyard.host.__main__ import main as set_up

    return set_up(sorted(own & {words.YES}))


def _ready_engine(*, consent: bool) -> None:
    """Make an engine usable."""
    from stackyard.host.engine_setup import consents, ensure_engine

    # leave through the clean-ups: half an install's temporary folder must not stay
    with handling(lambda *_: sys.exit(TERMINATED), signal.SIGTERM):
        ensure_engine(consent=consents(yes=consent))


def run(nox_words: Sequence[str]) -> int:
    """Run nox with *nox_words* in this process and return the exit code."""
    from nox.__main__ import main as nox_main

    sys.argv = ["nox", *nox_words]
    os.environ[sessions.INSIDE] = str(os.getpid())
    sessions.forget()
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: _interrupt(terminated))
    try:
        nox_main()
    except SystemExit as end:
        code = end.code
    else:
        code = 0
    if isinstance(code, str):
        print(code, file=sys.stderr, flush=True)
        code = 1
    return TERMINATED if terminated.is_set() else sessions.exit_code(code or 0)


def _interrupt(terminated: threading.Event) -> None:
    """Let what a session runs end as after Ctrl-C, so that it removes what it started; nox alone would leave it."""
    import psutil

    for child in psutil.Process().children():
        child.send_signal(signal.SIGINT)
    terminated.set()
    raise KeyboardInterrupt


if __name__ == "__main__":
    streams.guard()
    sys.exit(streams.settle(main()))

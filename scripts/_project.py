"""
How a script goes on in the project's environment, whatever Python started it: `.venv`, made first if it is missing.

Written for old Pythons too, so that they end with a sentence and not with a syntax error.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".venv"
OLDEST = (3, 11)


def enter() -> None:
    """Return in a Python that has this project's stackyard; start the script again in `.venv` if this one has not."""
    sys.excepthook = _without_interrupts
    if Path(sys.prefix).resolve() == HOME.resolve() or _is_installed():
        return
    if not (HOME / "bin" / "python").exists():
        _set_up()
    python = str(HOME / "bin" / "python")
    try:
        os.execv(python, [python, *sys.argv])  # noqa: S606 - the same script, with the project's own interpreter
    except OSError as error:
        sys.exit(
            f"{Path(sys.argv[0]).name}: cannot start {python}: {error.strerror}; './noxw --setup-only' makes it again"
        )


def _without_interrupts(kind: type, error: BaseException, trace: object) -> None:
    """Let Ctrl-C end the script without a traceback, also while it still imports its modules."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type] # an old Python cannot read the right type


def _is_installed() -> bool:
    """Say whether this Python imports stackyard from this checkout, as in a session of nox."""
    if sys.version_info < OLDEST:
        return False
    found = find_spec("stackyard")
    return bool(found and found.origin and Path(found.origin).resolve().is_relative_to(ROOT / "src"))


def _set_up() -> None:
    """Let noxw make `.venv`; what it prints goes to standard error."""
    name = Path(sys.argv[0]).name
    if sys.version_info < OLDEST:
        have = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"{name}: needs Python 3.11 or newer, and this is {have}; start it with another, such as python3.11")
    print(f"{name}: .venv is missing, so ./noxw makes it first", file=sys.stderr)
    words = [sys.executable, str(ROOT / "noxw"), "--no-engine", "--setup-only"]
    done = subprocess.run(words, stdout=sys.stderr, check=False)  # noqa: S603 - our own program
    if done.returncode:
        sys.exit(done.returncode)

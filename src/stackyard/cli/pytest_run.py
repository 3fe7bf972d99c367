"""The payload of a run: pytest over the platform's tests, checked before a stack starts; stackyard's exit codes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Final

from stackyard import settings
from stackyard._util import files, process
from stackyard.errors import StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TIMEOUT: Final = "STACKYARD_PAYLOAD_TIMEOUT"  # pytest has a --timeout of its own
TIMED_OUT: Final = 124  # as timeout(1) says it
TESTS: Final = "tests/platform"
PYTEST_USAGE: Final = 4
PYTEST_EMPTY: Final = 5
EMPTY: Final = "no test was collected"
MEANINGS: Final = {
    1: "a test failed", 2: "the tests were interrupted", 3: "pytest itself failed",
    PYTEST_USAGE: "pytest refused its words", PYTEST_EMPTY: EMPTY,
}  # fmt: skip
COLLECTING: Final = 120.0  # seconds for pytest to find the tests
# pytest's options that can neither be wrong nor leave no test
HARMLESS: Final = frozenset({"-q", "-qq", "-v", "-vv", "-x", "-s", "-l"})
# pytest's options that only tell something and run no test
TELLING: Final = frozenset(
    {"-h", "--help", "-V", "--version", "--co", "--collect-only", "--fixtures", "--markers", "--setup-plan"}
)


def limit() -> float | None:
    """
    Return the seconds that the tests may take; None without a limit.

    Raises:
        UsageError: If STACKYARD_PAYLOAD_TIMEOUT is not a length of time.
    """
    found: float | None = settings.value(TIMEOUT)
    return found


def verdict(of_pytest: int) -> tuple[int, str]:
    """
    Return our exit code for one of pytest's, and a line that explains it where pytest's own output does not.

    pytest's 2 to 5 mean other things than stackyard's: interrupted, internal error, wrong usage, no test.
    """
    if of_pytest < 0:
        return 128 - of_pytest, ""
    if of_pytest == PYTEST_EMPTY:
        return UsageError.exit_code, EMPTY
    if of_pytest == PYTEST_USAGE:
        return UsageError.exit_code, ""
    return (1 if of_pytest in {2, 3} else of_pytest), ""


def reason(of_pytest: int) -> str:
    """Say in a few words what one of pytest's exit codes means; nothing for 0. Below 0 it is a signal's number."""
    if of_pytest < 0:
        return f"pytest was ended by {signal.Signals(-of_pytest).name}"
    return MEANINGS.get(of_pytest, f"pytest ended with exit code {of_pytest}") if of_pytest else ""


def tells(words: Sequence[str]) -> bool:
    """Return whether pytest would run no test with *words*, only tell something, so that it needs no stack."""
    return not TELLING.isdisjoint(words)


def check(root: Path, words: Sequence[str]) -> None:
    """
    Let pytest collect the tests that *words* choose, without running them.

    Raises:
        UsageError: If pytest refuses *words*, or they choose no test.
        StackyardError: If a test module cannot be imported; the text has pytest's output.
    """
    if HARMLESS.issuperset(words):
        return
    argv = [*_command(root, words), "--collect-only", "-q"]
    found = process.run(argv, deadline=COLLECTING, env=os.environ, cwd=root, check=False)
    lines = f"{found.stdout}\n{found.stderr}".splitlines()
    if found.returncode == PYTEST_EMPTY:
        counted = next((f": {line}" for line in reversed(lines) if line.startswith("no tests")), "")
        raise UsageError(f"{EMPTY} for {shlex.join(words)}{counted}")
    if found.returncode == PYTEST_USAGE:
        raise UsageError(f"pytest: {_complaint(lines)}")
    if found.returncode:
        raise StackyardError("pytest cannot collect the tests:\n" + "\n".join(line for line in lines if line))


def _complaint(lines: Sequence[str]) -> str:
    """Return what pytest has against its words, without its usage lines."""
    said = [line.partition("error: ")[2] for line in lines if " error: " in line]
    said += [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ") and "usage:" not in line]
    return said[0] if said else "\n".join(lines).strip()


def run(
    root: Path, words: Sequence[str], *, stem: str = "", env: Mapping[str, str], deadline: float | None
) -> tuple[int, str]:
    """
    Run pytest on this process's own terminal; return our exit code, and in a few words why it is not 0.

    Args:
        root: The project; its tests/platform is run unless *words* name tests.
        words: pytest's words.
        stem: Ending of the JUnit report's name; without it no report is written.
        env: Variables on top of the inherited ones.
        deadline: Seconds until pytest is ended with all it started; None sets no limit.

    Raises:
        CommandError: If Python cannot be started or runs past *deadline*.
    """
    report = [f"--junit-xml=reports/junit-{stem}.xml"] if stem else []
    ended = process.passthrough([*_command(root, words), *report], env=env, cwd=root, deadline=deadline)
    code, line = verdict(ended)
    if line:
        print(f"error: {line}", flush=True)
    return code, reason(ended)


def folder(root: Path, default: str, words: Sequence[str]) -> list[str]:
    """Return *default*, the folder whose tests pytest runs, unless *words* name tests themselves."""
    named = any(files.exists(root / word.split("::")[0]) for word in words if not word.startswith("-"))
    return [] if named else [default]


def _command(root: Path, words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *folder(root, TESTS, words), *words]

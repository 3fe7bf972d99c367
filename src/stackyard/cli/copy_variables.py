"""The variables of a copy for other programs, as lines for a shell or in the environment of a command."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import at_site
from stackyard.cli.common import answer
from stackyard.errors import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMATS: Final = {"dotenv": "", "shell": "export "}  # what stands before each variable


def show(variables: Mapping[str, str], form: str, *, as_json: bool) -> None:
    """
    Print the variables of a copy.

    Raises:
        UsageError: If *form* is none of `FORMATS`.
    """
    if form not in FORMATS:
        raise UsageError(f"--format must be {' or '.join(FORMATS)}, got {form!r}")
    lines = [f"{FORMATS[form]}{key}={shlex.quote(value)}" for key, value in variables.items()]
    answer(variables, "\n".join(lines), as_json=as_json)


def given(words: Sequence[str] | None) -> list[str]:
    """
    Return the command of `stackyard run`.

    Raises:
        UsageError: If there is none, or no such program; then nothing needs to be started.
    """
    if not words:
        raise UsageError(f"which command? write it after '--': {at_site('stackyard run -- pytest -q')}")
    if not shutil.which(words[0]):
        raise UsageError(f"{words[0]}: no such program; write its path, or add its folder to PATH")
    return list(words)


def refuse_running(title: str, started: float) -> None:
    """
    Leave alone a copy that somebody else has started: `stackyard run` removes the one that it uses.

    Args:
        title: The copy.
        started: Seconds that its start took; 0 if it was running already.

    Raises:
        UsageError: If it was running already.
    """
    if not started:
        raise UsageError(f"copy {title} is up already; run the command with another --name, or without")


def run(words: Sequence[str], variables: Mapping[str, str]) -> int:
    """
    Run a command on this terminal and return its exit code; 128 and the signal's number if one ended it, as shells do.

    Raises:
        UsageError: If there is no such program.
    """
    from stackyard._util import process

    try:
        code = process.passthrough(list(words), env=variables)
    except CommandError as error:
        raise UsageError(str(error)) from None
    return code if code >= 0 else 128 - code

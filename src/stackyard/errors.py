"""
Every exception stackyard raises, and the exit code each one becomes.

    StackyardError            1
    +-- UsageError            2   an argument or a setting is wrong
    |   +-- ConfigError       2   an environment file is wrong: file, key, value, rule
    +-- EngineError           3   the Docker engine is missing, too old, or refused
    |   +-- RefusedError      3   the engine answered, and said no
    |   +-- UnansweredError   3   the engine may still carry out a request that it did not answer
    |   +-- CommandError      3   a command failed: its words, exit code and last output
    +-- PoolExhaustedError    4   no free slot
    |   +-- StillStartingError  4   the lease is another process's until its stack is up
    +-- BookError             5   the lease book cannot be used
    |   +-- LeaseNotFoundError  5
    +-- ImageError            6   an image is missing or could not be built
    +-- NotReadyError         7   a stack did not become ready; carries the evidence
    +-- LeftoversError        8   something is still there after a clean-up
    +-- VerifyError           9   a check found an error that nothing waives
    +-- UnsupportedModelError 1   a part of a Compose model that only Compose itself can start

130 and 143 are kept for SIGINT and SIGTERM. Data is kept as constructor arguments, so that every exception survives
pickling across process borders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StackyardError(Exception):
    """Base of all errors; its text is one clear line, or evidence below one clear line."""

    exit_code = 1


class UsageError(StackyardError):
    """An argument or a setting is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """
    An environment file is wrong.

    Attributes:
        file: The file as the user knows it.
        key: Dotted path of the key inside it.
        value: What was found there.
        rule: What should have been there.
    """

    def __init__(self, file: str, key: str, value: object, rule: str) -> None:
        super().__init__(file, key, value, rule)
        self.file = file
        self.key = key
        self.value = value
        self.rule = rule

    def __str__(self) -> str:
        shown = repr(self.value)
        if len(shown) > 80:  # noqa: PLR2004 - one terminal line
            shown = f"{shown[:77]}..."
        return f"{self.file}: {self.key}: {self.rule}, got {shown}"


class EngineError(StackyardError):
    """The Docker engine is missing, too old, did not answer in time, or refused."""

    exit_code = 3


class RefusedError(EngineError):
    """The engine answered, and said no; its words are in the text."""


class UnansweredError(EngineError):
    """
    A request that changes something was sent, and no usable answer came: the engine may still carry it out.

    What it was to make may appear later, so a list without it proves nothing.
    """


class UnlistedError(EngineError):
    """A lost lease book cannot be made again, because the engine does not list what runs, and the work needs both."""


class CommandError(EngineError):
    """
    A command failed or ran past its deadline.

    Attributes:
        argv: The command's words.
        returncode: Its exit code; None when the deadline ended it.
        output: The last lines it wrote.
    """

    def __init__(self, argv: Sequence[str], returncode: int | None, output: str) -> None:
        super().__init__(argv, returncode, output)
        self.argv = list(argv)
        self.returncode = returncode
        self.output = output

    @property
    def lines(self) -> list[str]:
        """The output's lines that are not empty, without the white space around them."""
        return [line.strip() for line in self.output.splitlines() if line.strip()]

    def __str__(self) -> str:
        import shlex

        how = "ran past its deadline" if self.returncode is None else f"failed with exit code {self.returncode}"
        tail = "\n".join(f"  {line}" for line in self.output.strip().splitlines()[-20:])
        return f"{shlex.join(self.argv)} {how}" + (f":\n{tail}" if tail else "")


class PoolExhaustedError(StackyardError):
    """No slot of the pool is free."""

    exit_code = 4


class SubnetsExhaustedError(PoolExhaustedError):
    """No subnet of the pool is free."""


class StillStartingError(PoolExhaustedError):
    """The lease is another process's until its stack is up; then another process may have it too."""


class BookError(StackyardError):
    """The lease book cannot be read or written."""

    exit_code = 5


class LeaseNotFoundError(BookError):
    """No lease has this id."""


class ImageError(StackyardError):
    """An image is missing or could not be built."""

    exit_code = 6


class NotReadyError(StackyardError):
    """A stack did not become ready; the text carries the evidence."""

    exit_code = 7


class LeftoversError(StackyardError):
    """Something is still there after a clean-up."""

    exit_code = 8


class VerifyError(StackyardError):
    """A check found an error that nothing waives."""

    exit_code = 9


class UnsupportedModelError(StackyardError):
    """
    A part of a Compose model has no translation into requests to the engine; Compose itself must start it.

    Attributes:
        place: Dotted path of the key inside the model.
        value: What was found there.
    """

    def __init__(self, place: str, value: object) -> None:
        super().__init__(place, value)
        self.place = place
        self.value = value

    def __str__(self) -> str:
        return f"{self.place} is left to Compose"

"""
Every exception the services raise on purpose.

    PlatformError
    +-- SettingsError   a variable or secret file is missing or wrong; the service does not start
    +-- Refused         the caller's fault: becomes a 4xx answer
    +-- Unavailable     PostgreSQL or Redis is away: becomes a 503 answer
    +-- RedisFault      Redis refused a command; whoever asked sees Unavailable
    +-- DatabaseFault   PostgreSQL refused a statement
        +-- DatabaseAway    it will pass; whoever asked sees Unavailable
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class PlatformError(Exception):
    """Base of all errors raised on purpose."""


class SettingsError(PlatformError):
    """A setting is missing or wrong; the text names it, the rule and the next step."""


class Refused(PlatformError):  # noqa: N818 - named for what it says to the caller
    """
    The request cannot be granted.

    Attributes:
        status: HTTP status.
        code: Machine-readable word; stays the same from one release to the next.
        message: One line for a person.
        headers: Extra answer headers.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, code, message, headers)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers

    def __str__(self) -> str:
        return self.message


class Unavailable(PlatformError):  # noqa: N818 - as Refused
    """
    A store is away or too slow.

    Attributes:
        store: `database` or `redis`.
        reason: What the last attempt met; for /readyz and the log, never for other callers.
    """

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(store, reason)
        self.store = store
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.store} is unavailable: {self.reason}"


class RedisFault(PlatformError):  # noqa: N818 - as Refused
    """Redis refused a command or the login; the text is its own."""


class DatabaseFault(PlatformError):  # noqa: N818 - as Refused
    """
    PostgreSQL refused a statement or the login; the text is its own.

    Attributes:
        code: Its SQLSTATE, five characters.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class DatabaseAway(DatabaseFault):
    """What a server refuses that is not up, not filled, full or going down: another attempt may find it well."""


def reason_of(error: BaseException) -> str:
    """Return one short line about *error*: its type and first line, which for both stores never hold a secret."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def unauthorized() -> Refused:
    """Return the one refusal for every bad token, so that nobody learns what was wrong with it."""
    return Refused(401, "unauthorized", "a valid bearer token is required", {"WWW-Authenticate": "Bearer"})

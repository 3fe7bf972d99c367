"""
Every exception the services raise on purpose.

    SettingsError   a variable or a secret file is missing or wrong; the service does not start
    Refused         the caller's fault: becomes a 4xx answer
    Unavailable     PostgreSQL or Redis is away: becomes a 503 answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class SettingsError(Exception):
    """A setting is missing or wrong; the text names it, the rule and the next step."""


class Refused(Exception):  # noqa: N818 - named for what it says to the caller
    """
    The request cannot be granted.

    Attributes:
        status: HTTP status.
        code: Machine-readable word; stays the same from one release to the next.
        message: One line for a person.
        headers: Extra answer headers.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


class Unavailable(Exception):  # noqa: N818 - as Refused
    """
    A store is away or too slow.

    Attributes:
        store: `postgres` or `redis`.
        reason: What the last attempt met; for /readyz and the log, never for other callers.
    """

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"{store} is unavailable: {reason}")
        self.store = store
        self.reason = reason


def unauthorized() -> Refused:
    """Return the one refusal for every bad token, so that a caller does not learn what was wrong with it."""
    return Refused(401, "unauthorized", "a valid bearer token is required", {"WWW-Authenticate": "Bearer"})

"""What the log says of a store that is away: one line when that begins or its reason changes, one when it is back."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Final

from platform_common.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_common.settings import Endpoint

log = logging.getLogger("platform")

REASONS: Final[dict[type[BaseException], str]] = {
    ConnectionRefusedError: "connection refused",
    ConnectionResetError: "connection lost",
    socket.gaierror: "its name is unknown",
    TimeoutError: "no answer in time",
}


class Outage:
    """
    Whether a store is away, as far as the last attempt told; away until the first success.

    Args:
        store: `postgres` or `redis`.
        endpoint: Where it is.
        use: What the connection is for, where there are several: ` (events)`.
    """

    def __init__(self, store: str, endpoint: Endpoint, use: str = "") -> None:
        self._store = store
        self._where = f"{store} at {endpoint.host}:{endpoint.port}{use}"
        self.reason: str | None = "not connected yet"

    def goes_on(self, error: BaseException) -> Unavailable:
        """Note that *error* was met instead of the store, and return what to raise."""
        reason = _reason(error)
        if reason != self.reason:
            self.reason = reason
            log.warning("waiting for %s: %s", self._where, reason)
        return Unavailable(self._store, reason)

    def over(self) -> None:
        """Note that the store has answered."""
        if self.reason is not None:
            self.reason = None
            log.info("connected to %s", self._where)


def _reason(error: BaseException) -> str:
    """Return one short line; for both stores it never holds a secret."""
    causes = list(_causes(error))
    for kind, reason in REASONS.items():
        if any(isinstance(cause, kind) for cause in causes):
            return reason
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    # redis-py loses the cause when a subscription connects again
    return "connection refused" if "Connect call failed" in text else text


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

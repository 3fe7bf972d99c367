"""Where a probe connects to, as whom, and how its failures are shown without the password."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlsplit

from stackyard.errors import NotReadyError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LINE = 160  # most characters of a failure that are worth a terminal line


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    A service's URL, taken apart.

    Attributes:
        url: The whole URL, as clients take it.
        host: Host name or address.
        port: TCP port.
        user: User name; empty without one.
        password: Password; empty without one; never part of the representation.
        path: Path with its query; "/" without one.
    """

    url: str = field(repr=False)
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = "/"

    @classmethod
    def parse(cls, url: str, *schemes: str) -> Endpoint:
        """
        Take *url* apart.

        Raises:
            UsageError: If it has none of the *schemes*, no host or no port; the message never shows a password.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # its text repeats parts of the URL
            host = port = None
        else:
            if host and port and parts.scheme in schemes:
                return _endpoint(url, parts, host, port)
        raise UsageError(f"a probe needs a URL {schemes[0]}://HOST:PORT, got one with host {host!r} and port {port!r}")

    def hide(self, text: str) -> str:
        """Return *text* without the password, whether plain or quoted as in the URL."""
        for secret in {self.password, quote(self.password), quote(self.password, safe="")} - {""}:
            text = text.replace(secret, "***")
        return text

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a TCP connection and leave none behind, however the block ends."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield reader, writer
        finally:
            # close() would wait for a peer that never reads; a probe owes it nothing more
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Turn whatever goes wrong in the block into a NotReadyError without the password."""
        try:
            yield
        except NotReadyError as error:
            raise NotReadyError(self.hide(str(error))) from None
        except Exception as error:  # noqa: BLE001 - clients raise what they like; each of it means "not yet"
            raise NotReadyError(self.hide(describe(error))) from None


def _endpoint(url: str, parts: SplitResult, host: str, port: int) -> Endpoint:
    return Endpoint(
        url=url, host=host, port=port, user=unquote(parts.username or ""), password=unquote(parts.password or ""),
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )  # fmt: skip


def describe(error: BaseException) -> str:
    """Return one line on *error*."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncio.IncompleteReadError | EOFError):
        return "connection closed before an answer"
    if isinstance(error, ConnectionError):
        return {"ConnectionRefusedError": "connection refused"}.get(type(error).__name__, "connection reset")
    text = " ".join(str(error).split()) or "no further words"
    return f"{type(error).__name__}: {text}"[:LINE]

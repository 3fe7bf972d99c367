"""One request to one port, from this host: an HTTP status, an opened WebSocket, or a connection that stays open."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from typing import Final

from stackyard.probes.endpoints import Endpoint, describe

STAYS: Final = 0.3  # seconds that a connection stays open where a server stands behind the engine's port proxy
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """
    What came back for a GET.

    Attributes:
        status: The HTTP status; 0 without one.
        other: Whether something answered in another protocol.
        said: What came, for a person.
        silent: Whether the connection stayed open and nothing came in time.
    """

    status: int
    other: bool
    said: str
    silent: bool = False


async def get(host: str, port: int, path: str, *, limit: float) -> HttpAnswer:
    """Send one GET and read the first line of its answer, waiting at most *limit* seconds; never raises."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(limit), Endpoint(url="", host=host, port=port).connect() as (reader, writer):
            writer.write(request.encode())
            line = await reader.readline()
    except TimeoutError:
        return HttpAnswer(0, other=False, said=f"no HTTP answer within {limit:g} s", silent=True)
    except (OSError, ValueError) as error:  # ValueError: a line without an end
        return HttpAnswer(0, other=isinstance(error, ValueError), said=describe(error))
    found = _STATUS.match(line)
    if found:
        return HttpAnswer(int(found[1]), other=False, said=f"HTTP {int(found[1])}")
    said = "an answer in another protocol than HTTP" if line else "connection closed without an answer"
    return HttpAnswer(0, other=bool(line), said=said)


async def opens_websocket(host: str, port: int, path: str, *, limit: float) -> str:
    """Open a WebSocket and close it; return why that failed, or nothing; never raises."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    try:
        # no proxy of the caller's shell may get between the host and its own containers
        async with connect(f"ws://{host}:{port}{path}", proxy=None, open_timeout=limit, close_timeout=STAYS):
            return ""
    except (OSError, WebSocketException, TimeoutError, EOFError) as error:
        return describe(error)


async def speaks_tls(host: str, port: int, *, limit: float) -> bool:
    """Say whether a TLS handshake succeeds, whatever the certificate; never raises."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a test's certificate is its own
    try:
        async with asyncio.timeout(limit):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):  # a failed handshake is one, too
        return False
    writer.transport.abort()
    return True


async def accepts(host: str, port: int, *, limit: float) -> bool | None:
    """Say whether a server accepts a connection, without a proxy between; None if nothing answers at all."""
    try:
        async with asyncio.timeout(limit), Endpoint(url="", host=host, port=port).connect():
            return True
    except ConnectionRefusedError:
        return False
    except (OSError, TimeoutError):
        return None


async def stays_open(host: str, port: int) -> bool:
    """
    Say whether a server accepts connections behind the engine's port proxy.

    The proxy accepts at once, but closes the connection again at once if nothing listens behind it.
    """
    try:
        async with Endpoint(url="", host=host, port=port).connect() as (reader, _):
            try:
                async with asyncio.timeout(STAYS):
                    return bool(await reader.read(1))
            except TimeoutError:
                return True
    except OSError:
        return False

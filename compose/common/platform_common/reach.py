"""
How a store is reached while it may still be starting.

Docker answers a service's name before its network is up. A SYN sent in that gap is lost, and the kernel sends the next
one a second later: far longer than the store takes. So a first attempt is given up early, and each later one lasts
longer, in case it was the host that was slow.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

GROWTH: Final = 1.5
FIRST_PAUSE: Final = 0.02  # seconds; a store that comes up a moment later must not cost a start-up more than that
LONGEST_PAUSE: Final = 0.25  # seconds
FIRST_PATIENCE: Final = 0.1  # seconds; between two containers of one host a connection takes less than one millisecond
LONGEST_PATIENCE: Final = 1.0  # seconds
LOOKUP_LIMIT: Final = 1.5  # seconds


def attempts() -> Iterator[tuple[float, float]]:
    """Yield, without end, how many seconds to wait for a connection and, if it fails, before the next attempt."""
    patience, pause = FIRST_PATIENCE, FIRST_PAUSE
    while True:
        yield patience, pause
        patience = min(patience * GROWTH, LONGEST_PATIENCE)
        pause = min(pause * GROWTH, LONGEST_PAUSE)


async def reach(host: str, port: int, patience: float) -> socket.socket:
    """
    Return a connected, non-blocking socket.

    Args:
        host: Name or address.
        port: TCP port.
        patience: Seconds for the connection alone, without the name lookup.

    Raises:
        OSError: If the name is unknown, nothing listens, or nobody answers in time.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LOOKUP_LIMIT):
        family, kind, protocol, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.setblocking(False)  # noqa: FBT003 - the name of the method says what is set
        async with asyncio.timeout(patience):
            await loop.sock_connect(found, address)
    except BaseException:
        found.close()
        raise
    return found

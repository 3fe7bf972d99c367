"""
How a store is reached while it may still be starting.

Docker answers a service's name before its network is up. A SYN sent in that gap is lost, and the kernel sends the next
one a second later: far longer than the store takes. So a first attempt is given up early, and the next one lasts
longer, in case it was the host that was slow. Where the lost packet was the question for the neighbour's address, the
kernel asks that again only after its own second, and nothing can be done from here.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

GROWTH: Final = 1.5
FIRST_PAUSE: Final = 0.02  # seconds; a store that comes up a moment later must not cost a start-up more than that
LONGEST_PAUSE: Final = 0.25  # seconds
FIRST_PATIENCE: Final = 0.1  # seconds; between two containers of one host a connection takes less than one millisecond
LONGEST_PATIENCE: Final = 1.0  # seconds
LOOKUP_LIMIT: Final = 1.5  # seconds


class Attempts:
    """
    How patient one attempt is, and what comes after it.

    Attributes:
        patience: Seconds to wait for a connection.
    """

    def __init__(self) -> None:
        self.patience = FIRST_PATIENCE
        self._pause = FIRST_PAUSE

    def failed(self, error: BaseException) -> float:
        """Return how many seconds to wait before the next attempt; only silence makes that one more patient."""
        longer = min(self.patience * GROWTH, LONGEST_PATIENCE)
        self.patience = longer if isinstance(error, TimeoutError) else FIRST_PATIENCE
        pause, self._pause = self._pause, min(self._pause * GROWTH, LONGEST_PAUSE)
        return pause


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

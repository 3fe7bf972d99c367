"""
One connection to Redis, in RESP2 through hiredis.

Whoever asks shares it: commands are written as they come, and the replies come in the same order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import hiredis

from platform_common.errors import RedisFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_common.settings import Endpoint

Command = tuple[str | bytes | int, ...]
pack: Final[Callable[[Command], bytes]] = hiredis.pack_command  # type: ignore[assignment] # its stub means one word
PASSING: Final = "LOADING"  # what Redis says of everything while it reads its data


class Link(asyncio.Protocol):
    """
    A connection.

    Attributes:
        lost: Done when the connection has ended; its result is why.
    """

    def __init__(self, hear: Callable[[list[Any]], None] | None = None) -> None:
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.hear = hear
        self._reader = hiredis.Reader(encoding="utf-8", errors="replace")
        self._waiting: deque[asyncio.Future[Any]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio promises; narrows for the type checker
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        if not self.lost.done():
            self.lost.set_result(exc or ConnectionResetError("the server closed the connection"))
        for reply in self._waiting:
            if not reply.done():
                reply.set_exception(ConnectionResetError("the connection was lost"))
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Give each reply to whoever waits for it, and what nobody asked for to *hear*."""
        try:
            self._reader.feed(data)
            while not self.lost.done() and (reply := self._reader.gets()) is not False:
                self._take(reply)
        except hiredis.ProtocolError as error:
            self.lost.set_result(ConnectionAbortedError(str(error)))
            self._transport.abort()

    def send(self, *commands: Command) -> None:
        """Write *commands* whose replies come through *hear*."""
        self._transport.write(b"".join(pack(command) for command in commands))

    async def ask(self, *commands: Command) -> list[Any]:
        """
        Return the reply to each of *commands*.

        Raises:
            RedisFault: If one was refused.
            ConnectionError: If the connection is lost, or Redis is not up yet.
        """
        if self._transport.is_closing():
            raise ConnectionResetError("the connection was lost")
        replies = [asyncio.get_running_loop().create_future() for _ in commands]
        self._waiting.extend(replies)
        self.send(*commands)
        found = await asyncio.gather(*replies)
        for reply in found:
            if isinstance(reply, hiredis.ReplyError):
                raise ConnectionError(str(reply)) if str(reply).startswith(PASSING) else RedisFault(str(reply))
        return found

    def drop(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def _take(self, reply: Any) -> None:
        if self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(reply)
        elif self.hear is not None and isinstance(reply, list):
            self.hear(reply)


async def connect(endpoint: Endpoint, limit: float, hear: Callable[[list[Any]], None] | None = None) -> Link:
    """
    Return a new connection, logged in.

    Args:
        endpoint: Where, and who we are.
        limit: Seconds for lookup and connection.
        hear: Gets what comes unasked for: the messages of subscribed channels.

    Raises:
        RedisFault: If the login is refused.
        OSError: If nobody answers, `TimeoutError` if not in time.
    """
    async with asyncio.timeout(limit):
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: Link(hear), endpoint.host, endpoint.port)
    try:
        await link.ask(("AUTH", endpoint.user, endpoint.password))
    except BaseException:
        link.drop()
        raise
    return link

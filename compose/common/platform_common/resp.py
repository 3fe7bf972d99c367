"""
One connection to Redis in RESP2, the protocol's plain form.

The services use a dozen commands. Importing redis-py for them takes 46 ms of CPU and 7 MB in every process, on top of
the 130 ms of everything else; with fifty stacks starting on one host that is five seconds and 700 MB.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from platform_common.reach import reach

if TYPE_CHECKING:
    from platform_common.settings import Endpoint

Reply: TypeAlias = "bytes | int | list[Reply] | RespError | None"
Word: TypeAlias = "str | bytes | int"

LOGIN_LIMIT = 1.0  # seconds


class RespError(Exception):
    """Redis refused a command; the text is what Redis said, beginning with a word like NOAUTH."""


class Wire:
    """Sends commands and reads replies, in order; knows nothing of what they mean."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, endpoint: Endpoint, patience: float) -> Wire:
        """
        Connect, within *patience* seconds, and log in.

        Raises:
            OSError: If nothing listens there, the name is unknown, or nobody answers in time.
            RespError: If the login is refused or the server still loads its data.
        """
        found = await reach(endpoint.host, endpoint.port, patience)
        async with asyncio.timeout(LOGIN_LIMIT):
            wire = cls(*await asyncio.open_connection(sock=found))
            try:
                wire.send(("AUTH", endpoint.user, endpoint.password))
                reply = await wire.read()
            except BaseException:
                wire.close()
                raise
        if isinstance(reply, RespError):
            wire.close()
            raise reply
        return wire

    def send(self, *commands: tuple[Word, ...]) -> None:
        """Queue *commands* for sending, all in one packet where they fit."""
        self._writer.write(b"".join(map(pack, commands)))

    def close(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()

    async def read(self) -> Reply:
        """
        Read one reply; an error reply is returned, not raised, because a pipeline's other replies follow it.

        Raises:
            EOFError: If the connection ends.
            OSError: If it breaks.
        """
        line = (await self._reader.readuntil(b"\r\n"))[:-2]
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return rest
            case b"-":
                return RespError(rest.decode(errors="replace"))
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else (await self._reader.readexactly(int(rest) + 2))[:-2]
            case b"*":
                return None if rest == b"-1" else [await self.read() for _ in range(int(rest))]
            case _:
                raise EOFError(f"not a Redis reply: {line[:40]!r}")


def pack(command: tuple[Word, ...]) -> bytes:
    """Return *command* as RESP bytes: an array of binary-safe strings, so no value can become a second command."""
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)

"""
One connection to PostgreSQL, in version 3.0 of its protocol (PostgreSQL's manual, "Frontend/Backend Protocol").

Statements go as unnamed prepared ones with every value as text, so that one round trip does for each and nothing of
them is kept: a server that comes back empty, or with another database in the old one's place, has nothing to miss.
"""

from __future__ import annotations

import asyncio
import struct
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from platform_common.errors import DatabaseAway, DatabaseFault
from platform_common.scram import MECHANISM, Scram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from platform_common.settings import Endpoint

    Row = dict[str, Any]
    Column = tuple[str, Callable[[str], Any]]

PROTOCOL: Final = 196608  # 3.0
OK, SASL, SASL_GO_ON, SASL_FINAL = 0, 10, 11, 12  # what a message of kind R asks for
IDLE: Final = b"I"  # what ReadyForQuery says outside of transactions
LONGEST: Final = 2**26  # bytes of one message; far beyond what any query here asks for
HEADER: Final = struct.Struct("!cI")
COLUMN: Final = struct.Struct("!IhIhih")  # after a column's name
# Types by OID, pg_type.dat; all others stay text.
FROM_TEXT: Final[dict[int, Callable[[str], Any]]] = {
    16: "t".__eq__, 17: lambda text: bytes.fromhex(text.removeprefix("\\x")), 20: int, 21: int, 23: int,
    700: float, 701: float, 1114: datetime.fromisoformat, 1184: datetime.fromisoformat, 2950: uuid.UUID,
}  # fmt: skip
UNIQUE_VIOLATION: Final = "23505"  # SQLSTATEs that a service has an answer of its own to; the manual's appendix A
FOREIGN_KEY_VIOLATION: Final = "23503"
# What a server says that stops, starts, restarts, is full, or comes back empty and lacks password, database or tables
# for a moment: classes and codes.
PASSING: Final = ("08", "28", "3D000", "42P01", "53", "55000", "57")


class Link(asyncio.Protocol):
    """
    A connection; whoever has it asks one thing at a time.

    Attributes:
        lost: Done when the connection has ended; its result is why.
    """

    _transport: asyncio.Transport
    _fault: Exception | None

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._endpoint = endpoint
        self._name = name
        self._received = bytearray()
        self._scram: Scram | None = None
        self._begin()

    @property
    def listens(self) -> bool:
        """Whether the next statement may come: the server has finished with the last."""
        return bool(self._state) and not self.lost.done() and not self._transport.is_closing()

    @property
    def idle(self) -> bool:
        """Whether it may be lent to the next: no transaction has begun either."""
        return self.listens and self._state == IDLE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio promises; narrows for the type checker
        self._transport = transport
        options = {
            "user": self._endpoint.user, "database": self._endpoint.database, "application_name": self._name,
            "client_encoding": "UTF8", "DateStyle": "ISO",
        }  # fmt: skip
        body = b"".join(_text(word) for pair in options.items() for word in pair)
        transport.write(struct.pack("!II", len(body) + 9, PROTOCOL) + body + b"\0")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        why = self._fault or exc or ConnectionResetError("the server closed the connection")
        if not self.lost.done():
            self.lost.set_result(why)
        if not self._answer.done():
            self._answer.set_exception(why)
            self._answer.exception()  # who asked may have left

    def data_received(self, data: bytes) -> None:
        """Take every message that is complete."""
        self._received += data
        try:
            while len(self._received) >= HEADER.size and not self.lost.done():
                kind, size = HEADER.unpack_from(self._received)
                if not HEADER.size - 1 <= size <= LONGEST:
                    raise ValueError(f"a message of {size} bytes")  # noqa: TRY301 - as any other that makes no sense
                if len(self._received) <= size:
                    return
                message = bytes(self._received[HEADER.size : size + 1])
                del self._received[: size + 1]
                self._take(kind, message)
        except (ValueError, LookupError, struct.error) as error:
            self.lost.set_result(ConnectionAbortedError(f"the server does not speak PostgreSQL's protocol: {error}"))
            self._fault = self.lost.result()
            self.drop()

    async def ask(self, query: str, *values: object) -> list[Row]:
        """
        Run one statement and return its rows.

        Raises:
            DatabaseFault: If the server refused it; `DatabaseAway` if that will pass.
            ConnectionError: If the connection is lost.
        """
        if not self.listens:
            raise ConnectionResetError("the connection was lost")
        self._begin()
        self._transport.write(_statement(query, values))
        return await self._answer

    async def row(self, query: str, *values: object) -> Row | None:
        """
        Run one statement and return its first row, or None.

        Raises:
            DatabaseFault: As *ask*.
            ConnectionError: As *ask*.
        """
        return next(iter(await self.ask(query, *values)), None)

    async def ready(self) -> None:
        """
        Return when logged in.

        Raises:
            DatabaseFault: As *ask*.
            OSError: If the connection is lost.
        """
        await self._answer

    def drop(self) -> None:
        """End the connection at once, without waiting for what was asked."""
        self._transport.abort()

    def _begin(self) -> None:
        self._answer: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
        self._rows: list[Row] = []
        self._columns: list[Column] = []
        self._fault = None
        self._state = b""

    def _take(self, kind: bytes, message: bytes) -> None:
        match kind:
            case b"D":
                self._rows.append(_row(self._columns, message))
            case b"T":
                self._columns = list(_columns(message))
            case b"Z":
                self._state = message
                self._finish()
            case b"E":
                self._fault = _fault(message)
            case b"R":
                self._prove(message)

    def _finish(self) -> None:
        if self._answer.done():
            return
        if self._fault is None:
            self._answer.set_result(self._rows)
        else:
            self._answer.set_exception(self._fault)

    def _prove(self, message: bytes) -> None:
        """Answer what the server asks to be shown of the password; SCRAM is all it may ask."""
        (step,), rest = struct.unpack_from("!I", message), message[4:]
        scram = self._scram
        if step == SASL and scram is None and MECHANISM in rest.split(b"\0"):
            self._scram = scram = Scram(self._endpoint.password)
            first = scram.first()
            self._transport.write(_message(b"p", MECHANISM + b"\0" + struct.pack("!I", len(first)) + first))
        elif step == SASL_GO_ON and scram is not None:
            self._transport.write(_message(b"p", scram.final(rest)))
        elif step == SASL_FINAL and scram is not None:
            scram.check(rest)
        elif step != OK or scram is None or not scram.proven:
            raise ValueError(f"step {step} of a login that is not {MECHANISM.decode()}")


async def connect(endpoint: Endpoint, name: str, limit: float) -> Link:
    """
    Return a new connection, logged in.

    Args:
        endpoint: Where, and who we are.
        name: What the server's list of sessions calls us.
        limit: Seconds for lookup, connection and login.

    Raises:
        DatabaseFault: If the login is refused; `DatabaseAway` if that will pass.
        OSError: If nobody answers, `TimeoutError` if not in time.
    """
    async with asyncio.timeout(limit):
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: Link(endpoint, name), endpoint.host, endpoint.port)
        try:
            await link.ready()
        except BaseException:
            link.drop()
            raise
    return link


def _message(kind: bytes, body: bytes) -> bytes:
    return HEADER.pack(kind, len(body) + 4) + body


def _text(word: str) -> bytes:
    return word.encode() + b"\0"


def _statement(query: str, values: tuple[object, ...]) -> bytes:
    """Return Parse, Bind, Describe, Execute and Sync: all in one write, answered in one."""
    fields = b"".join(map(_field, values))
    return b"".join((
        _message(b"P", b"\0" + _text(query) + b"\0\0"),
        _message(b"B", b"\0\0\0\0" + struct.pack("!H", len(values)) + fields + b"\0\0"),
        _message(b"D", b"P\0"),
        _message(b"E", b"\0\0\0\0\0"),
        _message(b"S", b""),
    ))  # fmt: skip


def _field(value: object) -> bytes:
    """Return a value as Bind wants it: how long its text is, and the text; NULL is -1 long."""
    if value is None:
        return b"\xff\xff\xff\xff"
    text = _written(value).encode()
    return struct.pack("!I", len(text)) + text


def _written(value: object) -> str:
    match value:
        case bool():
            return "t" if value else "f"
        case bytes():
            return "\\x" + value.hex()
        case list():
            quoted = (_written(item).replace("\\", "\\\\").replace('"', '\\"') for item in value)
            return "{" + ",".join(f'"{item}"' for item in quoted) + "}"
        case _:
            return str(value)


def _columns(message: bytes) -> Iterator[Column]:
    (number,), at = struct.unpack_from("!H", message), 2
    for _ in range(number):
        end = message.index(b"\0", at)
        _, _, oid, *_ = COLUMN.unpack_from(message, end + 1)
        yield message[at:end].decode(), FROM_TEXT.get(oid, str)
        at = end + 1 + COLUMN.size


def _row(columns: list[Column], message: bytes) -> Row:
    row: Row = {}
    at = 2
    for name, read in columns:
        (size,) = struct.unpack_from("!i", message, at)
        at += 4
        row[name] = None if size < 0 else read(message[at : at + size].decode())
        at += max(size, 0)
    return row


def _fault(message: bytes) -> DatabaseFault:
    """Return what an error says: one letter for what a field is, the field, a zero (manual, "Error Fields")."""
    fields = {part[:1]: part[1:].decode(errors="replace") for part in message.split(b"\0") if part}
    code = fields.get(b"C", "")
    kind = DatabaseAway if code.startswith(PASSING) else DatabaseFault
    return kind(code, fields.get(b"M", "no message"))

"""The services' connection to PostgreSQL, and a server that says what a test wants; tests/platform has a real one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from platform_common.errors import DatabaseAway, DatabaseFault
from platform_common.postgres import Link, connect
from platform_common.settings import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Script = Callable[["Client"], Awaitable[None]]

PASSWORD: Final = "correct horse"
SALT: Final = b"0123456789abcdef"
ROUNDS: Final = 4096
READY: Final = b"Z\0\0\0\x05I"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def error(severity: str, code: str, text: str) -> bytes:
    return message(b"E", f"S{severity}\0C{code}\0M{text}\0\0".encode())


class Client:
    """What the server sees of one client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard = b""

    async def started(self) -> dict[str, str]:
        size, protocol = struct.unpack("!II", await self.reader.readexactly(8))
        assert protocol == 196608
        words = (await self.reader.readexactly(size - 8)).decode().split("\0")
        return dict(zip(words[::2], words[1::2], strict=False))

    async def hear(self) -> tuple[bytes, bytes]:
        kind, size = struct.unpack("!cI", await self.reader.readexactly(5))
        self.heard += (body := await self.reader.readexactly(size - 4))
        return kind, body

    def say(self, *messages: bytes) -> None:
        self.writer.write(b"".join(messages))

    async def log_in(self, *, password: str = PASSWORD, nonce: bytes = b"", sign: bool = True) -> dict[str, str]:
        """RFC 5802 as a server; with another password, nonce or without its signature where told."""
        asked = await self.started()
        self.say(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
        _, first = await self.hear()
        bare = first.partition(b"n,,")[2]
        nonce = nonce or bare.partition(b"r=")[2] + b"theirs"
        challenge = b"r=" + nonce + b",s=" + base64.b64encode(SALT) + b",i=" + str(ROUNDS).encode()
        self.say(message(b"R", struct.pack("!I", 11) + challenge))
        _, final = await self.hear()
        closing, _, proof = final.partition(b",p=")
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, ROUNDS)
        signed = b",".join((bare, challenge, closing))
        key = hmac.digest(salted, b"Client Key", "sha256")
        mask = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        shown = bytes(a ^ b for a, b in zip(base64.b64decode(proof), mask, strict=True))
        asked["known"] = "yes" if shown == key else "no"
        signature = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256"))
        self.say(
            *[message(b"R", struct.pack("!I", 12) + b"v=" + signature)] * sign, message(b"R", struct.pack("!I", 0))
        )
        self.say(READY)
        return asked

    async def statement(self) -> list[bytes]:
        """Return the kinds of messages up to Sync."""
        kinds: list[bytes] = []
        while not kinds or kinds[-1] != b"S":
            kinds.append((await self.hear())[0])
        return kinds


@asynccontextmanager
async def server(script: Script) -> AsyncIterator[Endpoint]:
    failed: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Client(reader, writer))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left, as many of these tests want
        except AssertionError as error:
            failed.append(error)
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield Endpoint(host="127.0.0.1", port=port, user="app", password=PASSWORD, database="db")
    assert failed == []


async def linked(endpoint: Endpoint) -> Link:
    return await connect(endpoint, "tests", 5)


async def test_a_login_says_who_it_is_and_proves_the_password_without_sending_it() -> None:
    told: dict[str, str] = {}
    heard: list[bytes] = []

    async def script(client: Client) -> None:
        told.update(await client.log_in())
        heard.append(client.heard)
        await client.reader.read()

    async with server(script) as endpoint:
        link = await linked(endpoint)
        assert link.idle
        link.drop()

    wanted = {"user": "app", "database": "db", "application_name": "tests", "client_encoding": "UTF8", "known": "yes"}
    assert told == told | wanted
    assert PASSWORD.encode() not in heard[0]


@pytest.mark.parametrize(
    ("login", "says"),
    [
        ({"password": "another"}, "does not know the password"),
        ({"sign": False}, "step 0"),
        ({"nonce": b"a nonce of its own"}, "nonce"),
    ],
    ids=["another password", "no signature", "another nonce"],
)
async def test_a_server_that_does_not_know_the_password_is_left(login: dict[str, object], says: str) -> None:
    async def script(client: Client) -> None:
        await client.log_in(**login)  # type: ignore[arg-type] # one of three
        assert await client.reader.read() == b""

    async with server(script) as endpoint:
        with pytest.raises(ConnectionAbortedError, match=says):
            await linked(endpoint)


@pytest.mark.parametrize("step", [0, 3, 5, 11, 12, 99])
async def test_a_password_is_given_to_no_server_that_asks_another_way(step: int) -> None:
    async def script(client: Client) -> None:
        await client.started()
        client.say(message(b"R", struct.pack("!I", step) + b"r=,s=,i=1"), READY)
        assert await client.reader.read() == b""

    async with server(script) as endpoint:
        with pytest.raises(ConnectionAbortedError, match=f"step {step}"):
            await linked(endpoint)


@pytest.mark.parametrize(
    "nonsense",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"R\0\0\0\0", b"R\xff\xff\xff\xff", b"R\0\0\0\x04", message(b"T", b"\0\1x")],
    ids=["HTTP", "too short", "too long", "empty", "a column without an end"],
)
async def test_what_is_not_the_protocol_ends_the_connection(nonsense: bytes) -> None:
    async def script(client: Client) -> None:
        await client.started()
        client.say(nonsense)
        await client.reader.read()

    async with server(script) as endpoint:
        with pytest.raises(ConnectionAbortedError, match="does not speak"):
            await linked(endpoint)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("57P03", DatabaseAway), ("28P01", DatabaseAway), ("3D000", DatabaseAway), ("53300", DatabaseAway),
     ("0A000", DatabaseFault)],
)  # fmt: skip
async def test_a_refused_login_says_why_and_whether_it_will_pass(code: str, kind: type[DatabaseFault]) -> None:
    async def script(client: Client) -> None:
        await client.started()
        client.say(error("FATAL", code, "no"))

    async with server(script) as endpoint:
        with pytest.raises(DatabaseFault, match=rf"no \({code}\)") as caught:
            await linked(endpoint)

    assert type(caught.value) is kind


async def test_a_server_that_leaves_or_says_nothing_is_an_os_error() -> None:
    async def leaves(client: Client) -> None:
        await client.started()

    async def hangs(client: Client) -> None:
        await client.reader.read()

    async with server(leaves) as endpoint:
        with pytest.raises(ConnectionResetError):
            await linked(endpoint)
    async with server(hangs) as endpoint:
        with pytest.raises(TimeoutError):
            await connect(endpoint, "tests", 0.05)


async def test_an_answer_may_come_in_any_pieces() -> None:
    columns = b"".join(
        name + b"\0" + struct.pack("!IhIhih", 0, 0, oid, 0, 0, 0) for name, oid in [(b"a", 23), (b"b", 25)]
    )
    rows = [struct.pack("!hi", 2, 2) + b"42" + struct.pack("!i", -1), struct.pack("!hi", 2, 1) + b"7\0\0\0\x02\xc3\xa9"]
    answer = message(b"1", b"") + message(b"2", b"") + message(b"T", b"\0\2" + columns)
    answer += b"".join(message(b"D", row) for row in rows) + message(b"N", b"") + message(b"C", b"SELECT 2\0") + READY

    async def script(client: Client) -> None:
        await client.log_in()
        assert await client.statement() == [b"P", b"B", b"D", b"E", b"S"]
        for at in range(len(answer)):
            client.say(answer[at : at + 1])
            await asyncio.sleep(0)
        await client.statement()
        client.say(answer)

    async with server(script) as endpoint:
        link = await linked(endpoint)
        assert await link.ask("SELECT") == [{"a": 42, "b": None}, {"a": 7, "b": "é"}]
        assert await link.row("SELECT") == {"a": 42, "b": None}
        link.drop()


async def test_a_refused_statement_leaves_the_connection_good_and_a_begun_transaction_does_not() -> None:
    async def script(client: Client) -> None:
        await client.log_in()
        await client.statement()
        client.say(error("ERROR", "23505", "twice"), READY)
        await client.statement()
        client.say(message(b"C", b"BEGIN\0"), b"Z\0\0\0\x05T")
        await client.reader.read()

    async with server(script) as endpoint:
        link = await linked(endpoint)
        with pytest.raises(DatabaseFault, match="twice") as caught:
            await link.ask("INSERT")
        assert caught.value.code == "23505"
        assert link.idle
        assert await link.ask("BEGIN") == []
        assert (link.listens, link.idle) == (True, False)
        link.drop()


async def test_whoever_stops_waiting_leaves_a_connection_that_is_not_lent_again() -> None:
    async def script(client: Client) -> None:
        await client.log_in()
        await client.statement()
        await client.reader.read()

    async with server(script) as endpoint:
        link = await linked(endpoint)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await link.ask("SELECT pg_sleep(9)")
        assert not link.listens
        with pytest.raises(ConnectionResetError):
            await link.ask("SELECT 1")
        link.drop()


async def test_a_server_that_goes_down_says_so_to_who_asks_and_to_who_watches() -> None:
    async def script(client: Client) -> None:
        await client.log_in()
        await client.statement()
        client.say(error("FATAL", "57P01", "terminating connection due to administrator command"))

    async with server(script) as endpoint:
        link = await linked(endpoint)
        with pytest.raises(DatabaseAway, match="57P01"):
            await link.ask("SELECT 1")
        assert isinstance(await link.lost, DatabaseAway)
        assert not link.idle

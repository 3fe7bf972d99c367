"""HTTP and WebSocket byte by byte: what no well-behaved client would send, and what few do."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from tests.platform.conftest import Person, Stack

TEXT, BINARY, CONTINUED, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


class Wire:
    """A bare connection to the backend."""

    def __init__(self, link: socket.socket, host: str) -> None:
        self.link = link
        self.host = host
        self._input = link.makefile("rb")

    def send(self, text: str | bytes) -> None:
        self.link.sendall(text.encode() if isinstance(text, str) else text)

    def answer(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Read one answer; status 0 means a closed connection."""
        status = self._input.readline().split(b" ")[1:2]
        headers = {}
        while (line := self._input.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        length = int(headers.get("content-length", "0")) if body else 0
        return int(status[0]) if status else 0, headers, self._input.read(length)

    def upgrade(self, origin: str, *, version: str = "13", key: str = "") -> None:
        key = key or base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET /ws HTTP/1.1\r\nHost: {self.host}", "Upgrade: websocket", "Connection: keep-alive, Upgrade"]
        lines += [f"Origin: {origin}", f"Sec-WebSocket-Version: {version}", f"Sec-WebSocket-Key: {key}", "", ""]
        self.send("\r\n".join(lines))

    def frame(self, opcode: int, data: bytes, *, fin: bool = True, mask: bool = True) -> bytes:
        head = bytes([opcode | (0x80 if fin else 0), len(data) | (0x80 if mask else 0)])
        return head + (b"\0\0\0\0" if mask else b"") + data

    def hear(self) -> tuple[int, bytes]:
        """Read one short frame."""
        first, length = self._input.read(2)
        return first & 15, self._input.read(length)


@pytest.fixture
def wire(stack: Stack) -> Iterator[Wire]:
    with _connect(stack) as found:
        yield found


@contextmanager
def _connect(stack: Stack) -> Iterator[Wire]:
    where = urlsplit(stack.backend)
    with socket.create_connection((where.hostname, where.port), timeout=30) as link:
        yield Wire(link, where.netloc)


def _get(wire: Wire, path: str = "/healthz", *headers: str, method: str = "GET") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {wire.host}", *headers, "", ""])


def test_the_server_keeps_an_idle_connection_longer_than_clients_do(wire: Wire) -> None:
    wire.send(_get(wire))
    assert wire.answer()[0] == 200
    time.sleep(5.5)  # httpx and others give up an idle connection after 5 s

    wire.send(_get(wire))
    assert wire.answer()[0] == 200


def test_requests_sent_without_waiting_are_answered_in_order(wire: Wire) -> None:
    paths = ["/healthz", "/no", "/readyz", "/healthz"]

    wire.send("".join(_get(wire, path) for path in paths))

    assert [wire.answer()[0] for _ in paths] == [200, 404, 200, 200]


def test_a_request_may_arrive_a_byte_at_a_time(wire: Wire) -> None:
    for letter in _get(wire):
        wire.send(letter)

    assert wire.answer()[0] == 200


def test_head_is_answered_like_get_without_the_body(wire: Wire) -> None:
    wire.send(_get(wire) + _get(wire, method="HEAD") + _get(wire))

    answers = [wire.answer(), wire.answer(body=False), wire.answer()]
    for _, headers, _ in answers:
        headers.pop("date")
    assert answers[0] == answers[2]
    assert answers[1] == (*answers[0][:2], b"")


def test_a_client_that_asks_whether_to_go_on_may_go_on(wire: Wire, alice: Person) -> None:
    body = json.dumps({"title": "late"})
    token = f"Authorization: Bearer {alice.access}"
    wire.send(_get(wire, "/threads", token, f"Content-Length: {len(body)}", "Expect: 100-continue", method="POST"))

    assert wire.answer()[0] == 100
    wire.send(body)
    assert wire.answer()[0] == 201


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("rubbish\r\n\r\n", id="rubbish"),
        pytest.param("GET /healthz HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", id="no-colon"),
        pytest.param("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two-lengths"),
        pytest.param(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length-and-chunks",
        ),
        pytest.param("\x16\x03\x01\x02\x00\x01\x00", id="tls"),
    ],
)
def test_a_head_that_cannot_be_trusted_is_refused_and_the_connection_ends(wire: Wire, head: str) -> None:
    wire.send(head)

    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert wire.answer()[0] == 0


def test_a_wrong_method_is_answered_with_a_right_one(backend: httpx.Client) -> None:
    assert "GET" in backend.put("/threads").headers["allow"].split(", ")


def test_a_path_may_be_written_with_escapes(backend: httpx.Client) -> None:
    assert backend.get("/%68ealthz").json() == {"status": "alive"}


@pytest.mark.parametrize("kind", ["h2c", "rubbish"])
def test_an_upgrade_to_anything_else_is_not_taken(wire: Wire, kind: str) -> None:
    wire.send(_get(wire, "/healthz", f"Upgrade: {kind}", "Connection: Upgrade"))

    assert wire.answer()[0] == 200


@pytest.mark.parametrize(
    ("version", "key"),
    [("12", ""), ("13", "short"), ("13", "!" * 24), ("", "")],
    ids=["version", "short-key", "bad-key", "no-version"],
)
def test_a_handshake_that_is_none_is_refused(stack: Stack, wire: Wire, version: str, key: str) -> None:
    wire.upgrade(stack.origin, version=version, key=key)

    assert wire.answer()[0] == 400


def test_a_message_may_come_in_pieces_with_a_ping_between(stack: Stack, wire: Wire) -> None:
    wire.upgrade(stack.origin)
    assert wire.answer()[0] == 101

    begun, ended = wire.frame(TEXT, b'{"type":', fin=False), wire.frame(CONTINUED, b'"ping"}')
    wire.send(begun + wire.frame(PING, b"there?") + ended)

    assert wire.hear() == (PONG, b"there?")
    assert wire.hear() == (TEXT, b'{"type":"pong"}')


@pytest.mark.parametrize(
    ("opcode", "data", "mask", "code"),
    [
        pytest.param(TEXT, b"\xff\xfe", True, 1007, id="not-utf8"),
        pytest.param(TEXT, b"{}", False, 1002, id="not-masked"),
        pytest.param(11, b"", True, 1002, id="unknown-kind"),
        pytest.param(CONTINUED, b"", True, 1002, id="continues-nothing"),
        pytest.param(CLOSE, struct.pack(">H", 1000), True, 1000, id="goodbye"),
    ],
)
def test_a_frame_against_the_rules_ends_the_connection_with_its_code(
    stack: Stack, wire: Wire, opcode: int, data: bytes, mask: bool, code: int
) -> None:
    wire.upgrade(stack.origin)
    assert wire.answer()[0] == 101

    wire.send(wire.frame(opcode, data, mask=mask))

    kind, said = wire.hear()
    assert (kind, struct.unpack(">H", said[:2])[0]) == (CLOSE, code)
    assert wire.link.recv(1) == b""


def test_a_client_that_never_pauses_does_not_silence_the_others(stack: Stack, wire: Wire) -> None:
    with _connect(stack) as other:
        for one in (wire, other):
            one.upgrade(stack.origin)
            assert one.answer()[0] == 101

        wire.send(wire.frame(TEXT, b'{"type":"ping"}') * 1000)
        other.send(other.frame(TEXT, b'{"type":"ping"}'))

        assert other.hear() == (TEXT, b'{"type":"pong"}')
        assert {wire.hear() for _ in range(1000)} == {(TEXT, b'{"type":"pong"}')}

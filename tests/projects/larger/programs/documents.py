"""A store that speaks enough of MongoDB's protocol: OP_MSG with hello, ping, insert and find."""

import contextlib
import itertools
import socket
import socketserver
import struct
from typing import Any

from serving import listen

OP_MSG = 2013
NUMBERS = itertools.count(1)


def encoded(document: dict[str, Any]) -> bytes:
    body = b"".join(_element(key, value) for key, value in document.items())
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def _element(key: str, value: Any) -> bytes:
    name = key.encode() + b"\0"
    match value:
        case bool():
            return b"\x08" + name + bytes([value])
        case int():
            return b"\x10" + name + struct.pack("<i", value)
        case float():
            return b"\x01" + name + struct.pack("<d", value)
        case str():
            text = value.encode() + b"\0"
            return b"\x02" + name + struct.pack("<i", len(text)) + text
        case list():
            return b"\x04" + name + encoded({str(index): item for index, item in enumerate(value)})
        case _:
            return b"\x03" + name + encoded(value)


def decoded(data: bytes) -> dict[str, Any]:
    found, at = {}, 4
    while data[at]:
        end = data.index(0, at + 1)
        kind, key, at = data[at], data[at + 1 : end].decode(), end + 1
        found[key], at = _value(kind, data, at)
    return found


def _value(kind: int, data: bytes, at: int) -> tuple[Any, int]:
    if kind in {1, 8, 16, 18}:
        form = {1: "<d", 8: "<?", 16: "<i", 18: "<q"}[kind]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    (size,) = struct.unpack_from("<i", data, at)
    if kind == 2:
        return data[at + 4 : at + 3 + size].decode(), at + 4 + size
    inner = decoded(data[at : at + size])
    return (list(inner.values()) if kind == 4 else inner), at + size


def _exactly(line: socket.socket, size: int) -> bytes:
    data = line.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise ConnectionError("the other side has hung up")
    return data


def receive(line: socket.socket) -> tuple[int, dict[str, Any]]:
    size, number, _, _ = struct.unpack("<iiii", _exactly(line, 16))
    return number, decoded(_exactly(line, size - 16)[5:])


def send(line: socket.socket, document: dict[str, Any], answered: int = 0) -> None:
    body = struct.pack("<iB", 0, 0) + encoded(document)
    line.sendall(struct.pack("<iiii", len(body) + 16, next(NUMBERS), answered, OP_MSG) + body)


def ask(host: str, command: dict[str, Any]) -> dict[str, Any]:
    with socket.create_connection((host, 27017), timeout=10) as line:
        send(line, {**command, "$db": "portal"})
        return receive(line)[1]


class Session(socketserver.BaseRequestHandler):
    kept: dict[str, list[Any]] = {}  # noqa: RUF012 - all connections share it

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                number, command = receive(self.request)
                send(self.request, self.answer(command) | {"ok": 1.0}, number)

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if "insert" in command:
            self.kept.setdefault(command["insert"], []).extend(command["documents"])
            return {"n": len(command["documents"])}
        if "find" in command:
            batch = self.kept.get(command["find"], [])
            return {"cursor": {"firstBatch": batch, "id": 0, "ns": f"portal.{command['find']}"}}
        return {"isWritablePrimary": True, "minWireVersion": 0, "maxWireVersion": 21, "readOnly": False}


if __name__ == "__main__":
    listen((27017, Session))

"""A broker after Kafka: a client asks any address for the metadata, and then uses only the address that it names."""

import os
import socket
import socketserver
import struct
import sys

METADATA, PRODUCE, FETCH = 3, 0, 1


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value.encode())) + value.encode()


def _call(host: str, port: int, key: int, body: bytes) -> bytes:
    with socket.create_connection((host, port), timeout=10) as line:
        request = struct.pack(">hhi", key, 0, 7) + _text("client") + body
        line.sendall(struct.pack(">i", len(request)) + request)
        return receive(line)[4:]


def receive(line: socket.socket) -> bytes:
    head = line.recv(4, socket.MSG_WAITALL)
    return line.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL) if head else b""


def metadata(host: str, port: int) -> tuple[str, int]:
    """Return the address that the broker tells clients of this listener, from a Metadata response of version 0."""
    answer = _call(host, port, METADATA, struct.pack(">i", 0))
    _, _, length = struct.unpack_from(">iih", answer)
    name = answer[10 : 10 + length].decode()
    return name, int(struct.unpack_from(">i", answer, 10 + length)[0])


def produce(host: str, port: int, item: str) -> None:
    _call(*metadata(host, port), PRODUCE, item.encode())


def fetch(host: str, port: int) -> list[str]:
    text = _call(*metadata(host, port), FETCH, b"").decode()
    return text.split("\n") if text else []


class Listener(socketserver.BaseRequestHandler):
    advertised = ("", 0)
    items: list[str] = []  # noqa: RUF012 - all listeners share it

    def handle(self) -> None:
        while request := receive(self.request):
            key, _, number, named = struct.unpack_from(">hhih", request)
            answer = struct.pack(">i", number) + self.answer(key, request[10 + named :])
            self.request.sendall(struct.pack(">i", len(answer)) + answer)

    def answer(self, key: int, body: bytes) -> bytes:
        if key == METADATA:
            host, port = self.advertised
            return struct.pack(">ii", 1, 1) + _text(host) + struct.pack(">ii", port, 0)
        if key == PRODUCE:
            self.items.append(body.decode())
            return b""
        return "\n".join(self.items).encode()


def main() -> None:
    from serving import listen, serve

    if sys.argv[1] == "web":
        inside = ("broker", 29092)
        serve(8080, write=lambda item: produce(*inside, item), read=lambda: fetch(*inside))
        return
    handlers = []
    for entry in os.environ["KAFKA_ADVERTISED_LISTENERS"].split(","):
        name, _, address = entry.partition("://")
        host, _, port = address.rpartition(":")
        listened = int(os.environ["KAFKA_LISTENERS"].partition(f"{name}://:")[2].partition(",")[0])
        handlers.append((listened, type(name, (Listener,), {"advertised": (host, int(port))})))
    listen(*handlers)


if __name__ == "__main__":
    main()

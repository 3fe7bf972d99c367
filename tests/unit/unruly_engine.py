"""An engine that answers each request with bytes of the test's choice, or not at all: real HTTP on a Unix socket."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAUSE: Final = 0.02  # seconds between two drops
DROPS: Final = 3000  # a minute of them: longer than any test waits

Answer = bytes | list[bytes] | None


def http(body: bytes | str, *, status: str = "200 OK", headers: str = "", kind: str = "application/json") -> bytes:
    """Return a whole answer."""
    content = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content


def dripping(answer: bytes, *, after: int = 0) -> list[bytes]:
    """Return an answer in drops: its first bytes at once, then one byte at a time, and more when it should be over."""
    rest = answer[after:] + b" " * DROPS
    return [answer[:after], *(rest[at : at + 1] for at in range(DROPS))]


HEADERS: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
OPEN: Final = HEADERS + b"Content-Length: 100000\r\n\r\n["

# what an engine may answer to anything; None says nothing
ANSWERS: Final[dict[str, Answer]] = {
    "silence": None,
    "drops of the status line": dripping(b"HTTP/1.1 200 OK" + b"x" * DROPS),
    "drops of the headers": dripping(HEADERS + b"X: " * DROPS, after=len(HEADERS)),
    "drops of the body": dripping(OPEN, after=len(OPEN)),
    "drops of chunks": dripping(HEADERS + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * DROPS),
    "continue for ever": [b"HTTP/1.1 100 Continue\r\n\r\n"] * DROPS,
    "null": http("null"),
    "a number": http("7"),
    "a text": http('"yes"'),
    "a list of numbers": http("[1, 2]"),
    "a list of nulls": http("[null]"),
    "an empty list": http("[]"),
    "an empty object": http("{}"),
    "wrong values": http(json.dumps([{"Id": 5, "Names": 7, "Labels": [1], "Name": {}, "State": 1, "Ports": "x"}])),
    "wrong members": http(json.dumps({"Id": None, "State": [], "Volumes": 5, "Config": 1, "Version": 3})),
    "deep": http("[" * 100_000),
    "nothing": http(""),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no JSON": http("Bonjour"),
    "bytes": http(bytes(range(256))),
    "a page": http("<html>\n<body>Sign in</body>\n</html>", kind="text/html"),
    "500 without JSON": http("<html>\n" + "x" * 200_000, status="500 Internal Server Error", kind="text/html"),
    "500 with a list": http("[1]", status="500 Internal Server Error"),
    "500 with null": http('{"message": null}', status="500 Internal Server Error"),
    "500": http('{"message": "out of\\norder"}', status="500 Internal Server Error"),
    "407": http("", status="407 Proxy Authentication Required"),
    "redirect": http("", status="302 Found", headers="Location: http://127.0.0.1:1/\r\n"),
    "moved": http("", status="301 Moved", headers="Location: /elsewhere\r\n"),
    "cut off": HEADERS + b"Content-Length: 1000\r\n\r\n[",
    "cut chunk": HEADERS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[",
    "bad chunk": HEADERS + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n",
    "bad gzip": http("no gzip", headers="Content-Encoding: gzip\r\n"),
    "hang-up": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "HTTP of the future": b"HTTP/9.9 200 OK\r\n\r\n",
    "a status of words": b"HTTP/1.1 abc OK\r\n\r\n",
    "a long header": HEADERS + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": HEADERS + b"X: x\r\n" * 200 + b"\r\n",
}
SLOW: Final = frozenset(name for name, answer in ANSWERS.items() if answer is None or isinstance(answer, list))


@dataclass
class Unruly:
    """
    What the engine does.

    `answer` gives the answer to a request's method and path.
    """

    answer: Callable[[str, str], Answer]
    requests: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                got = connection.recv(65536)
                if not got:
                    return
                head += got
            method, path = head.split()[:2]
            self.requests.append(f"{method.decode()} {path.decode()}")
            self._send(connection, self.answer(method.decode(), path.decode()))
            connection.shutdown(socket.SHUT_WR)

    def _send(self, connection: socket.socket, answer: Answer) -> None:
        if answer is None:
            self.ended.wait(60)
            return
        for piece in [answer] if isinstance(answer, bytes) else answer:
            connection.sendall(piece)
            if not isinstance(answer, bytes) and piece:
                time.sleep(PAUSE)
            if self.ended.is_set():
                return


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


@contextlib.contextmanager
def unruly(path: Path, answer: Callable[[str, str], Answer]) -> Iterator[Unruly]:
    """Serve such an engine on the Unix socket *path*; each answer ends its connection."""
    engine = Unruly(answer)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            engine(self.request)

    server = _Server(str(path), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield engine
    finally:
        engine.ended.set()
        server.shutdown()
        server.server_close()
        path.unlink()

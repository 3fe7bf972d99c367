"""The web front of all programs here: POST / keeps its body as an item, GET / lists the items."""

import json
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANYWHERE = "0.0.0.0"  # noqa: S104 - a container's own network


def serve(port: int, *, write: Callable[[str], object], read: Callable[[], list[str]]) -> None:
    class Web(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(read()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            write(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    ThreadingHTTPServer((ANYWHERE, port), Web).serve_forever()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def listen(*servers: tuple[int, type[socketserver.BaseRequestHandler]]) -> None:
    """Answer on each port with its handler, until the process ends."""
    threads = [threading.Thread(target=Server((ANYWHERE, port), handler).serve_forever) for port, handler in servers]
    for thread in threads:
        thread.start()

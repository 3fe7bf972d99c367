"""What the containers of these projects run: HTTP on every port that one of them publishes, and UDP, too."""

import contextlib
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"box")

    def log_message(self, *_: object) -> None: ...


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request[1].sendto(self.request[0], self.client_address)


def serve(kind: Callable[..., socketserver.BaseServer], port: int, handler: type) -> None:
    with contextlib.suppress(OSError):  # two containers may share a network
        server = kind(("0.0.0.0", port), handler)  # noqa: S104 - a container's own network
        threading.Thread(target=server.serve_forever, daemon=True).start()


for port in (53, 80, 81, 82, 443, 514, 3000, 5432, *range(7000, 7004), 8000, 8080, 9229, 9230):
    serve(ThreadingHTTPServer, port, Web)
for port in (53, 514):
    serve(socketserver.ThreadingUDPServer, port, Echo)
while True:
    time.sleep(60)

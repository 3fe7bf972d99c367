"""What the projects' containers run: one small image, made here from an image of the platform; no registry is asked."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import pytest

from stackyard._util import process
from stackyard.cleanup import removal
from stackyard.docker import Engine
from stackyard.docker.in_use import open_book
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.acquire import prepare_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.leases import LeaseBook

BOX: Final = "stackyard-test/box"
# Answers HTTP on every port that a project here publishes, and UDP beside it; a port that is taken is left out, because
# two containers may share a network.
SERVE: Final = """
import contextlib, socketserver, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"box")
    def log_message(self, *_): pass
class Echo(socketserver.BaseRequestHandler):
    def handle(self): self.request[1].sendto(self.request[0], self.client_address)
def serve(kind, port, handler):
    with contextlib.suppress(OSError):
        threading.Thread(target=kind(("0.0.0.0", port), handler).serve_forever, daemon=True).start()
for port in (53, 80, 81, 82, 443, 514, 3000, 5432, *range(7000, 7004), 8000, 8080, 9229, 9230):
    serve(ThreadingHTTPServer, port, Web)
for port in (53, 514):
    serve(socketserver.ThreadingUDPServer, port, Echo)
while True:
    time.sleep(60)
"""
DOCKERFILE: Final = """FROM {base}
USER 0
HEALTHCHECK NONE
ENTRYPOINT []
COPY serve.py /serve.py
RUN printf '#!/bin/sh\\nexec python3 -u /serve.py\\n' >/bin/httpd && chmod 755 /bin/httpd
CMD ["httpd"]
"""


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("box")
    base = prepare_images(Environment.load("alpine-test"), print)["STACKYARD_IMAGE_BACKEND"]
    (folder / "serve.py").write_text(SERVE)
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    process.run(["docker", "build", "--quiet", "--tag", BOX, str(folder)], deadline=300)
    return BOX


@pytest.fixture
def project(box: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Copy one of the projects here, with the image that is to be had instead of those that it names."""
    here = request.path.parent

    def make(name: str) -> Path:
        folder = tmp_path / name.partition("/")[0]
        shutil.copytree(here / name.partition("/")[0], folder)
        for file in folder.rglob("*.yaml"):
            text = file.read_text()
            for image in ("image: box", 'image: "postgres:17"'):
                text = text.replace(image, f"image: {box}")
            file.write_text(text)
        for file in folder.rglob("Dockerfile"):
            file.write_text(f"FROM {box}\n")
        return tmp_path / name

    return make


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as connected:
        yield connected


@pytest.fixture
def book(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeaseBook]:
    """Give a lease book of this test alone; what a failed test leaves under its leases is removed."""
    state = tmp_path_factory.mktemp("state")
    state.chmod(0o700)
    made = open_book(Settings.load({"STACKYARD_STATE_DIR": str(state)}), engine)
    yield made
    removal.sweep(made, engine, everything=True)

"""
testcontainers' own tests of its DockerCompose, run against stackyard's class: the same tests, one import changed.

STACKYARD_TESTCONTAINERS names a checkout of testcontainers-python; without it nothing here runs. Images that a
registry would give are replaced by ones made here.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from stackyard._util import process
from stackyard.cleanup import removal
from stackyard.docker.ownership import HOST_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

CHECKOUT: Final = os.environ.get("STACKYARD_TESTCONTAINERS", "")
IMAGE: Final = "stackyard-test/nginx-stand-in"
IMPORT: Final = "from {}.compose import ComposeContainer, DockerCompose"
# Two instances of one project are two copies, and this test wants them to share containers.
DIFFERENT: Final = {"test_start_stop_multiple"}
# What nginx does for these tests: the page on port 80, and a code for each port that a file of conf.d names.
NGINX: Final = """#!/usr/bin/env python3
import pathlib, re, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = pathlib.Path("/usr/share/nginx/html/index.html")
codes = {80: 200}
for file in pathlib.Path("/etc/nginx/conf.d").glob("*.conf"):
    port, code = re.search(r"listen (\\d+);.*return (\\d+);", file.read_text()).groups()
    codes[int(port)] = int(code)

class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        code = codes[self.server.server_port]
        body = PAGE.read_bytes() if code == 200 else b""
        self.send_response(code)
        if code != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

for port in codes:
    threading.Thread(target=ThreadingHTTPServer(("", port), Web).serve_forever).start()
"""
# Without the ports that the base exposes: testcontainers counts each of them as one more published port.
DOCKERFILE: Final = """FROM {base} AS base
FROM scratch
COPY --from=base / /
ENV PATH={path}
COPY nginx /usr/sbin/nginx
RUN chmod 755 /usr/sbin/nginx && mkdir -p /etc/nginx/conf.d /usr/share/nginx/html \\
 && echo '<h1>Welcome</h1>' >/usr/share/nginx/html/index.html
CMD ["nginx"]
"""
# their tests use pytest-mock for this alone
MOCK: Final = """
from unittest import mock

class MockerFixture:
    def spy(self, owner, name):
        return mock.patch.object(owner, name, wraps=getattr(owner, name)).start()
"""
CONFTEST: Final = """
from unittest import mock
import pytest
from pytest_mock import MockerFixture

@pytest.fixture
def mocker():
    yield MockerFixture()
    mock.patch.stopall()
"""

pytestmark = pytest.mark.skipif(not CHECKOUT, reason="STACKYARD_TESTCONTAINERS names no checkout of testcontainers")


@pytest.fixture
def image(box: str, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "nginx").write_text(NGINX)
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=box, path=_path(box)))
    process.run(["docker", "build", "--quiet", "--tag", IMAGE, str(folder)], deadline=280)
    yield IMAGE
    process.run(["docker", "image", "rm", IMAGE], deadline=120)


def _path(image: str) -> str:
    done = process.run(["docker", "run", "--rm", image, "printenv", "PATH"], deadline=120)
    return done.stdout.strip()


@pytest.mark.timeout(600)
def test_their_tests_pass_but_for_those_that_are_known(
    image: str, box: str, tmp_path: Path, book: LeaseBook, engine: Engine
) -> None:
    folder = tmp_path / "core"
    shutil.copytree(Path(CHECKOUT) / "tests/core/compose_fixtures", folder / "compose_fixtures")
    for file in folder.rglob("*.yaml"):
        file.write_text(file.read_text().replace("alpine:latest", box).replace("nginx:alpine-slim", image))
    text = (Path(CHECKOUT) / "tests/core/test_compose.py").read_text()
    assert IMPORT.format("testcontainers") in text
    own = "from stackyard.testcontainers import ComposeContainer, DockerCompose"
    (folder / "test_compose.py").write_text(text.replace(IMPORT.format("testcontainers"), own))
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest_mock.py").write_text(MOCK)
    (folder / "pytest.ini").touch()

    words = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    env = {"STACKYARD_STATE_DIR": str(book.settings.state_dir), "STACKYARD_REAPER": "off"}
    done = process.run(words, deadline=580, cwd=folder, env=env, check=False)

    failed = {line.split("::")[1].split()[0] for line in done.stdout.splitlines() if line.startswith("FAILED ")}
    assert failed == DIFFERENT, done.stdout
    assert "error" not in done.stdout.splitlines()[-1]
    removal.sweep(book, engine).check()  # what that test has left: its process has ended without `stop`
    assert book.leases() == []
    assert engine.everything([f"{HOST_LABEL}={book.host}"]) == []

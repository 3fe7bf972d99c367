"""A fake host: programs that are short scripts, a root folder, and an engine that answers a few GETs."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'
VERSION = {"Version": "26.1.5+dfsg1", "Components": [{"Name": "Engine"}]}


def put_program(folder: Path, name: str, script: str = "") -> Path:
    """Write an executable shell script that notes its words in folder/calls first; return that file of calls."""
    calls = folder / "calls"
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / name
    program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{calls}"\n{script}\n')
    program.chmod(0o755)
    return calls


def put_file(base: Path, name: str, text: str = "") -> Path:
    """Write one file of the root folder *base*."""
    path = base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    answers: Mapping[str, Any]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.split("?")[0])
        if isinstance(answer, threading.Event):
            answer.wait(60)
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextlib.contextmanager
def answering(path: Path, answers: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Serve *answers* by path on the Unix socket *path*; an Event as answer keeps the caller waiting."""
    server = _Server(str(path), _Handler)
    server.answers = {"/version": VERSION} if answers is None else answers
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        path.unlink()

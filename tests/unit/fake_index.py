"""A package index on loopback: made-up wheels and real files, served by the simple API."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import threading
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def wheel(name: str, version: str, requires: Sequence[str] = (), extras: Mapping[str, str] | None = None) -> bytes:
    """Return a wheel with one empty module; *extras* maps each extra to the requirement that it adds."""
    added = [
        line for extra, needs in (extras or {}).items()
        for line in (f"Provides-Extra: {extra}", f'Requires-Dist: {needs} ; extra == "{extra}"')
    ]  # fmt: skip
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *added]
    metadata += [f"Requires-Dist: {each}" for each in requires]
    folder = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{folder}/METADATA": "\n".join(metadata) + "\n",
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{folder}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{folder}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return content.getvalue()


@dataclass(kw_only=True)
class Index:
    """
    What the index offers and what it was asked for.

    Attributes:
        url: Its address, for pip's `index-url`.
        files: Content by project and file name.
        asked: Paths of the requests, in order.
    """

    url: str
    files: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)
    asked: list[str] = field(default_factory=list)

    def release(
        self, name: str, version: str, requires: Sequence[str] = (), extras: Mapping[str, str] | None = None
    ) -> str:
        """Offer a made-up wheel; return the line that locks it."""
        content = wheel(name, version, requires, extras)
        self.files.setdefault(name, {})[f"{name}-{version}-py3-none-any.whl"] = content
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"

    def offer(self, file: Path) -> None:
        """Offer a real wheel."""
        self.files.setdefault(file.name.split("-")[0], {})[file.name] = file.read_bytes()

    def answer(self, path: str) -> bytes | None:
        """Return what is at *path*: a project's page or a file; None for what is not there."""
        self.asked.append(path)
        kind, _, rest = path.strip("/").partition("/")
        if kind == "files":
            return next((each[rest] for each in self.files.values() if rest in each), None)
        offered = self.files.get(rest, {})
        links = [f'<a href="/files/{name}#sha256={_sha256(content)}">{name}</a>' for name, content in offered.items()]
        return "\n".join(["<!DOCTYPE html>", *links]).encode() if links else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Server(http.server.ThreadingHTTPServer):
    index: Index


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self, *, head: bool = False) -> None:
        body = self.server.index.answer(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "text/html" if "/simple/" in self.path else "application/octet-stream")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if not head:
            self.wfile.write(body or b"")

    def do_HEAD(self) -> None:
        self.do_GET(head=True)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Index]:
    """Serve an empty index on a free port of loopback until the block ends."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.index = Index(url=f"http://127.0.0.1:{server.server_port}/simple/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server.index
        finally:
            server.shutdown()
            thread.join()

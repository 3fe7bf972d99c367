"""The registry as image source, against a small registry from which the engine really pulls."""

from __future__ import annotations

import contextlib
import http.server
import json
import tarfile
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from image_builder.builds import Builder
from stackyard import images
from stackyard._util.process import run
from stackyard.docker.images import registry_digest
from stackyard.errors import ImageError
from stackyard.images import recipe_file, recipes, sources
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Server(http.server.ThreadingHTTPServer):
    blobs: Path
    manifest: str
    media_type: str


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, wanted = self.path.removeprefix("/v2/").partition("/")[2].partition("/")
        digest = self.server.manifest if kind == "manifests" and not wanted.startswith("sha256:") else wanted
        file = self.server.blobs / digest.removeprefix("sha256:")
        if self.path == "/v2/":
            self._send(b"{}", "application/json", "")
        elif wanted and file.is_file():
            media = self.server.media_type if kind == "manifests" else "application/octet-stream"
            self._send(file.read_bytes(), media, digest)
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

    def _send(self, body: bytes, media: str, digest: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextlib.contextmanager
def serving(saved: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Serve the one image in the tar *saved* under every name; give `127.0.0.1:port` and the image's digest."""
    with tarfile.open(saved) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)  # noqa: S202 - the engine wrote it just now
    entry = json.loads((folder / "index.json").read_text())["manifests"][0]
    server = _Server(("127.0.0.1", 0), _Handler)
    server.blobs, server.manifest, server.media_type = folder / "blobs/sha256", entry["digest"], entry["mediaType"]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", entry["digest"]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Serve the Redis server's base as if it were the official image."""
    images.ensure("alpine", source="packages")
    base = dict(recipes.service_recipes(project_root(), "alpine", "packages")["redis"].bases)["BASE"]
    run(["docker", "save", "--output", str(tmp_path / "base.tar"), base.reference], deadline=280)
    with serving(tmp_path / "base.tar", tmp_path / "layout") as served:
        yield served


def builder(folder: Path, say: list[str]) -> Builder:
    return Builder(root=project_root(), cache=folder, flavour="alpine", work=folder, say=say.append)


def name_official(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let Redis's base be the official image *name*."""
    found = recipe_file.read(project_root())
    base = msgspec.structs.replace(found.bases["redis"], official={"alpine": name})
    changed = msgspec.structs.replace(found, bases={**found.bases, "redis": base})
    monkeypatch.setattr(recipe_file, "read", lambda _root: changed)


def test_an_image_is_built_on_the_digest_the_registry_has(
    registry: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, digest = registry
    official = f"{host}/redis:8-alpine"
    name_official(monkeypatch, official)
    recipe = recipes.service_recipes(project_root(), "alpine", "registry")["redis"]
    lines: list[str] = []
    try:
        builder(tmp_path, lines).build(recipe)
        facts = json.loads(run(["docker", "image", "inspect", recipe.reference], deadline=120).stdout)[0]
    finally:
        run(["docker", "image", "rm", recipe.reference], deadline=120, check=False)
        run(["docker", "image", "rm", f"{host}/redis@{digest}"], deadline=120, check=False)

    assert facts["Config"]["Labels"]["stackyard.base"] == f"{official}@{digest}"
    assert facts["Config"]["Labels"]["stackyard.source"] == "registry"
    assert facts["Config"]["User"] == "10001:10001"
    assert f"{recipe.reference}: based on {official}@{digest}" in lines


def test_auto_finds_the_registry_that_answers(
    registry: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PROBED", f"{registry[0]}/redis:8-alpine")

    assert sources.resolve_source("auto", cache=tmp_path / "cache") == "registry"


def test_a_registry_that_is_gone_is_neither_waited_for_nor_half_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_official(monkeypatch, "127.0.0.1:9/redis:8-alpine")
    recipe = recipes.service_recipes(project_root(), "alpine", "registry")["redis"]

    with pytest.raises(ImageError, match="the registry does not answer for"):
        builder(tmp_path, []).build(recipe)
    assert registry_digest("127.0.0.1:9/redis:8-alpine", deadline=2) is None
    assert run(["docker", "image", "inspect", recipe.reference], deadline=120, check=False).returncode != 0

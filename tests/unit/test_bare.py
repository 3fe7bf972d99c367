from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from tests.bare import index, locks

if TYPE_CHECKING:
    import socketserver
    from collections.abc import Iterator

LOCK = """coverage==7.17.3 ; python_full_version >= '3.11' \\
    --hash=sha256:00
    # via pytest-cov
pluggy==1.7.0 \\
    --hash=sha256:11
    # via
    #   pytest
    #   pytest-cov
pytest==9.2.0 \\
    --hash=sha256:22
    # via stackyard (pyproject.toml:dev)
"""
PAGE = '<body><a href="../../files/pluggy-1.7.0.whl#sha256=1">pluggy</a> <a class="x" href="/a?b=1&amp;c">z</a></body>'


def test_a_lock_gives_its_packages_and_versions() -> None:
    assert locks.pins(LOCK) == {"coverage": "7.17.3", "pluggy": "1.7.0", "pytest": "9.2.0"}


def test_what_most_others_ask_for_is_offered_in_a_newer_version() -> None:
    assert locks.most_wanted(LOCK, 2) == {"coverage": "8.0", "pluggy": "2.0"}


def test_this_projects_lock_has_ten_packages_to_offer() -> None:
    text = Path(__file__).parents[2].joinpath("requirements.lock").read_text(encoding="utf-8")

    chosen = locks.most_wanted(text, 10)

    assert len(chosen) == 10
    assert "coverage" in chosen
    older = locks.pins(text)
    assert all(int(version.split(".")[0]) > int(older[name].split(".")[0]) for name, version in chosen.items())


def test_a_version_that_is_not_the_locked_one_is_named() -> None:
    installed = {"pytest": "10.0", "pluggy": "1.7.0", "six": "1.0"}

    assert locks.differences(locks.pins(LOCK), installed) == [
        "pytest 10.0, locked is 9.2.0", "six 1.0, locked is no such package",
    ]  # fmt: skip


def test_a_page_has_whole_addresses_and_the_newer_release() -> None:
    newer = index.Newer("pluggy", "2.0")

    text = index.page(PAGE, "https://index.test/simple/pluggy/", newer)

    assert 'href="https://index.test/files/pluggy-1.7.0.whl#sha256=1"' in text
    assert 'href="https://index.test/a?b=1&amp;c"' in text
    assert newer.link() in text
    assert index.page(PAGE, "https://index.test/simple/pluggy/", None).count("<a ") == 2


def test_the_newer_release_is_a_whole_wheel(tmp_path: Path) -> None:
    newer = index.Newer("typing-extensions", "5.0")
    wheel = tmp_path / newer.file
    wheel.write_bytes(newer.content())
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path)

    script = "from importlib.metadata import version; print(version('typing-extensions'))"
    found = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {script}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert found.stdout == "5.0\n"
    assert newer.content() == index.Newer("typing-extensions", "5.0").content()


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[index, misc]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Upstream(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/simple/pluggy/" else 404)
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def test_the_index_passes_on_another_ones_pages_and_adds_to_them(capfd: pytest.CaptureFixture[str]) -> None:
    newer = index.Newer("pluggy", "2.0")
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    with serving(upstream) as port, serving(index.serve(0, f"http://127.0.0.1:{port}/simple", [newer])) as own:
        with urlopen(f"http://127.0.0.1:{own}/simple/Pluggy/") as answer:
            assert newer.file in answer.read().decode()
        with urlopen(f"http://127.0.0.1:{own}/files/{newer.file}") as answer:
            assert answer.read() == newer.content()
        with pytest.raises(OSError, match="404"):
            urlopen(f"http://127.0.0.1:{own}/simple/unknown/")

    assert capfd.readouterr().out == "offered pluggy 2.0\n"

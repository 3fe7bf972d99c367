"""
A package index on loopback that is a month ahead: what another index lists, and a newer release of some packages.

It runs inside the bare machine, on nothing but Debian's own Python. The newer releases are whole: a set-up that takes
one installs it, so that what is installed tells whether the lock or the index decided.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import http.server
import io
import re
import sys
import urllib.request
import zipfile
from typing import NamedTuple
from urllib.parse import urljoin

LINK = re.compile(r"""(<a\b[^>]*\bhref=)(["'])(.*?)\2""", re.IGNORECASE | re.DOTALL)


class Newer(NamedTuple):
    """A release that only this index has."""

    name: str
    version: str

    @property
    def file(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"

    def content(self) -> bytes:
        """Return a wheel without a module, the same bytes each time."""
        folder = f"{self.name.replace('-', '_')}-{self.version}.dist-info"
        files = {
            f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n",
            f"{folder}/WHEEL": "Wheel-Version: 1.0\nGenerator: bare\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{folder}/RECORD": f"{folder}/METADATA,,\n{folder}/WHEEL,,\n{folder}/RECORD,,\n",
        }
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as wheel:
            for name, text in files.items():
                wheel.writestr(zipfile.ZipInfo(name), text)
        return whole.getvalue()

    def link(self) -> str:
        """Return the release's line on a page of the index."""
        digest = hashlib.sha256(self.content()).hexdigest()
        return f'<a href="/files/{self.file}#sha256={digest}">{self.file}</a><br />\n'


def page(text: str, address: str, newer: Newer | None) -> str:
    """Return another index's page with whole addresses, and the link to *newer* where it is a package of ours."""

    def whole(found: re.Match[str]) -> str:
        start, quote, link = found.groups()
        return f"{start}{quote}{html.escape(urljoin(address, html.unescape(link)))}{quote}"

    body = LINK.sub(whole, text)
    added = newer.link() if newer else ""
    return body.replace("</body>", f"{added}</body>") if "</body>" in body else body + added


class Handler(http.server.BaseHTTPRequestHandler):
    upstream: str
    newer: dict[str, Newer]

    def do_GET(self) -> None:
        kind, _, rest = self.path.strip("/").partition("/")
        name = re.sub(r"[-_.]+", "-", rest).lower()
        if kind == "files":
            self._answer(next(each.content() for each in self.newer.values() if each.file == rest), "application/zip")
            return
        address = urljoin(self.upstream.rstrip("/") + "/", f"{name}/")
        request = urllib.request.Request(address, headers={"Accept": "text/html"})  # noqa: S310 - pip's own index
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
                text = answer.read().decode()
        except OSError as error:
            self.send_error(getattr(error, "code", None) or 502, str(error))
            return
        newer = self.newer.get(name)
        if newer:
            print(f"offered {newer.name} {newer.version}", flush=True)  # noqa: T201 - the log is what the run reads
        self._answer(page(text, address, newer).encode(), "text/html")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent: only offers are written."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Stay silent: an installer that has read enough hangs up."""


def serve(port: int, upstream: str, newer: list[Newer]) -> _Server:
    """Return a server on loopback, listening; port 0 takes any."""
    members = {"upstream": upstream, "newer": {each.name: each for each in newer}}
    return _Server(("127.0.0.1", port), type("Serving", (Handler,), members))


def main(words: list[str]) -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("upstream", help="address of the index that this one stands in front of")
    parser.add_argument("newer", nargs="+", metavar="NAME==VERSION")
    given = parser.parse_args(words)
    serve(given.port, given.upstream, [Newer(*each.split("==")) for each in given.newer]).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])

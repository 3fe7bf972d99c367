"""An engine that knows only images: a `docker` program that notes what it builds, a socket that lists it."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import shutil
import socketserver
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from fake_host import put_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

PROJECT = Path(__file__).parents[2]
MIRROR = "http://mirror.example/debian/"

DOCKER = """
command=$1; shift; labels=
while [ $# -gt 0 ]; do
    case $1 in
        --tag) reference=$2; shift ;;
        --label) labels="$labels$2
"; shift ;;
        --change) labels="$labels${2#LABEL }
"; shift ;;
        --*) [ "$1" = --progress=plain ] || [ "$1" = --provenance=false ] || shift ;;
    esac
    last=$1; shift
done
[ $command = build ] || reference=$last
if [ $command = pull ]; then [ ! -e "STATE/no-pull" ] || { echo 'toomanyrequests' >&2; exit 1; }; exit 0; fi
echo '#1 [internal] load build definition'
echo '#7 [build 2/5] RUN make'
if [ -e "STATE/broken" ] && grep -q "^${reference%:*}$" "STATE/broken"; then
    echo '#7 0.1 make: *** No rule to make target'; exit 1
fi
printf '%s\\n%s' "$reference" "$labels" > "STATE/$(echo "$reference" | tr /: __)"
"""

DPKG = """
mkdir -p "$3/usr/bin" "$3/usr/lib/x86_64-linux-gnu/perl/5.36"
cat > "$3/usr/bin/mmdebstrap" <<'SCRIPT'
#!/bin/sh
echo "mmdebstrap $*" >> CALLS
[ ! -e STATE/bare-perl ] || [ -n "$PERL5LIB" ] || { echo "Can't locate syscall.ph in @INC" >&2; exit 2; }
[ "$*" != --version ] || exit 0
echo "$PERL5LIB" > STATE.perl5lib
cat > STATE.sources
[ ! -e STATE/no-bootstrap ] || { echo 'E: mmdebstrap failed to run' >&2; exit 25; }
for word; do case $word in *.tar) echo tar > "$word" ;; esac; done
SCRIPT
chmod +x "$3/usr/bin/mmdebstrap"
"""

APT = f"""
case "$*" in
    *indextargets*) [ -e "STATE/no-lists" ] || {{ echo '{MIRROR} main'; }} ;;
    *update) rm -f "STATE/no-lists"; echo 'E: third party' >&2; exit 100 ;;
    *download*)
        until [ "$1" = download ]; do shift; done
        shift
        for name; do touch "${{name}}_1_all.deb"; done
        ;;
esac
"""


@dataclass
class Yard:
    """A copy of the project's compose folder, the fake engine's memory, and what was called."""

    folder: Path
    refused: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    nameless: list[dict[str, Any]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "project"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def builds(self) -> list[str]:
        """Return what `docker build` was asked to tag, in order."""
        rows = [row.split() for row in self.calls if row.startswith("docker build")]
        return [row[row.index("--tag") + 1].split(":")[0].removeprefix("stackyard/") for row in rows]

    def break_build(self, *repositories: str) -> None:
        (self.state / "broken").write_text("".join(f"stackyard/{name}\n" for name in repositories))

    def rows(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for file in sorted(self.state.glob("stackyard_*")):
            reference, *labels = file.read_text().splitlines()
            identity = "sha256:" + hashlib.sha256("".join(labels).encode()).hexdigest()
            row = found.setdefault(
                identity,
                {"Id": identity, "RepoTags": [], "Labels": dict(label.split("=", 1) for label in labels),
                 "Size": 22_000_000, "Created": 1_700_000_000},
            )  # fmt: skip
            row["RepoTags"].append(reference)
        return list(found.values())

    def disk_use(self) -> dict[str, Any]:
        """Give each image 2 MB that it shares, and what `nameless` and `used` say."""
        rows = [{**row, "SharedSize": 2_000_000, "Containers": 0} for row in [*self.rows(), *self.nameless]]
        for row in rows:
            row["Containers"] = len(self.used & {*(row["RepoTags"] or ())})
        return {"LayersSize": sum(row["Size"] - row["SharedSize"] for row in rows), "Images": rows}

    def remove(self, reference: str) -> None:
        if reference.startswith("sha256:"):
            self.nameless[:] = [row for row in self.nameless if row["Id"] != reference]
        else:
            self.file(reference).unlink()

    def copy(self, other: Yard) -> None:
        """Take over the images of *other*, and what its builds noted; the trees must be the same."""
        shutil.copytree(other.state, self.state, dirs_exist_ok=True)
        noted = self.folder / "cache/stackyard/plain-names.json"
        noted.parent.mkdir(parents=True)
        for file in (noted, self.folder / "calls"):
            text = (other.folder / file.relative_to(self.folder)).read_text()
            file.write_text(text.replace(str(other.folder), str(self.folder)))

    def file(self, reference: str) -> Path:
        return self.state / reference.replace("/", "_").replace(":", "_")

    def tag(self, source: str, alias: str) -> None:
        labels = self.file(source).read_text().splitlines()[1:]
        self.file(alias).write_text("\n".join([alias, *labels]))


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    yard: Yard


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = self._path()
        if path.startswith("/distribution/"):
            digest = self.server.yard.digests.get(path.removeprefix("/distribution/").removesuffix("/json"))
            self._answer({"Descriptor": {"digest": digest}} if digest else None)
        elif path == "/system/df":
            self._answer(self.server.yard.disk_use())
        elif path == "/volumes":
            self._answer({"Volumes": []})
        else:
            self._answer(self.server.yard.rows() if path.startswith("/images/") else [])

    def do_POST(self) -> None:
        reference = self._path().removeprefix("/images/").removesuffix("/tag")
        query = parse_qs(urlsplit(self.path).query)
        self.server.yard.tag(reference, f"{query['repo'][0]}:{query['tag'][0]}")
        self._answer({}, 201)

    def do_DELETE(self) -> None:
        reference = self._path().removeprefix("/images/")
        if reference in self.server.yard.refused:
            self._answer({"message": "image is being used by running container"}, 409)
            return
        self.server.yard.remove(reference)
        self._answer([])

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        path = path.removeprefix("/v1.44")
        if path != "/_ping":  # the greeting that the client begins with
            self.server.yard.requests.append(f"{self.command} {path}")
        return path

    def _answer(self, answer: Any, status: int = 200) -> None:
        body = json.dumps({"message": "not found"} if answer is None else answer).encode()
        self.send_response(404 if answer is None else status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextlib.contextmanager
def lay_out(folder: Path) -> Iterator[Yard]:
    """Lay out the project copy and the programs, and serve the engine's socket at *folder*/docker.sock."""
    yard = Yard(folder)
    yard.state.mkdir()
    shutil.copytree(PROJECT / "compose", yard.root / "compose", ignore=shutil.ignore_patterns("__pycache__"))
    (yard.root / "compose/requirements.lock").write_text("")
    (yard.root / "envs").mkdir()
    shutil.copy(PROJECT / "envs/docker_environments.yaml", yard.root / "envs")
    for name, script in {"docker": DOCKER, "dpkg": DPKG, "apt-get": APT, "perl": "printf 5.36.0"}.items():
        put_program(folder, name, script.replace("STATE", str(yard.state)).replace("CALLS", str(folder / "calls")))
    server = _Server(str(folder / "docker.sock"), _Handler)
    server.yard = yard
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield yard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def surround(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let this process use the programs, the engine and the caches below *folder*."""
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("STACKYARD_START", "compose")  # a `docker` of a few lines renders no model
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder / 'docker.sock'}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("STACKYARD_ROOT", str(folder / "project"))

"""A fake Docker Engine: real HTTP over a unix socket, its containers, networks and volumes in memory."""

from __future__ import annotations

import http.server
import io
import json
import re
import socketserver
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from fake_image_store import ImageStore

if TYPE_CHECKING:
    from pathlib import Path

STATS = {
    "memory_stats": {"usage": 30 << 20, "limit": 96 << 20, "stats": {"inactive_file": 10 << 20, "anon": 8 << 20}},
    "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
}

BEGAN = 1767225600  # 2026-01-01, when the first line of each log was written


@dataclass
class FakeEngine:
    """
    The engine's contents, and how it misbehaves.

    `refuse` maps `kind id` to the status and words of a failed removal; `immortal` holds ids no removal removes.
    """

    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: ImageStore = field(default_factory=ImageStore)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    immortal: set[str] = field(default_factory=set)
    broken: bool = False
    host: str = "h1"
    requests: list[str] = field(default_factory=list)
    created: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    archives: dict[str, bytes] = field(default_factory=dict)

    def container(self, service: str, lease: str = "l1", **changes: Any) -> dict[str, Any]:
        identity = f"{service}-{lease}"
        labels = {"com.docker.compose.service": service, "stackyard.lease": lease, "stackyard.host": self.host}
        state = {"Status": "running", "ExitCode": 0, "OOMKilled": False, "StartedAt": "2026-01-01T00:00:00Z"}
        row = {"labels": labels, "state": state | changes, "text": "Up 2 seconds", "log": b"", "stats": STATS}
        self.containers[identity] = row
        return row

    def network(self, name: str, lease: str = "l1", *, users: tuple[str, ...] = ()) -> None:
        labels = {"stackyard.lease": lease, "stackyard.host": self.host}
        config = [{"Subnet": "10.213.0.0/28"}]
        ends = {user: {"Name": user} for user in users}
        self.networks[name] = {
            "Name": name, "Id": name, "Labels": labels, "IPAM": {"Config": config}, "Containers": ends
        }  # fmt: skip

    def volume(self, name: str, lease: str = "l1") -> None:
        labels = {"stackyard.lease": lease, "stackyard.host": self.host}
        self.volumes[name] = {"Name": name, "Labels": labels}

    def answer(  # noqa: C901, PLR0911, PLR0912 - a table of routes
        self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any] | None = None
    ) -> tuple[int, Any]:
        self.requests.append(f"{method} {path}")
        if self.broken:
            return 500, {"message": "the engine is out of order"}
        path = re.sub(r"^/v[\d.]+", "", path)
        match method, path.strip("/").split("/"):
            case "POST", ["images", "create"]:
                self.images[query["repo"][0]] = {}
                return 200, {"status": "imported"}
            case "GET", ["info"]:
                swarm = {"ControlAvailable": False}
                return 200, {"ServerVersion": "26.1.5", "NCPU": 8, "MemTotal": 32 << 30, "Swarm": swarm}
            case "GET", ["version"]:
                return 200, {"Version": "26.1.5", "ApiVersion": "1.45"}
            case "GET", ["containers", "json"]:
                return 200, [self._row(i, c) for i, c in self.containers.items() if _matches(c["labels"], query)]
            case "GET", ["containers", identity, what]:
                return self._about(identity, what, query)
            case "POST", ["containers", identity, "restart" | "start" | "stop"]:
                return (204, None) if identity in self.containers else _missing(identity)
            case "POST", [("containers" | "networks" | "volumes") as kind, "create"]:
                return self._create(kind, query.get("name", [""])[0], body or {})
            case "PUT", ["containers", identity, "archive"]:
                return (200, None) if identity in self.containers else _missing(identity)
            case "GET", ["networks"]:
                return 200, [n for n in self.networks.values() if _matches(n["Labels"], query)]
            case "GET", ["networks", identity]:
                return 200, self.networks[identity]
            case "POST", ["networks", identity, "disconnect"]:
                return self._disconnect(identity, body or {})
            case _, ["images", *rest]:
                return self.images.answer(method, rest, query, self._images_in_use())
            case "GET", ["system", "df"]:
                return 200, {"LayersSize": 0, "Images": self.images.rows({}, self._images_in_use())}
            case "GET", ["volumes"]:
                return 200, {"Volumes": [v for v in self.volumes.values() if _matches(v["Labels"], query)]}
            case "DELETE", [("containers" | "networks" | "volumes") as kind, identity]:
                return self._remove(kind, identity)
        return 404, {"message": f"no such path {path}"}

    def _row(self, identity: str, row: dict[str, Any]) -> dict[str, Any]:
        ports = [{"PublicPort": 5433, "PrivatePort": 5432}, {"PrivatePort": 9}]
        return {
            "Id": identity, "Names": [f"/{identity}"], "Labels": row["labels"], "State": row["state"]["Status"],
            "Status": row["text"], "Ports": ports, "HostConfig": {"NetworkMode": "bridge"},
            "Created": row.get("created", 0), "ImageID": row.get("image", ""),
        }  # fmt: skip

    def _images_in_use(self) -> set[str]:
        return {row["image"] for row in self.containers.values() if "image" in row}

    def _disconnect(self, network: str, body: dict[str, Any]) -> tuple[int, Any]:
        ends, container = self.networks[network]["Containers"], body["Container"]
        (end,) = [key for key, end in ends.items() if container in {key, end["Name"]}] or [None]
        if end is None or (end.startswith("ep-") and not body.get("Force")):  # nothing but a name is left of it
            return _missing(container)
        del ends[end]
        return 200, None

    def _about(self, identity: str, what: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        row = self.containers.get(identity)
        if row is None:
            return _missing(identity)
        inspected = {
            "Id": identity,
            "Config": {"Labels": row["labels"], "Tty": True, **row.get("config", {})},
            "State": row["state"],
        }
        log = row["log"]
        if query.get("timestamps") == ["1"]:
            since = int(query.get("since", ["0"])[0])
            written = enumerate(io.BytesIO(log))
            log = b"".join(b"2026-01-01T00:00:%02d.0Z %s" % line for line in written if BEGAN + line[0] >= since)
        return 200, {"json": inspected, "logs": log, "stats": row["stats"]}[what]

    def _create(self, kind: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        name = name or body["Name"]
        self.created.append((kind, name, body))
        if f"{kind} {name}" in self.refuse:
            status, message = self.refuse[f"{kind} {name}"]
            return status, {"message": message}
        if kind == "containers":
            if name in self.containers:
                return 409, {"message": f"Conflict. The container name /{name} is already in use by container x"}
            self.container(name)["labels"] = body["Labels"]
            self.containers[name] = self.containers.pop(f"{name}-l1") | {"created": int(time.time())}
        else:
            getattr(self, kind)[name] = {"Name": name, "Id": name, "Labels": body["Labels"], "Containers": {}}
        return 201, {"Id": name, "Name": name}

    def _remove(self, kind: str, identity: str) -> tuple[int, Any]:
        if f"{kind} {identity}" in self.refuse:
            status, message = self.refuse[f"{kind} {identity}"]
            return status, {"message": message}
        store = getattr(self, kind)
        if identity not in store:
            return _missing(identity)
        if kind == "networks" and store[identity].get("Containers"):
            return 403, {"message": f"network {identity} has active endpoints"}
        if identity not in self.immortal:
            del store[identity]
        return 204, None


def _missing(identity: str) -> tuple[int, Any]:
    return 404, {"message": f"no such thing {identity}"}


def _matches(labels: dict[str, str], query: dict[str, list[str]]) -> bool:
    wanted = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
    known = {*labels, *(f"{key}={value}" for key, value in labels.items())}
    return known.issuperset(wanted)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False


def serve(engine: FakeEngine, path: Path) -> _Server:
    """Serve *engine* on the unix socket *path* until the returned server is shut down and closed."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            address = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            packed = self.command == "PUT" or address.path.endswith("/images/create")
            if self.command == "PUT":
                engine.archives[address.path.split("/")[-2]] = sent
            asked = json.loads(sent) if sent and not packed else None
            status, content = engine.answer(self.command, address.path, parse_qs(address.query), asked)
            body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            kind = "vnd.docker.raw-stream" if isinstance(content, bytes) else "json"
            self.send_header("Content-Type", f"application/{kind}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - names http.server looks for

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None: ...

    server = _Server(str(path), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server

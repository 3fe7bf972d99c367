"""Where the Docker engine listens, and one quick knock at its door; no client library, so it costs milliseconds."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT: Final = "unix:///var/run/docker.sock"
STANDARD_SOCKETS: Final = frozenset({"/var/run/docker.sock", "/run/docker.sock"})

# answers: usable so far. missing: no socket. refused: a socket, but nobody behind it. forbidden: no permission.
# silent: connected, but no answer in time. unreachable: a remote engine that could not be reached. unknown: not asked.
State = Literal["answers", "missing", "refused", "forbidden", "silent", "unreachable", "unknown"]


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `5:26.1.5+dfsg1-9` gives (26, 1, 5), text without any gives ()."""
    found = re.match(r"(?:\d+:)?v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """
    What one request to the engine showed.

    Attributes:
        state: See `State`.
        version: The engine's version; empty unless it answered.
        detail: The reason in the system's words; empty when it answered.
    """

    state: State
    version: str = ""
    detail: str = ""


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    The engine's address and who named it.

    Attributes:
        url: For example `unix:///var/run/docker.sock` or `tcp://build:2376`.
        source: `DOCKER_HOST`, `context <name>` or `default`.
    """

    url: str = DEFAULT
    source: str = "default"

    @classmethod
    def find(cls, env: Mapping[str, str] | None = None) -> Self:
        """Return the endpoint the docker client would use: DOCKER_HOST, else its current context, else the default."""
        env = os.environ if env is None else env
        if env.get("DOCKER_HOST"):
            return cls(url=env["DOCKER_HOST"], source="DOCKER_HOST")
        folder = client_folder(env)
        name = str(_json(folder / "config.json").get("currentContext") or "default")
        if name != "default":
            digest = hashlib.sha256(name.encode()).hexdigest()
            meta = _json(folder / "contexts" / "meta" / digest / "meta.json")
            host = meta.get("Endpoints", {}).get("docker", {}).get("Host")
            if host:
                return cls(url=str(host), source=f"context {name}")
        return cls()

    @property
    def socket(self) -> str:
        """The Unix socket's path; empty for an engine reached over the network."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else ""

    @property
    def standard(self) -> bool:
        """Whether this is the system's own engine, which may be installed and started here."""
        return self.socket in STANDARD_SOCKETS

    def get(self, path: str, *, deadline: float = 2.0) -> Any:
        """
        Return the engine's JSON answer to one GET.

        Args:
            path: For example `/version`.
            deadline: Seconds for connecting and for each read.

        Raises:
            OSError: If it cannot be reached, or answers with an error.
        """
        connection = self._connection(deadline)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"{self.url} does not speak HTTP: {error}") from None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise OSError(f"{self.url} answered {answer.status} to GET {path}")
        try:
            return json.loads(body)
        except ValueError:
            raise OSError(f"{self.url} answered something else than JSON to GET {path}") from None

    def knock(self, *, deadline: float = 2.0) -> Knock:
        """Ask the engine's version once, waiting at most about *deadline* seconds; never raises."""
        if not self.url.startswith(("unix://", "tcp://", "http://", "https://")):
            return Knock(state="unknown", detail=f"{self.url} is asked through the docker client only")
        try:
            answer = self.get("/version", deadline=deadline)
        except FileNotFoundError:
            return Knock(state="missing", detail="there is no such socket")
        except PermissionError as error:
            return Knock(state="forbidden", detail=error.strerror or str(error))
        except TimeoutError:
            return Knock(state="silent", detail=f"no answer within {deadline:g} s")
        except OSError as error:
            return Knock(state="refused" if self.socket else "unreachable", detail=error.strerror or str(error))
        names = {part.get("Name", "") for part in answer.get("Components") or ()}
        brand = "Podman " if any("Podman" in name for name in names) else ""
        return Knock(state="answers", version=f"{brand}{answer.get('Version', '')}")

    def _connection(self, deadline: float) -> http.client.HTTPConnection:
        if self.socket:
            return _UnixConnection(self.socket, deadline)
        scheme, _, rest = self.url.partition("://")
        address = rest.split("/")[0]
        if scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY"):
            return http.client.HTTPSConnection(address, timeout=deadline, context=_tls())
        return http.client.HTTPConnection(address, timeout=deadline)


def client_folder(env: Mapping[str, str] | None = None) -> Path:
    """Return the docker client's configuration folder."""
    env = os.environ if env is None else env
    return Path(env.get("DOCKER_CONFIG") or Path.home() / ".docker")


def client_settings(env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the docker client's config.json; empty when there is none that can be read."""
    return _json(client_folder(env) / "config.json")


def _tls() -> Any:
    """Return a TLS context from the three files the docker client keeps in DOCKER_CERT_PATH."""
    import ssl  # noqa: PLC0415 - only remote engines need it

    folder = Path(os.environ.get("DOCKER_CERT_PATH") or client_folder())
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except FileNotFoundError:
        raise ConnectionError(f"{folder} has not the three files ca.pem, cert.pem and key.pem") from None
    return context


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

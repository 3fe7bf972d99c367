"""Where the Docker engine listens, and a quick check that it answers; it takes milliseconds and no client library."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import urlsplit

from stackyard._util import files, json_text
from stackyard.docker import over_ssh
from stackyard.docker.client_settings import client_folder, client_settings, read_object
from stackyard.docker.exchange import Timed, limited
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

SSH: Final = over_ssh.SCHEME
LOOPBACK: Final = "127.0.0.1"
DEFAULT: Final = "unix:///var/run/docker.sock"
FORBIDDEN: Final = os.strerror(errno.EACCES)
STANDARD_SOCKETS: Final = frozenset({"/var/run/docker.sock", "/run/docker.sock"})
SCHEMES: Final = ("unix", "tcp", "http", "https", "ssh")
LARGEST: Final = 16 << 20  # bytes of an answer that are read; the largest known have some 100 kB

# answers: usable so far. missing: no socket. refused: a socket, but no engine behind it. forbidden: no permission.
# silent: connected, but no answer in time. unreachable: a remote engine, or no usable address.
State = Literal["answers", "missing", "refused", "forbidden", "silent", "unreachable"]


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `5:26.1.5+dfsg1-9` gives (26, 1, 5), text without any gives ()."""
    found = re.match(r"(?:\d+:)?v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult:
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


class _UnixConnection(Timed):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # closed with this, whatever happens
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _TlsConnection(Timed, http.client.HTTPSConnection):
    """An HTTPS connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """
    The files of an engine that is reached with TLS.

    Attributes:
        ca: Certificate of the authority that signed the engine's; None takes the system's.
        cert: Our own certificate; None has none.
        key: Its key.
        verify: Whether the engine's certificate is checked.
    """

    ca: Path | None
    cert: Path | None
    key: Path | None
    verify: bool = True

    @classmethod
    def of(cls, folder: Path, *, verify: bool) -> Certificates:
        """Return those of the three files in *folder* that are there."""
        names = [f"{name}.pem" for name in ("ca", "cert", "key")]
        ca, cert, key = (None if files.fault(folder, name) else folder / name for name in names)
        return cls(ca=ca, cert=cert, key=key, verify=verify)

    def context(self) -> Any:
        """
        Return them as a TLS context.

        Raises:
            OSError: If a file cannot be used.
        """
        import ssl

        context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.cert and self.key:
            context.load_cert_chain(self.cert, self.key)
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    The engine's address and where it comes from.

    Attributes:
        url: For example `unix:///var/run/docker.sock` or `tcp://build:2376`.
        source: `DOCKER_HOST`, `DOCKER_CONTEXT`, `docker context` or `default`.
        context: The context's name; empty without one.
        tls: The files of an engine that is reached with TLS.
        fault: Why there is no usable address; empty when there is one.
    """

    url: str = DEFAULT
    source: str = "default"
    context: str = ""
    tls: Certificates | None = None
    fault: str = ""

    @classmethod
    def find(cls, env: Mapping[str, str] | None = None) -> Self:
        """
        Return the endpoint that the docker command would use.

        DOCKER_HOST comes first, then DOCKER_CONTEXT, then the current context of the docker command's config.json,
        then this host's own engine.
        """
        env = os.environ if env is None else env
        if env.get("DOCKER_HOST"):
            url = _complete(env["DOCKER_HOST"].strip(), tls=bool(env.get("DOCKER_TLS_VERIFY")))
            tls, fault = _tls(env, url)
            return cls(url=url, source="DOCKER_HOST", tls=tls, fault=_unusable(url) or fault)
        name = env.get("DOCKER_CONTEXT") or str(client_settings(env).get("currentContext") or "default")
        if name == "default":
            return cls()
        return cls._of_context(name, "DOCKER_CONTEXT" if env.get("DOCKER_CONTEXT") else "docker context", env)

    @classmethod
    def _of_context(cls, name: str, source: str, env: Mapping[str, str]) -> Self:
        """Read a context from the docker command's own store."""
        store = client_folder(env) / "contexts"
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
        found: Any = read_object(store / "meta" / digest / "meta.json")
        for key in ("Endpoints", "docker"):
            found = found.get(key) if isinstance(found, dict) else None
        host = found.get("Host") if isinstance(found, dict) else None
        if not isinstance(host, str) or not host:
            why = f"{store / 'meta'} has no context of this name" if found is None else "it names no host"
            return cls(url="", source=source, context=name, fault=why)
        kept = store / "tls" / digest / "docker"
        skips = bool(found.get("SkipTLSVerify"))
        tls = Certificates.of(kept, verify=not skips) if files.exists(kept) or skips else None
        url = _complete(host, tls=tls is not None)
        return cls(url=url, source=source, context=name, tls=tls, fault=_unusable(url))

    @property
    def socket(self) -> str:
        """The Unix socket's path; empty for an engine reached over the network."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else ""

    @property
    def standard(self) -> bool:
        """Whether this is the system's own engine, which may be installed and started here."""
        return self.socket in STANDARD_SOCKETS

    @property
    def where(self) -> str:
        """The address and where it comes from, for a message."""
        if self.source == "default":
            return self.url
        named = f"context {self.context!r} from {self.source}" if self.context else f"from {self.source}"
        return f"{self.url} ({named})" if self.url else named

    @property
    def elsewhere(self) -> bool:
        """Whether the engine is on another host: ports it publishes are that host's."""
        if self.url.startswith(SSH):
            return True
        host = urlsplit(self.url).hostname if self.url.startswith(("tcp://", "http://", "https://")) else None
        return host is not None and not _is_ours(host)

    @property
    def address(self) -> str:
        """
        Where this host reaches ports that the engine publishes: its loopback address, or that of the engine's host.

        Raises:
            EngineError: If the name of the engine's host has no address.
        """
        host = urlsplit(self.url).hostname if self.elsewhere else None
        if host and self.url.startswith(SSH):
            host = over_ssh.hostname(self.url)
        if host is None:
            return LOOPBACK
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise EngineError(self.away(error)) from None
        addresses = [str(item[4][0]) for item in sorted(found, key=lambda item: item[0] != socket.AF_INET)]
        return addresses[0]

    @property
    def switch(self) -> str:
        """What makes this host's own engine the one that is used; empty when it is."""
        switches = {"default": "", "docker context": "run 'docker context use default'"}
        return switches.get(self.source, f"unset {self.source}")

    @property
    def remedy(self) -> str:
        """What a person can do about an engine that does not answer; part of a sentence."""
        first = "correct it" if self.fault else "start it"
        return f"{first}, or {self.switch} to use this host's own engine" if self.switch else first

    def fix(self, state: State, user: str) -> str:
        """Return what *user* can do about that state; empty where the engine has to be installed or started."""
        if state == "forbidden":
            return permission_fix(user)
        return "" if self.standard else self.remedy

    def away(self, reason: BaseException | str) -> str:
        """Return one line for an engine that cannot be reached, with the next step."""
        said = reason if isinstance(reason, str) else _said(reason)
        if isinstance(reason, OSError) and reason.errno in {errno.EMFILE, errno.ENFILE}:
            return f"the engine at {self.where} cannot be asked: {said}; raise the limit, with 'ulimit -n 1024'"
        if self.standard and said == FORBIDDEN:
            return f"you may not use the engine at {self.where}: {said}; {permission_fix('$USER')}"
        return f"no engine answers at {self.where}: {said}; {self.remedy}"

    def get(self, path: str, *, deadline: float = 2.0) -> Any:
        """
        Return the engine's JSON answer to one GET.

        Args:
            path: For example `/version`.
            deadline: Seconds for all of it, from connecting to the last byte.

        Raises:
            OSError: If it cannot be reached, or answers with an error.
        """
        connection = self._connection(deadline)
        try:
            with limited(deadline):
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read(LARGEST)
        except (http.client.HTTPException, ConnectionError) as error:
            if why := over_ssh.said(self.url):
                raise OSError(f"{self.url} {why}") from None
            if not isinstance(error, http.client.HTTPException):
                raise
            raise OSError(f"{self.url} does not speak HTTP: {error}") from None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise OSError(f"{self.url} answered {answer.status} to GET {path}")
        try:
            return json_text.read(body)
        except ValueError:
            raise OSError(f"{self.url} answered something else than JSON to GET {path}") from None

    def ping(self, *, deadline: float = 2.0) -> PingResult:
        """Ask the engine's version once, waiting at most about *deadline* seconds; never raises."""
        if self.fault:
            return PingResult(state="unreachable", detail=self.fault)
        try:
            answer = self.get("/version", deadline=deadline)
        except FileNotFoundError as error:
            return PingResult(state="missing", detail=_said(error))
        except PermissionError as error:
            return PingResult(state="forbidden", detail=_said(error))
        except TimeoutError:
            return PingResult(state="silent", detail=f"no answer within {deadline:g} s")
        except OSError as error:
            return PingResult(state="refused" if self.socket else "unreachable", detail=_said(error))
        return self._introduced(answer)

    def _introduced(self, answer: Any) -> PingResult:
        """Read an answer to `GET /version`."""
        version = answer.get("Version") if isinstance(answer, dict) else None
        if not isinstance(version, str):
            detail = f"{self.url} answered GET /version without a version, so it is no Docker engine"
            return PingResult(state="refused" if self.socket else "unreachable", detail=detail)
        parts = answer.get("Components")
        names = [str(part.get("Name")) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        brand = "Podman " if any("Podman" in name for name in names) else ""
        return PingResult(state="answers", version=f"{brand}{' '.join(version.split())[:60]}")

    def _connection(self, deadline: float) -> http.client.HTTPConnection:
        if self.socket:
            return _UnixConnection(self.socket, deadline)
        if self.url.startswith(SSH):
            return over_ssh.SshConnection(self.url, deadline)
        address = urlsplit(self.url).netloc.rpartition("@")[2]
        if self.tls is not None:
            return _TlsConnection(address, timeout=deadline, context=self.tls.context())
        return Timed(address, timeout=deadline)


def _complete(url: str, *, tls: bool) -> str:
    """Return an address with what the docker command adds: the usual socket, the usual port."""
    if url == "unix://":
        return DEFAULT
    if not url.startswith("tcp://"):
        return url
    try:
        port = urlsplit(url).port
    except ValueError:
        return url
    return url if port else f"{url.rstrip('/').rstrip(':')}:{2376 if tls else 2375}"


def _unusable(url: str) -> str:
    """Return what is wrong with an address; empty when nothing is."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        return f"an address begins with one of {', '.join(f'{name}://' for name in SCHEMES)}"
    if scheme == "unix":
        return ""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return str(error)
    return "" if parts.hostname else f"{rest!r} names no host"


def _tls(env: Mapping[str, str], url: str) -> tuple[Certificates | None, str]:
    """
    Return the certificates for a DOCKER_HOST, and what is wrong with them.

    As with the docker command, DOCKER_TLS_VERIFY asks for them, and the authority's is then needed.
    """
    asked = bool(env.get("DOCKER_TLS_VERIFY"))
    if not url.startswith(("tcp://", "https://")) or not (asked or url.startswith("https://")):
        return None, ""
    folder = Path(env.get("DOCKER_CERT_PATH") or client_folder(env))
    found = Certificates.of(folder, verify=True)
    return found, f"DOCKER_TLS_VERIFY is set, and {folder} has no ca.pem" if asked and not found.ca else ""


def _is_ours(host: str) -> bool:
    """Tell whether a name or an address is one of this host's: nothing can be bound to another host's."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def permission_fix(user: str) -> str:
    """Return how *user* gets to use this host's own engine."""
    return f"run `sudo usermod -aG docker {user}` and log in again (members of that group are as good as root)"


def _said(error: BaseException) -> str:
    """Return an operating system's reason in one line."""
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return " ".join(said.split())[:300]

"""
Engines that are reached through ssh, as the docker command reaches them.

Each connection is one `ssh HOST docker system dial-stdio`, which joins its two streams to the engine's socket there.
The user's own configuration of ssh counts: names of hosts, keys, an agent, connections that are shared. Nothing asks
for a password.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
from typing import Final
from urllib.parse import urlsplit

from stackyard._util import plugged_process, process
from stackyard.docker.exchange import Timed
from stackyard.errors import CommandError

SCHEME: Final = "ssh://"
DIAL: Final = ("docker", "system", "dial-stdio")
QUIET: Final = ("-o", "BatchMode=yes")
LOOKUP: Final = 5.0  # seconds for ssh to read its configuration
MOST: Final = 4096  # bytes of what ssh says

_errors: Final[dict[str, int]] = {}  # by address: what the last ssh wrote to standard error
_dialling: Final = threading.Lock()  # no thread closes the file that another one's ssh is about to write its errors to


def words(url: str, *options: str) -> list[str]:
    """Return the beginning of an ssh command to the host of *url*."""
    parts = urlsplit(url)
    user = ["-l", parts.username] if parts.username else []
    port = ["-p", str(parts.port)] if parts.port else []
    return ["ssh", *QUIET, *options, *user, *port, "--", parts.hostname or ""]


def dial(url: str, timeout: float | None) -> socket.socket:
    """Return a socket to the engine at *url*; whether anybody answers shows at the first read."""
    ours, theirs = socket.socketpair()
    with theirs, _dialling:
        plugged_process.start([*words(url), *DIAL], line=theirs.fileno(), errors=_kept(url))
    ours.settimeout(timeout)
    return ours


def _kept(url: str) -> int:
    """Return where the next ssh to *url* writes its errors."""
    made = os.memfd_create("ssh", os.MFD_CLOEXEC)
    if (before := _errors.get(url)) is not None:
        os.close(before)
    _errors[url] = made
    return made


def said(url: str) -> str:
    """Return the last line of what the last ssh to *url* wrote to standard error; empty if there is none."""
    with _dialling:
        found = _errors.get(url)
        lines = os.pread(found, MOST, 0).decode(errors="replace").split("\n") if found is not None else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@functools.cache
def hostname(url: str) -> str:
    """Return the name or address that ssh's configuration has for the host of *url*."""
    host = urlsplit(url).hostname or ""
    try:
        listed = process.run(words(url, "-G"), deadline=LOOKUP).stdout
    except CommandError:
        return host
    return next((line.partition(" ")[2] for line in listed.splitlines() if line.startswith("hostname ")), host)


class SshConnection(Timed):
    """
    An HTTP connection through ssh.

    Args:
        url: The engine's address.
        timeout: Seconds for each read.
    """

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._url = url

    def connect(self) -> None:
        """Start an ssh."""
        self.sock = dial(self._url, self.timeout)

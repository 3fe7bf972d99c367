"""
Which ports listen inside a container's network namespace, from the kernel's own tables.

A connect to a published port proves nothing, because the engine's port proxy accepts at once. A connect from inside
needs a program in the image. The tables need neither: this host reads them where it sees the container's process, and
otherwise `cat` reads them inside the container. The kernel walks through all its TCP connections for each table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackyard.project.service_ports import Port

TABLES: Final = ("tcp", "tcp6", "udp", "udp6")
READ_INSIDE: Final = ("cat", *(f"/proc/net/{table}" for table in TABLES))
# the state of a socket that waits for anybody: a TCP server's, and that of every UDP socket without a peer
WAITING: Final = {"0A": "tcp", "07": "udp"}
_V4: Final = 8  # hexadecimal digits of an IPv4 address
_LOOPBACK_V6: Final = "00000000000000000000000001000000"
_MAPPED: Final = "0000000000000000FFFF0000"
_FIELDS: Final = 4


class Listener(NamedTuple):
    """
    One socket that waits for anybody.

    Attributes:
        protocol: tcp or udp.
        port: Its number.
        loopback: Whether only the same network namespace reaches it.
    """

    protocol: str
    port: int
    loopback: bool


def parse(tables: str) -> frozenset[Listener]:
    """Return the listeners of the kernel's tables `/proc/net/tcp`, `tcp6`, `udp` and `udp6`, one after the other."""
    found = set()
    for line in tables.splitlines():
        fields = line.split()
        if len(fields) >= _FIELDS and (protocol := WAITING.get(fields[3])):
            address, _, port = fields[1].rpartition(":")
            found.add(Listener(protocol, int(port, 16), _is_loopback(address)))
    return frozenset(found)


def _is_loopback(address: str) -> bool:
    v4 = address.removeprefix(_MAPPED)  # each group of four bytes stands backwards
    return (len(v4) == _V4 and v4.endswith("7F")) or address == _LOOPBACK_V6


def sees(container: str, pid: int, *, proc: Path = Path("/proc")) -> bool:
    """
    Say whether this host sees a container's process.

    Args:
        container: The container's whole id; the process must be in a control group of this name, as the engine may
            count processes otherwise than this host.
        pid: The container's first process.
        proc: Where the kernel shows processes.
    """
    try:
        return container in (proc / str(pid) / "cgroup").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def read(container: str, pid: int, *, proc: Path = Path("/proc")) -> frozenset[Listener] | None:
    """Return who listens in a process's network namespace; None if it is not seen here. Arguments as for `sees`."""
    if not sees(container, pid, proc=proc):
        return None
    tables = [proc / str(pid) / "net" / table for table in TABLES]
    try:
        return parse("".join(table.read_text(encoding="ascii") for table in tables if table.exists()))
    except OSError:
        return None


def reached(port: Port, found: Iterable[Listener], *, loopback: bool) -> bool:
    """Say whether *port* listens; *loopback*: on a loopback address is enough."""
    return any(
        (one.protocol, one.port) == (port.protocol, port.number) and (loopback or not one.loopback) for one in found
    )


def serves(found: Iterable[Listener]) -> bool:
    """Say whether anything listens on TCP for other containers."""
    return any(one.protocol == "tcp" and not one.loopback for one in found)

"""
What the host already uses: listening ports, the kernel's port ranges, routed networks, memory.

A port is free if it can be bound for TCP and UDP on the wildcard address of both IP versions. This fails while a
program uses it on any address. SO_REUSEADDR ignores connections in TIME_WAIT, but not listeners. Ports in the kernel's
own range are never free, even if a bind succeeds now.
"""

from __future__ import annotations

import errno
import re
import socket
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from stackyard.leases.grants.admission import host_memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackyard.leases.grants.admission import Memory

_NET: Final = Path("/proc/sys/net/ipv4")
_NODE_PORTS: Final = range(30000, 32768)  # Kubernetes' default range for node ports
_EPHEMERAL: Final = range(32768, 61000)  # Linux's own default for outgoing connections
_WIDEST: Final = 2  # prefix; a shorter one is a default route, or one of the halves a VPN makes of it
# A line with the address, then a line for each route that begins there: "|-- 172.17.0.0" "/16 link UNICAST".
_LEAF: Final = re.compile(r"\|-- ([0-9.]+)\n((?:\s+/[0-9]+ .*\n)+)")
_ROUTE: Final = re.compile(r"/([0-9]+) \S+ (\S+)")
_NAMESERVER: Final = re.compile(r"^nameserver\s+([0-9.]+)\s*$", re.MULTILINE)

Span = tuple[int, int]  # first and last address of a network


class Ground(NamedTuple):
    """
    The host as seen just before a lease is granted.

    Attributes:
        kernel_ports: Port ranges that the kernel uses or the administrator has reserved.
        taken_ports: Ports that an engine has published, perhaps without a socket.
        networks: First and last address of each network that a route, a name server or an engine uses.
        memory: The host's memory; None if it cannot be read.
        here: Whether the ports are this host's, so that binding one shows whether it is free.
    """

    kernel_ports: tuple[range, ...]
    taken_ports: frozenset[int]
    networks: tuple[Span, ...]
    memory: Memory | None = None
    here: bool = True

    @classmethod
    def survey(cls, ports: Iterable[int] = (), subnets: Iterable[str | IPv4Network] = ()) -> Ground:
        """Look at the host; *ports* and *subnets* are what an engine says it uses."""
        return cls(
            kernel_ports=kernel_ports(),
            taken_ports=frozenset(ports),
            networks=(*routes(), *name_servers(), *(span(IPv4Network(subnet)) for subnet in subnets)),
            memory=host_memory(),
        )

    @classmethod
    def elsewhere(cls, ports: Iterable[int] = (), subnets: Iterable[str | IPv4Network] = ()) -> Ground:
        """Return another host, of which only is known what its engine uses: *ports* and *subnets*."""
        return cls(
            kernel_ports=(_NODE_PORTS, _EPHEMERAL), taken_ports=frozenset(ports),
            networks=tuple(span(IPv4Network(subnet)) for subnet in subnets), here=False,
        )  # fmt: skip

    def is_reserved(self, ports: Iterable[int]) -> bool:
        """Say whether a port of *ports* is in a range of the kernel or the administrator."""
        return any(port in kept for port in ports for kept in self.kernel_ports)

    def is_free(self, ports: Iterable[int]) -> bool:
        """Say whether no program uses any of *ports* now."""
        return all(port not in self.taken_ports and (not self.here or can_bind(port)) for port in ports)

    def overlaps(self, network: Span) -> bool:
        """Say whether *network* shares an address with one in use."""
        first, last = network
        return any(first <= theirs_last and theirs_first <= last for theirs_first, theirs_last in self.networks)


def span(network: IPv4Network) -> Span:
    """Return the first and last address of *network* as numbers."""
    first = int(network.network_address)
    return first, first + network.num_addresses - 1


def can_bind(port: int) -> bool:
    """Say whether *port* is free on TCP and UDP, on every address of IPv4 and IPv6."""
    return _binds(port, socket.SOCK_STREAM) and _binds(port, socket.SOCK_DGRAM)


def _binds(port: int, kind: socket.SocketKind) -> bool:
    try:
        with socket.socket(socket.AF_INET6, kind) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            return _bind(probe, "::", port, kind)
    except OSError as error:
        if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
            raise
    # a kernel without IPv6
    with socket.socket(socket.AF_INET, kind) as probe:
        return _bind(probe, "0.0.0.0", port, kind)  # noqa: S104 - bound to learn whether anybody has it, never listened on


def _bind(probe: socket.socket, address: str, port: int, kind: socket.SocketKind) -> bool:
    if kind == socket.SOCK_STREAM:
        # not for UDP, where it would let two sockets share the port
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((address, port))
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        return False
    return True


def kernel_ports(folder: Path = _NET) -> tuple[range, ...]:
    """Return the port ranges for outgoing connections, of the administrator and of Kubernetes."""
    ephemeral = _words(folder / "ip_local_port_range")
    kept = [_NODE_PORTS]
    if len(ephemeral) == 2:  # noqa: PLR2004 - first and last
        kept.append(range(int(ephemeral[0]), int(ephemeral[1]) + 1))
    for word in ",".join(_words(folder / "ip_local_reserved_ports")).split(","):
        first, _, last = word.partition("-")
        if first:
            kept.append(range(int(first), int(last or first) + 1))
    return tuple(kept)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:
        return []


def routes(file: Path = Path("/proc/net/fib_trie")) -> list[Span]:
    """Return every network of every routing table, black holes too, but no default routes."""
    try:
        text = file.read_text(encoding="ascii")
    except OSError:
        return []
    found = set()
    for address, lines in _LEAF.findall(text):
        for prefix, kind in _ROUTE.findall(lines):
            if int(prefix) >= _WIDEST and kind != "BROADCAST":
                first = _number(address)
                found.add((first, first + (1 << (32 - int(prefix))) - 1))
    return sorted(found)


def name_servers(file: Path = Path("/etc/resolv.conf")) -> list[Span]:
    """Return the addresses of the host's name servers; a subnet that overlaps one would break name resolution."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [(_number(address), _number(address)) for address in _NAMESERVER.findall(text)]


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


def port_holders(ports: Iterable[int]) -> dict[int, str]:
    """
    Return who listens on each of *ports*: ``pid 12 (command line)``, or ``another user's program``.

    Slow, because it looks at every process; only for messages and checks.
    """
    import psutil

    from stackyard.leases.owners import command_line

    wanted = set(ports)
    found: dict[int, str] = {}
    for item in psutil.net_connections("inet"):
        if item.laddr and item.laddr.port in wanted and item.status in {psutil.CONN_LISTEN, psutil.CONN_NONE}:
            who = f"pid {item.pid} ({command_line(item.pid)})" if item.pid else "another user's program"
            found.setdefault(item.laddr.port, who)
    return found

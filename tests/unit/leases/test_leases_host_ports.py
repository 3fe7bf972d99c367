"""What the host already uses: listeners of every kind, kernel ranges, routes."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest

from stackyard.leases.grants import host_ports
from stackyard.leases.grants.host_ports import Ground

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PORT = 11950


@pytest.fixture(autouse=True)
def no_networks() -> None:
    """Read the networks of this host, which other tests of leases do not see."""


def tcp(family: int, address: str, *, dual: bool = False) -> Callable[[], socket.socket]:
    def make() -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
        made.bind((address, PORT))
        made.listen()
        return made

    return make


def udp(family: int, address: str) -> Callable[[], socket.socket]:
    def make() -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.bind((address, PORT))
        return made

    return make


@pytest.mark.parametrize(
    "occupant",
    [
        pytest.param(tcp(socket.AF_INET, "127.0.0.1"), id="tcp-loopback"),
        pytest.param(tcp(socket.AF_INET, "127.0.0.9"), id="tcp-other-loopback"),
        pytest.param(tcp(socket.AF_INET, "0.0.0.0"), id="tcp-everywhere"),  # noqa: S104 - the case under test
        pytest.param(tcp(socket.AF_INET6, "::1"), id="tcp6-loopback"),
        pytest.param(tcp(socket.AF_INET6, "::"), id="tcp6-only"),
        pytest.param(tcp(socket.AF_INET6, "::", dual=True), id="tcp-dual-stack"),
        pytest.param(udp(socket.AF_INET, "127.0.0.1"), id="udp-loopback"),
        pytest.param(udp(socket.AF_INET6, "::1"), id="udp6-loopback"),
    ],
)
def test_a_port_somebody_has_on_any_address_is_not_free(occupant: Callable[[], socket.socket]) -> None:
    assert host_ports.can_bind(PORT)
    with closing(occupant()):
        assert not host_ports.can_bind(PORT)
        assert PORT in host_ports.port_holders([PORT])
    assert host_ports.can_bind(PORT)


def test_connections_in_time_wait_do_not_block_a_port() -> None:
    with socket.create_server(("127.0.0.1", PORT)) as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", PORT)):
                accepted, _address = server.accept()
                accepted.close()  # the side that closes first keeps the port in TIME_WAIT

    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("127.0.0.1", PORT))
    assert host_ports.can_bind(PORT)


def test_a_host_without_ipv6_is_asked_about_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def only_ipv4(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, kind)

    with socket.create_server(("127.0.0.1", PORT)):
        monkeypatch.setattr(socket, "socket", only_ipv4)
        assert not host_ports.can_bind(PORT)
        assert host_ports.can_bind(PORT + 1)


def test_a_lack_of_sockets_is_no_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(OSError, match="too many open files"):
        host_ports.can_bind(PORT)


def test_a_bind_that_fails_for_another_reason_is_no_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(host_ports, "_bind", refuse)
    with pytest.raises(OSError, match="no memory"):
        host_ports.can_bind(PORT)


def test_a_listener_is_named_by_pid_and_command() -> None:
    with socket.create_server(("127.0.0.1", PORT)):
        assert host_ports.port_holders([PORT])[PORT].startswith(f"pid {os.getpid()} (")
    assert host_ports.port_holders([PORT]) == {}


def test_ranges_the_kernel_keeps_are_read(tmp_path: Path) -> None:
    (tmp_path / "ip_local_port_range").write_text("32768\t60999\n")
    (tmp_path / "ip_local_reserved_ports").write_text("8080,21000-21100\n")

    kept = Ground(kernel_ports=host_ports.kernel_ports(tmp_path), taken_ports=frozenset(), networks=())

    assert all(kept.is_reserved([port]) for port in (8080, 21000, 21100, 30000, 32767, 32768, 60999))
    assert not any(kept.is_reserved([port]) for port in (8079, 8081, 20999, 21101, 29999, 61000))


def test_unreadable_kernel_ranges_leave_those_of_node_ports(tmp_path: Path) -> None:
    assert host_ports.kernel_ports(tmp_path) == (range(30000, 32768),)


ROUTES = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        /1 universe UNICAST
     |-- 10.8.0.0
        /16 universe UNICAST
     |-- 10.9.1.0
        /24 link UNICAST
        /32 link BROADCAST
     |-- 10.44.0.0
        /14 universe BLACKHOLE
Id 52:
  +-- 100.64.0.0/10 2 0 2
     |-- 100.64.0.0
        /10 link UNICAST
"""


def test_every_route_of_every_table_is_known_but_default_ones(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(ROUTES)
    found = Ground(kernel_ports=(), taken_ports=frozenset(), networks=tuple(host_ports.routes(tmp_path / "fib_trie")))

    for taken in ("10.8.3.16/28", "10.9.1.240/28", "10.45.0.0/28", "100.100.0.0/28", "10.0.0.0/8"):
        assert found.overlaps(host_ports.span(IPv4Network(taken))), taken
    for free in ("10.9.2.0/28", "10.7.255.240/28", "10.48.0.0/28", "0.0.0.0/28"):
        assert not found.overlaps(host_ports.span(IPv4Network(free))), free


def test_this_hosts_own_loopback_is_a_route() -> None:
    assert host_ports.span(IPv4Network("127.0.0.0/8")) in host_ports.routes()


def test_name_servers_are_kept_out_of_the_subnets(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("# x\nnameserver 10.214.0.3\nnameserver fe80::1\nsearch x\n")

    assert host_ports.name_servers(tmp_path / "resolv.conf") == [(0x0AD60003, 0x0AD60003)]


def test_a_host_without_those_files_has_no_routes(tmp_path: Path) -> None:
    assert host_ports.routes(tmp_path / "none") == []
    assert host_ports.name_servers(tmp_path / "none") == []


def test_what_an_engine_reports_is_part_of_the_ground() -> None:
    found = Ground.survey([PORT], ["10.214.9.0/24", IPv4Network("10.214.10.0/24")])

    assert not found.is_free([PORT])
    assert found.overlaps(host_ports.span(IPv4Network("10.214.9.16/28")))
    assert found.overlaps(host_ports.span(IPv4Network("10.214.10.16/28")))

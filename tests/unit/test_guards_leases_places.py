"""Where a lease may go, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import errno
import socket
import sqlite3
from ipaddress import IPv4Network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import Mock

import pytest

from stackyard.leases.grants import admission, host_ports
from stackyard.leases.grants.admission import Booked, Capacity, Memory
from stackyard.leases.grants.host_ports import Ground

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GB = 1000


@pytest.mark.parametrize(
    ("ephemeral", "reserved", "found"),
    [
        ("32768\t60999\n", "\n", [range(30000, 32768), range(32768, 61000)]),
        ("1 2 3\n", "5,7-9\n", [range(30000, 32768), range(5, 6), range(7, 10)]),
        ("1 2 3\n", "5 7-9\n", [range(30000, 32768), range(5, 6), range(7, 10)]),
        (None, None, [range(30000, 32768)]),
    ],
)
def test_the_ports_of_the_kernel_and_the_administrator_are_kept(
    tmp_path: Path, ephemeral: str | None, reserved: str | None, found: list[range]
) -> None:
    for name, text in (("ip_local_port_range", ephemeral), ("ip_local_reserved_ports", reserved)):
        if text is not None:
            (tmp_path / name).write_text(text)

    assert host_ports.kernel_ports(tmp_path) == tuple(found)


def test_of_another_host_only_what_its_engine_uses_is_known() -> None:
    found = Ground.elsewhere([9500], ["10.0.0.0/30"])

    assert found.kernel_ports == (range(30000, 32768), range(32768, 61000))
    assert (found.taken_ports, found.here) == (frozenset([9500]), False)
    assert found.networks == (host_ports.span(IPv4Network("10.0.0.0/30")),)


TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        /1 link UNICAST
     |-- 10.0.0.0
        /2 link UNICAST
        /3 link BROADCAST
     |-- 172.17.0.0
        /16 link UNICAST
     |-- 172.17.0.1
        /32 host LOCAL
     |-- 192.168.1.0
        /24 universe BLACKHOLE
     |-- 172.17.0.0
        /16 link UNICAST
"""


def address(text: str) -> int:
    return int.from_bytes(socket.inet_aton(text), "big")


def test_every_route_counts_but_default_routes_and_broadcasts(tmp_path: Path) -> None:
    (tmp_path / "trie").write_text(TRIE)

    assert host_ports.routes(tmp_path / "trie") == [
        (address(first), address(last))
        for first, last in (
            ("10.0.0.0", "73.255.255.255"), ("172.17.0.0", "172.17.255.255"), ("172.17.0.1", "172.17.0.1"),
            ("192.168.1.0", "192.168.1.255"),
        )
    ]  # fmt: skip
    assert host_ports.routes(tmp_path / "gone") == []


def test_a_name_server_counts_as_used(tmp_path: Path) -> None:
    text = (
        b"# nameserver 9.9.9.9\nnameserver 10.0.0.2\n nameserver 10.0.0.3\nnameserver  ::1\nnameserver\t10.0.0.4 \n\xff"
    )
    (tmp_path / "resolv.conf").write_bytes(text)

    found = [address("10.0.0.2"), address("10.0.0.4")]
    assert host_ports.name_servers(tmp_path / "resolv.conf") == [(each, each) for each in found]
    assert host_ports.name_servers(tmp_path / "gone") == []


def ground(**change: Any) -> Ground:
    given: dict[str, Any] = {"kernel_ports": (), "taken_ports": frozenset(), "networks": ()}
    return Ground(**given | change)


def test_a_block_is_reserved_if_one_port_of_it_is() -> None:
    kept = ground(kernel_ports=(range(10, 12), range(20, 21)))

    assert [kept.is_reserved(ports) for ports in ([9, 10], [11], [12, 20], [])] == [True, True, True, False]
    assert not kept.is_reserved([9, 12, 19, 21])


def test_a_block_is_free_if_every_port_of_it_can_be_bound_and_none_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_ports, "can_bind", lambda port: port != 5)
    held = ground(taken_ports=frozenset({7}))

    assert [held.is_free(ports) for ports in ([4, 6], [4, 5], [5, 6], [6, 7], [])] == [True, False, False, False, True]


def test_a_network_overlaps_if_it_shares_one_address() -> None:
    used = ground(networks=((10, 19), (40, 40)))

    assert [used.overlaps(span) for span in ((0, 10), (19, 30), (12, 13), (5, 25), (40, 40))] == [True] * 5
    assert [used.overlaps(span) for span in ((0, 9), (20, 39), (41, 50))] == [False] * 3
    assert host_ports.span(IPv4Network("0.0.0.16/28")) == (16, 31)


def test_a_survey_takes_what_the_kernel_and_the_engine_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_ports, "kernel_ports", lambda: (range(1, 2),))
    monkeypatch.setattr(host_ports, "routes", lambda: [(1, 2)])
    monkeypatch.setattr(host_ports, "name_servers", lambda: [(3, 3)])
    monkeypatch.setattr(host_ports, "host_memory", lambda: Memory(total_mb=5, available_mb=4))

    assert Ground.survey([7, 7], ["0.0.0.16/28", IPv4Network("0.0.0.32/32")]) == Ground(
        kernel_ports=(range(1, 2),), taken_ports=frozenset({7}), networks=((1, 2), (3, 3), (16, 31), (32, 32)),
        memory=Memory(total_mb=5, available_mb=4),
    )  # fmt: skip
    assert Ground.survey().networks == ((1, 2), (3, 3))
    assert Ground.survey().taken_ports == frozenset()


class Socket:
    """A socket that fails where the test wants it."""

    made: list[Socket]

    def __init__(self, family: int, kind: int) -> None:
        if family == socket.AF_INET6 and Socket.no_six:
            raise OSError(Socket.no_six, "no IPv6")
        self.family, self.kind, self.options = family, kind, list[Any]()
        self.bound: Any = None
        Socket.made.append(self)

    no_six = 0
    refusal = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def bind(self, where: Any) -> None:
        self.bound = where
        if Socket.refusal:
            raise OSError(Socket.refusal, "no")


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Socket]]:
    Socket.made, Socket.no_six, Socket.refusal = [], 0, 0
    monkeypatch.setattr(socket, "socket", Socket)
    yield Socket
    Socket.no_six = Socket.refusal = 0


ANY = "0.0.0.0"  # noqa: S104 - never bound
REUSE = (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
BOTH = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def test_a_port_is_bound_for_tcp_and_udp_on_both_ip_versions(sockets: type[Socket]) -> None:
    assert host_ports.can_bind(5)
    assert [(each.family, each.kind, each.options, each.bound) for each in sockets.made] == [
        (socket.AF_INET6, socket.SOCK_STREAM, [BOTH, REUSE], ("::", 5)),
        (socket.AF_INET6, socket.SOCK_DGRAM, [BOTH], ("::", 5)),
    ]


@pytest.mark.parametrize("missing", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_kernel_without_ipv6_is_asked_for_ipv4(sockets: type[Socket], missing: int) -> None:
    sockets.no_six = missing

    assert host_ports.can_bind(5)
    assert [(each.family, each.kind, each.options, each.bound) for each in sockets.made] == [
        (socket.AF_INET, socket.SOCK_STREAM, [REUSE], (ANY, 5)),
        (socket.AF_INET, socket.SOCK_DGRAM, [], (ANY, 5)),
    ]


@pytest.mark.parametrize("refusal", [errno.EADDRINUSE, errno.EACCES])
def test_a_port_that_is_in_use_or_forbidden_is_not_free(sockets: type[Socket], refusal: int) -> None:
    sockets.refusal = refusal
    assert not host_ports.can_bind(5)


@pytest.mark.parametrize(
    ("no_six", "refusal"), [(errno.EMFILE, 0), (0, errno.EMFILE), (errno.EAFNOSUPPORT, errno.EMFILE)]
)
def test_any_other_error_of_a_socket_is_an_error(sockets: type[Socket], no_six: int, refusal: int) -> None:
    sockets.no_six, sockets.refusal = no_six, refusal
    with pytest.raises(OSError, match=r"no"):
        host_ports.can_bind(5)


def test_the_holder_of_a_port_is_named_if_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(port: int, pid: int | None, status: str) -> SimpleNamespace:
        return SimpleNamespace(laddr=SimpleNamespace(port=port), pid=pid, status=status)

    table = [
        SimpleNamespace(laddr=(), pid=1, status="LISTEN"), seen(5, 11, "ESTABLISHED"), seen(5, 12, "LISTEN"),
        seen(5, 13, "LISTEN"), seen(6, None, "NONE"), seen(7, 14, "LISTEN"),
    ]  # fmt: skip
    asked = Mock(return_value=table)
    monkeypatch.setattr("psutil.net_connections", asked)
    monkeypatch.setattr("stackyard.leases.owners.command_line", lambda pid: f"program {pid}")

    assert host_ports.port_holders([5, 6, 8]) == {5: "pid 12 (program 12)", 6: "another user's program"}
    asked.assert_called_once_with("inet")


def booked(*rows: tuple[object, float], now: float = 100.0) -> Booked:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE leases (memory_mb, created)")
    db.executemany("INSERT INTO leases VALUES (?, ?)", rows)
    try:
        return Booked.read(db, now)
    finally:
        db.close()


def test_bookings_are_added_up_and_those_that_settle_are_distinguished() -> None:
    settling = 100.0 - admission.SETTLING
    assert booked() == Booked(leases=0, total_mb=0, young_mb=0)
    assert booked((1, settling - 1), (20, settling), (300, 100.0), (4000, 100.5)) == Booked(
        leases=4, total_mb=4321, young_mb=320
    )
    assert booked((0, 99.0), ("5", 99.0), (-1, 99.0), (10**9 + 1, 99.0), (10**9, 1.0)) == Booked(
        leases=1, total_mb=10**9, young_mb=0
    )


@pytest.mark.parametrize(
    ("total", "young", "available", "room"),
    [(0, 0, 10 * GB, 9), (0, 0, 5999, 5), (8 * GB, 0, 10 * GB, 1), (0, 9 * GB, 10 * GB, 1), (8001, 0, 10 * GB, 0),
     (20 * GB, 0, 10 * GB, 0), (0, 20 * GB, 10 * GB, 0)],
)  # fmt: skip
def test_stacks_fit_into_their_share_and_into_what_is_available(
    total: int, young: int, available: int, room: int
) -> None:
    held = Booked(leases=1, total_mb=total, young_mb=young)
    memory = Memory(total_mb=10 * GB, available_mb=available)

    assert held.room(memory, GB) == room
    assert (admission.refusal("test", GB, memory, held, room) is None) is False
    assert room == 0 or admission.refusal("test", GB, memory, held, room - 1) is None
    assert admission.refusal("test", 0, memory, held, 99) is None


def test_a_refusal_names_what_is_booked_and_what_to_do() -> None:
    held = Booked(leases=3, total_mb=8 * GB, young_mb=2 * GB)

    text = admission.refusal("test", 5 * GB, Memory(total_mb=10 * GB, available_mb=4 * GB), held, 0) or ""

    assert "stack of test, which books 4,768 MiB: 3 leases have booked 7,629 MiB of 8,583 MiB (90% of all)" in text
    assert "3,815 MiB are available, 1,907 MiB of them for stacks that are starting. Next" in text
    queued = admission.refusal("test", 5 * GB, Memory(total_mb=10 * GB, available_mb=4 * GB), held, 2)
    assert queued is not None
    assert "starting, requests ahead in the queue: 2. Next" in queued


@pytest.mark.parametrize(
    ("slots", "networks", "memory", "stacks", "limit"),
    [
        (5, 6, Memory(total_mb=100 * GB, available_mb=100 * GB), 5, "slots"),
        (6, 5, Memory(total_mb=100 * GB, available_mb=100 * GB), 5, "networks"),
        (6, 7, Memory(total_mb=100 * GB, available_mb=5 * GB), 5, "memory"),
        (5, 5, Memory(total_mb=100 * GB, available_mb=5 * GB), 5, "slots"), (5, 5, None, 5, "slots"),
    ],
)  # fmt: skip
def test_the_scarcest_limits_what_fits(
    slots: int, networks: int, memory: Memory | None, stacks: int, limit: str
) -> None:
    held = Booked(leases=1, total_mb=GB, young_mb=0)
    found = Capacity.of("test", slots=slots, networks=networks, memory=memory, booked=held, reserve_mb=GB)
    room = held.room(memory, GB) if memory else None

    assert found == Capacity(
        environment="test", stacks=stacks, limit=limit, slots=slots, networks=networks, memory=room, reserve_mb=GB,  # type: ignore[arg-type]
        booked_mb=GB, total_mb=memory.total_mb if memory else None,
        available_mb=memory.available_mb if memory else None,
    )  # fmt: skip
    assert Capacity.of("test", slots=1, networks=1, memory=memory, booked=held, reserve_mb=0).memory is None
    assert found.to_json() == {
        "environment": "test", "stacks": stacks, "limit": limit, "slots": slots, "networks": networks, "memory": room,
        "reserve_bytes": 10**9, "booked_bytes": 10**9, "total_bytes": memory and memory.total_mb * 10**6,
        "available_bytes": memory and memory.available_mb * 10**6,
    }  # fmt: skip


def lay_memory(tmp_path: Path, *, group: str = "0::/a/b\n") -> tuple[Path, Path]:
    proc, cgroups = tmp_path / "proc", tmp_path / "cg"
    (proc / "self").mkdir(parents=True)
    (cgroups / "a/b").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9765626 kB\nMemFree: 1 kB\nMemAvailable: 4882812 kB\nBuffers: x\n")
    (proc / "self/cgroup").write_text(group)
    return proc, cgroups


def limit(folder: Path, most: str, used: str = "3000000", idle: str = "1000000") -> None:
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {idle}\nactive_file 7\n")


def test_the_memory_of_a_host_is_what_the_kernel_tells(tmp_path: Path) -> None:
    proc, cgroups = lay_memory(tmp_path)

    assert admission.host_memory(proc, cgroups) == Memory(total_mb=10 * GB, available_mb=4999)
    (proc / "self/cgroup").unlink()
    assert admission.host_memory(proc, cgroups) == Memory(total_mb=10 * GB, available_mb=4999)
    for wrong in ("MemTotal: 5\n", "MemTotal:\n", "MemTotal: x kB\nMemAvailable: 5 kB\n", ""):
        (proc / "meminfo").write_text(wrong)
        assert admission.host_memory(proc, cgroups) is None
    (proc / "meminfo").unlink()
    assert admission.host_memory(proc, cgroups) is None


@pytest.mark.parametrize("place", ["a/b", "a", ""])
def test_the_limit_of_any_control_group_above_counts(tmp_path: Path, place: str) -> None:
    proc, cgroups = lay_memory(tmp_path, group="1:name=x:/q\n0::/a/b\n")
    limit(tmp_path, "1000000")  # above the tree: no limit of ours
    limit(cgroups / place, "5000000")

    assert admission.host_memory(proc, cgroups) == Memory(total_mb=5, available_mb=3)


@pytest.mark.parametrize(
    ("most", "used", "found"),
    [("max", "3000000", (10 * GB, 4999)), ("10000000000", "0", (10 * GB, 4999)), ("9999000000", "0", (9999, 4999)),
     ("10000000000", "9000000000", (10 * GB, 4999)), ("5900000", "0", (5, 6)),
     ("5000000", "7000000", (5, 0)), ("5000000", "x", (10 * GB, 4999)), ("5000000", "5500000", (5, 0)),
     ("5000000", "4999999", (5, 1))],
)  # fmt: skip
def test_a_limit_counts_only_below_the_hosts_memory_and_is_never_negative(
    tmp_path: Path, most: str, used: str, found: tuple[int, int]
) -> None:
    proc, cgroups = lay_memory(tmp_path)
    limit(cgroups / "a", most, used)

    assert admission.host_memory(proc, cgroups) == Memory(*found)


def test_the_group_of_a_process_may_have_any_name(tmp_path: Path) -> None:
    proc, cgroups = lay_memory(tmp_path, group="0::/Xa\n")
    (cgroups / "Xa").mkdir()
    limit(cgroups / "Xa", "5000000")

    assert admission.host_memory(proc, cgroups) == Memory(total_mb=5, available_mb=3)


def test_a_limit_without_statistics_is_none(tmp_path: Path) -> None:
    proc, cgroups = lay_memory(tmp_path, group="")
    limit(cgroups, "5000000")
    assert admission.host_memory(proc, cgroups) == Memory(total_mb=5, available_mb=3)
    for text in ("anon 5\n", "inactive_file"):
        (cgroups / "memory.stat").write_text(text)
        assert admission.host_memory(proc, cgroups) == Memory(total_mb=10 * GB, available_mb=4999)

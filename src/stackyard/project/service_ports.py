"""The ports of a service that can be probed, and the usual protocol of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_EXPOSED: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([a-z]+))?")
# Servers of these speak first, wait for their own protocol, or count a foreign request as an attack.
OTHER_PROTOCOLS: Final = frozenset({
    21, 22, 23, 25, 53, 110, 143, 389, 465, 514, 587, 636, 873, 993, 995, 1025, 1433, 1521, 1883, 1935, 2049, 2181,
    3268, 3306, 3389, 4222, 4317, 4369, 5060, 5222, 5432, 5671, 5672, 5900, 6222, 6379, 6380, 6432, 7687, 8883, 9042,
    9092, 9093, 9094, 9160, 11211, 19092, 26257, 26379, 27017, 27018, 27019, 28015, 29092, 33060, 50051, 61613, 61616,
})  # fmt: skip
HTTP: Final = frozenset({
    80, 443, 3000, 3001, 4200, 5000, 5173, 8000, 8001, 8008, 8025, 8080, 8081, 8088, 8123, 8443, 8888, 9000, 9090, 9200,
    15672,
})  # fmt: skip
DEBUGGERS: Final = frozenset({2345, 5005, 5678, 5858, 9229, 9230})  # open only where somebody debugs


@dataclass(frozen=True, slots=True)
class Port:
    """
    One port of a container.

    Attributes:
        number: Its number inside the container.
        protocol: tcp or udp.
        spoken: Its protocol as the file gives it (`app_protocol`); usually empty.
    """

    number: int
    protocol: str = "tcp"
    spoken: str = ""

    def __str__(self) -> str:
        return str(self.number) if self.protocol == "tcp" else f"{self.number}/{self.protocol}"

    @property
    def usually_http(self) -> bool:
        """Whether HTTP is to be expected."""
        return self.protocol == "tcp" and (self.spoken == "http" or (not self.spoken and self.number in HTTP))

    @property
    def may_be_http(self) -> bool:
        """Whether it is worth asking, and harmless to ask, for an HTTP answer."""
        other = bool(self.spoken) or self.number in OTHER_PROTOCOLS
        return self.usually_http or (self.protocol == "tcp" and not other)

    @property
    def debugs(self) -> bool:
        """Whether it belongs to a debugger, which usually is not there."""
        return self.number in DEBUGGERS


def published_datagrams(service: Mapping[str, Any]) -> tuple[Port, ...]:
    """Return the UDP ports of a service's `ports`, each once."""
    udp = [int(entry["target"]) for entry in service.get("ports") or () if entry.get("protocol") == "udp"]
    return tuple(Port(number, "udp") for number in dict.fromkeys(udp))


def published_ports(service: Mapping[str, Any]) -> tuple[Port, ...]:
    """Return the ports of a service's `ports`, each once; of UDP ports only the first, and only without TCP ports."""
    found = [
        Port(int(entry["target"]), str(entry.get("protocol") or "tcp"), str(entry.get("app_protocol") or ""))
        for entry in service.get("ports") or ()
    ]
    return _worth(found)


def exposed_ports(service: Mapping[str, Any], image: Iterable[str]) -> tuple[Port, ...]:
    """Return the ports of a service's `expose`, or if it has none those of its *image*."""
    given = [str(port) for port in service.get("expose") or ()] or [*image]
    found = [_EXPOSED.fullmatch(text) for text in given]
    return _worth(Port(int(match[1]), match[3] or "tcp") for match in found if match)


def _worth(found: Iterable[Port]) -> tuple[Port, ...]:
    each = tuple(dict.fromkeys(found))
    tcp = tuple(port for port in each if port.protocol == "tcp")
    return tcp or tuple(port for port in each if port.protocol == "udp")[:1]

"""Where a copy answers: its published ports under the user's own names, and the variables that tell programs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard.plan.ports import LOOPBACK
from stackyard.project import published_ports
from stackyard.project.spoken_ports import Port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EVERYWHERE: Final = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}  # noqa: S104 - where a program connects to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    One published port of a copy.

    Attributes:
        service: The service.
        target: The container's port as the user's files have it.
        protocol: tcp, udp or sctp.
        host: The host's address to connect to.
        port: The host's port.
    """

    service: str
    target: int
    protocol: str
    host: str
    port: int

    @property
    def where(self) -> str:
        """Host and port, as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str | None:
        """The link, where HTTP may be spoken."""
        return f"http://{self.where}" if Port(self.target, self.protocol).may_be_http else None

    @property
    def shown(self) -> str:
        """What a person uses: the link, else host and port."""
        return self.url or self.where

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)


def addresses(usual: Mapping[str, Any], model: Mapping[str, Any]) -> list[Address]:
    """
    Return every host port that *model* publishes, in its order.

    Args:
        usual: The user's own model: its ports name those of the copy.
        model: The copy's model.
    """
    return [
        Address(service=old.service, target=old.target, protocol=old.protocol,
                host=EVERYWHERE.get(new.host_ip, new.host_ip), port=port)
        for old, new in zip(published_ports(usual), published_ports(model), strict=True)
        for port in new.published or ()
    ]  # fmt: skip


def variables(found: Iterable[Address]) -> dict[str, str]:
    """
    Return the variables that tell a program where a copy answers.

    ``STACKYARD_WEB_80_PORT`` is the host port of port 80 of service `web` (``…_53_UDP_PORT`` for UDP, ``…_80_PORT_2``
    for its second container); ``STACKYARD_WEB_HOST``, ``…_PORT`` and ``…_URL`` are of its first port.
    """
    told: dict[str, str] = {}
    for address in found:
        service = f"STACKYARD_{_word(address.service)}"
        kind = "" if address.protocol == "tcp" else f"_{address.protocol.upper()}"
        name = f"{service}_{address.target}{kind}_PORT"
        number = 1
        while (key := name if number == 1 else f"{name}_{number}") in told:
            number += 1
        told[key] = str(address.port)
        if f"{service}_HOST" not in told:
            told |= {f"{service}_HOST": address.host, f"{service}_PORT": str(address.port)}
        if address.protocol == "tcp":
            told.setdefault(f"{service}_URL", f"http://{address.where}")
    return told


def _word(service: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", service.upper())

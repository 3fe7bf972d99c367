"""Where a copy answers: its published ports under the user's own names, and the variables for programs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stackyard.plan.ports import LOOPBACK, LOOPBACKS
from stackyard.project import published_ports

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
        scheme: What a URL begins with, such as http or postgresql; empty if that is not known.
        login: User and password as a URL has them; may be empty.
        path: The URL's path, such as a database; may be empty.
        published: The entry of the user's file in Compose's short form, such as ``8080:80``; empty if not known.
    """

    service: str
    target: int
    protocol: str
    host: str
    port: int
    scheme: str = ""
    login: str = field(default="", repr=False)
    path: str = ""
    published: str = ""

    @property
    def named(self) -> str:
        """The port as its user knows it: as the file publishes it, else the container's."""
        return self.published or f"{self.target}/{self.protocol}"

    @property
    def where(self) -> str:
        """Host and port, as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str | None:
        """The whole URL for a program, password included; None if its protocol is not known."""
        return f"{self.scheme}://{self.login and f'{self.login}@'}{self.where}{self.path}" if self.scheme else None

    @property
    def shown(self) -> str:
        """What a person may see: the URL without user and password, else host and port."""
        return f"{self.scheme}://{self.where}{self.path}" if self.scheme else self.where

    def browser(self, name: str) -> str:
        """
        Return the link for a browser; empty if it does not speak HTTP.

        Browsers resolve every name that ends in `.localhost` to loopback, and keep the cookies of two such names apart.

        Args:
            name: The copy's name or id.
        """
        if not self.scheme.startswith("http"):
            return ""
        host = re.sub(r"[^a-z0-9-]+", "-", name).strip("-")
        return f"{self.scheme}://{host}.localhost:{self.port}" if host and self.host in LOOPBACKS else self.shown

    def kept(self) -> dict[str, Any]:
        """Return the record as plain data from which it can be made again."""
        return asdict(self)

    def to_json(self) -> dict[str, Any]:
        """Return what programs need of it."""
        words = ("service", "target", "protocol", "host", "port", "url")
        return {**{word: getattr(self, word) for word in words}, "published": self.published or None}


def addresses(usual: Mapping[str, Any], model: Mapping[str, Any], here: str = LOOPBACK) -> list[Address]:
    """
    Return every host port that *model* publishes, in its order.

    Args:
        usual: The user's own model: its ports name those of the copy.
        model: The copy's model.
        here: Where its user reaches what the engine publishes everywhere.
    """
    everywhere = EVERYWHERE if here == LOOPBACK else dict.fromkeys(EVERYWHERE, here)
    return [
        Address(service=old.service, target=old.target, protocol=old.protocol,
                host=everywhere.get(new.host_ip, new.host_ip), port=port, published=old.written)
        for old, new in zip(published_ports(usual), published_ports(model), strict=True)
        for port in new.published or ()
    ]  # fmt: skip


def variables(found: Iterable[Address]) -> dict[str, str]:
    """
    Return the variables that tell a program where a copy answers.

    ``STACKYARD_WEB_80_PORT`` is the host port of port 80 of service `web` (``…_53_UDP_PORT`` for UDP, ``…_80_PORT_2``
    for its second container), ``STACKYARD_WEB_80_URL`` its URL if its protocol is known.
    ``STACKYARD_WEB_HOST``, ``…_PORT`` and ``…_ADDRESS`` (``HOST:PORT``) are of the service's first port, and
    ``STACKYARD_WEB_URL`` is the URL of the first port that has one.
    """
    variables: dict[str, str] = {}
    for address in found:
        service = f"STACKYARD_{_word(address.service)}"
        kind = "" if address.protocol == "tcp" else f"_{address.protocol.upper()}"
        name = f"{service}_{address.target}{kind}_PORT"
        number = 1
        while (key := name if number == 1 else f"{name}_{number}") in variables:
            number += 1
        variables[key] = str(address.port)
        if f"{service}_HOST" not in variables:
            variables |= {
                f"{service}_HOST": address.host, f"{service}_PORT": str(address.port),
                f"{service}_ADDRESS": address.where,
            }  # fmt: skip
        if address.url:
            variables.setdefault(f"{service}_{address.target}_URL", address.url)
            variables.setdefault(f"{service}_URL", address.url)
    return variables


def _word(service: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", service.upper())

"""A lease as read from its files or its containers; a lost book is rebuilt from this."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from stackyard.leases.names import EXCLUSIVE, ID
from stackyard.leases.owners import Owner
from stackyard.leases.port_format import parse_ports
from stackyard.leases.records import project_name

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """
    A lease as its files or its running stack show it, to rebuild a lost book.

    Attributes are those of `Lease`.
    """

    id: str
    environment: str
    project: str
    subnet: str
    ports: Mapping[str, int]
    spare: tuple[int, ...]
    owner: Owner
    created: float
    parallel_id: str | None = None
    memory_mb: int = 0
    exclusive: tuple[str, ...] = ()
    checkout: str = ""

    @classmethod
    def from_labels(cls, labels: Mapping[str, str], *, host: str) -> Survivor | None:
        """
        Read the labels of a container or network; None if they do not belong to a lease of *host*.

        Args:
            labels: Names and values.
            host: ``Settings.host`` of the book to rebuild.
        """
        if labels.get("stackyard.host") != host:
            return None
        words = {key.removeprefix("stackyard."): value for key, value in labels.items()}
        return cls._from_words(words)

    @classmethod
    def from_variables(cls, variables: Mapping[str, str], *, host: str) -> Survivor | None:
        """Read the variables of a lease's env file; None if they do not belong to a lease of *host*."""
        if variables.get("STACKYARD_HOST") != host:
            return None
        words = {key.removeprefix("STACKYARD_").lower(): value for key, value in variables.items()}
        return cls._from_words(words)

    @classmethod
    def _from_words(cls, words: Mapping[str, str]) -> Survivor | None:
        owner = Owner.parse(words.get("owner", ""))
        lease, environment = words.get("lease", ""), words.get("environment", "")
        block = parse_ports(words.get("ports", ""))
        subnet = words.get("subnet", "")
        if owner is None or block is None or not all(map(_is_network, subnet.split(","))):
            return None
        if not ID.fullmatch(lease) or not ID.fullmatch(environment):
            return None
        return cls(
            id=lease,
            environment=environment,
            project=project_name(environment, lease),
            subnet=subnet,
            ports=block[0],
            spare=block[1],
            owner=owner,
            created=_seconds(words.get("created", "")),
            parallel_id=name if ID.fullmatch(name := words.get("parallel_id", words.get("name", ""))) else None,
            memory_mb=int(memory) if (memory := words.get("memory_mb", "")).isdecimal() else 0,
            exclusive=tuple(filter(EXCLUSIVE.fullmatch, words.get("exclusive", "").split(","))),
            checkout=words.get("checkout", ""),
        )


def _is_network(text: str) -> bool:
    try:
        IPv4Network(text)
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0

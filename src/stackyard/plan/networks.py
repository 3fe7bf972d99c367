"""Networks of a copy: names of its own, subnets from its lease, static addresses moved along."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from stackyard.plan.records import Change, Concern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Network = IPv4Network | IPv6Network
ADDRESSES: Final = ("ipv4_address", "ipv6_address")
LEAST_PREFIX: Final = 28  # what a network without a subnet of its own is leased


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One subnet of the user's file and the one that the copy has instead, of the same size."""

    before: Network
    after: Network

    def address(self, text: str) -> str | None:
        """Return where an address of the old subnet lies in the new one; None for any other text."""
        try:
            old = ip_address(text)
        except ValueError:
            return None
        if old not in self.before:
            return None
        return str(self.after.network_address + (int(old) - int(self.before.network_address)))

    def network(self, text: str) -> str | None:
        """Return where a part of the old subnet lies in the new one; None for any other text."""
        try:
            part = ip_network(text, strict=False)
        except ValueError:
            return None
        first = self.address(str(part.network_address))
        return f"{first}/{part.prefixlen}" if first else None


def isolate(
    model: dict[str, Any], project: str, subnet: Callable[[int], IPv4Network], shared: frozenset[str]
) -> tuple[list[Change], list[Concern], list[Moved]]:
    """
    Give every network of *model* the copy's name and a subnet of its lease.

    Args:
        model: The rendered model; it is changed.
        project: The copy's Compose project name.
        subnet: Leases an IPv4 network of a prefix length.
        shared: Networks that all copies use together.
    """
    changes: list[Change] = []
    concerns: list[Concern] = []
    moved: list[Moved] = []
    for key, network in (model.get("networks") or {}).items():
        if key in shared:
            concerns.append(_meeting(key, network))
            continue
        _rename(key, network, project, changes)
        moved += _move(key, network, project, subnet, changes)
    _move_addresses(model, moved, changes)
    return changes, concerns, moved


def _meeting(key: str, network: Mapping[str, Any]) -> Concern:
    return Concern(
        level="careful", place=f"networks.{key}", text=f"all copies share network {network.get('name')}",
        advice="names of services of all copies meet there",
    )  # fmt: skip


def _rename(key: str, network: dict[str, Any], project: str, changes: list[Change]) -> None:
    own, place = f"{project}_{key}", f"networks.{key}"
    name, external = str(network.get("name") or ""), bool(network.pop("external", False))
    if name != own:
        why = "an external network would be shared" if external else "a network name exists once on an engine"
        before = f"external {name}" if external else name
        changes.append(Change(kind="network", place=f"{place}.name", before=before, after=own, why=why))
    network["name"] = own


def _move(
    key: str, network: dict[str, Any], project: str, subnet: Callable[[int], IPv4Network], changes: list[Change]
) -> list[Moved]:
    """Replace each subnet by one of the same size; a network without one gets one from the lease."""
    if network.get("driver") in {"host", "none"}:
        return []
    ipam = network["ipam"] = network.get("ipam") or {}
    configs = ipam.setdefault("config", [])
    if not any(":" not in str(config.get("subnet") or ":") for config in configs):
        # a stock engine has address space for about thirty networks; a leased subnet does not count against it
        configs.append({"subnet": str(subnet(LEAST_PREFIX))})
        return _moved_configs(key, configs[:-1], project, subnet, changes)
    return _moved_configs(key, configs, project, subnet, changes)


def _moved_configs(
    key: str, configs: list[dict[str, Any]], project: str, subnet: Callable[[int], IPv4Network], changes: list[Change]
) -> list[Moved]:
    moved = []
    for index, config in enumerate(configs):
        if not config.get("subnet"):
            continue
        before = ip_network(config["subnet"], strict=False)
        after = subnet(before.prefixlen) if before.version == 4 else _ula(project, key, index, before.prefixlen)  # noqa: PLR2004 - IP versions
        move = Moved(before=before, after=after)
        _move_config(config, move)
        moved.append(move)
        changes.append(Change(
            kind="network", place=f"networks.{key}.ipam.config[{index}].subnet", before=str(before), after=str(after),
            why="two networks cannot have one subnet",
        ))  # fmt: skip
    return moved


def _move_config(config: dict[str, Any], move: Moved) -> None:
    config["subnet"] = str(move.after)
    if config.get("gateway"):
        config["gateway"] = move.address(str(config["gateway"])) or config["gateway"]
    if config.get("ip_range"):
        config["ip_range"] = move.network(str(config["ip_range"])) or config["ip_range"]
    for name, address in (config.get("aux_addresses") or {}).items():
        config["aux_addresses"][name] = move.address(str(address)) or address


def _ula(project: str, key: str, index: int, prefix: int) -> IPv6Network:
    """Return a unique local IPv6 network (RFC 4193) made from the copy's name: 40 bits tell copies apart."""
    digest = hashlib.sha256(f"{project}/{key}/{index}".encode()).digest()
    return IPv6Network((b"\xfd" + digest[:7] + bytes(8), prefix), strict=False)


def _move_addresses(model: dict[str, Any], moved: list[Moved], changes: list[Change]) -> None:
    for name, service in model["services"].items():
        for key, settings in (service.get("networks") or {}).items():
            for word in ADDRESSES:
                before = str((settings or {}).get(word) or "")
                after = next((new for move in moved if (new := move.address(before))), None)
                if after:
                    settings[word] = after
                    changes.append(Change(
                        kind="address", place=f"services.{name}.networks.{key}.{word}", before=before, after=after,
                        why="it moves with its subnet",
                    ))  # fmt: skip

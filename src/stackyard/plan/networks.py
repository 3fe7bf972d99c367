"""Networks of a copy: names of its own, subnets from its lease, static addresses moved to the new subnet."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from stackyard.plan.names import rename
from stackyard.plan.records import Change, Concern
from stackyard.project import copies_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Network = IPv4Network | IPv6Network
ADDRESSES: Final = ("ipv4_address", "ipv6_address")
LEAST_PREFIX: Final = 28  # what a network without a subnet of its own is leased
KEPT: Final = 4  # addresses that no container gets: the network's, the gateway's, the broadcast one, and one to spare
IPV4: Final = 4
BRIDGE_NAME: Final = "com.docker.network.bridge.name"
LANS: Final = frozenset(["macvlan", "ipvlan"])  # drivers that put containers on a network that the host is on
UNLEASED: Final = LANS | {"host", "none"}  # drivers whose networks have no subnet of the lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One subnet of the user's file and the one that the copy has instead, large enough for every address in use."""

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
        return f"{first}/{max(part.prefixlen, self.after.prefixlen)}" if first else None


def isolate(
    model: dict[str, Any],
    project: str,
    subnet: Callable[[int], IPv4Network],
    shared: frozenset[str],
    usual: Mapping[str, Any],
) -> tuple[list[Change], list[Concern], list[Moved]]:
    """
    Give every network of *model* the copy's name and a subnet of its lease.

    Args:
        model: The rendered model; it is changed.
        project: The copy's Compose project name.
        subnet: Leases an IPv4 network of a prefix length.
        shared: Networks that all copies use together.
        usual: The user's own model: its names are those of what is shared.
    """
    changes: list[Change] = []
    concerns: list[Concern] = []
    moved: list[Moved] = []
    for key, network in (model.get("networks") or {}).items():
        if key in shared:
            model["networks"][key] = {"name": usual["networks"][key]["name"], "external": True}
            concerns += _meeting(model, key)
            continue
        changes += _rename(key, network, project)
        if interface := lan(key, network):
            concerns.append(_on_the_lan(key, network, interface))
        moved += _move(model, key, project, subnet, changes)
    _move_addresses(model, moved, changes)
    return changes, concerns, moved


def fixed_address(settings: Mapping[str, Any]) -> str:
    """Return the address that a service asks for on a network; empty if it takes any."""
    return next((str(settings[word]) for word in ADDRESSES if settings.get(word)), "")


def lan(key: str, network: Mapping[str, Any]) -> str:
    """Return the host's interface that the containers share, or *key* if none is named; empty for other networks."""
    own = network.get("driver") in LANS and not network.get("external")
    return str((network.get("driver_opts") or {}).get("parent") or key) if own else ""


def _on_the_lan(key: str, network: Mapping[str, Any], interface: str) -> Concern:
    return Concern(
        level="one at a time", place=f"networks.{key}.driver",
        text=f"is {network['driver']}: its containers are on the network of the host's interface {interface}",
        advice="two copies would have the same addresses there, so only one copy can run at a time",
    )  # fmt: skip


def _meeting(model: Mapping[str, Any], key: str) -> Iterator[Concern]:
    yield Concern(
        level="careful", place=f"networks.{key}", text=f"all copies share network {model['networks'][key]['name']}",
        advice="names of services of all copies meet there",
    )  # fmt: skip
    for name, service in model["services"].items():
        settings = (service.get("networks") or {}).get(key) or {}
        if fixed := fixed_address(settings):
            yield Concern(
                level="one at a time", place=f"services.{name}.networks.{key}",
                text=f"has the address {fixed} on a shared network", advice="only one container can have it",
            )  # fmt: skip


def _rename(key: str, network: dict[str, Any], project: str) -> Iterator[Change]:
    yield from rename("network", key, network, project)
    if bridge := (network.get("driver_opts") or {}).pop(BRIDGE_NAME, None):
        yield Change(
            kind="network", place=f"networks.{key}.driver_opts.{BRIDGE_NAME}", before=str(bridge),
            after="the engine's choice", why="an interface's name exists once on a host",
        )  # fmt: skip


def needed(model: Mapping[str, Any], shared: frozenset[str] = frozenset()) -> list[int]:
    """
    Return the prefix lengths of the IPv4 networks that a copy leases, in the order in which `isolate` asks for them.

    Args:
        model: A rendered model.
        shared: Networks that all copies use together.
    """
    networks = {key: network or {} for key, network in (model.get("networks") or {}).items() if key not in shared}
    return [prefix for key, network in networks.items() for prefix in _prefixes(model, key, network)]


def _prefixes(model: Mapping[str, Any], key: str, network: Mapping[str, Any]) -> list[int]:
    if network.get("driver") in UNLEASED:
        return []
    given = [
        (before, config) for config in (network.get("ipam") or {}).get("config") or ()
        if config.get("subnet") and (before := ip_network(config["subnet"], strict=False)).version == IPV4
    ]  # fmt: skip
    members = _members(model, key)
    if not given:
        # a stock engine has address space for about thirty networks; a leased subnet does not count against it
        return [_prefix_of(members + KEPT)]
    return [max(before.prefixlen, _prefix_of(max(members + KEPT, _reach(model, key, before, config))))
            for before, config in given]  # fmt: skip


def _prefix_of(addresses: int) -> int:
    """Return the prefix length of the smallest network with that many addresses, of the usual size at least."""
    return min(LEAST_PREFIX, 32 - (addresses - 1).bit_length())


def _members(model: Mapping[str, Any], key: str) -> int:
    return sum(copies_of(service) for service in model["services"].values() if key in (service.get("networks") or {}))


def _reach(model: Mapping[str, Any], key: str, before: Network, config: Mapping[str, Any]) -> int:
    """Return how many addresses of *before* there are up to the last that the file names; they move along."""
    words = [config.get("gateway"), *(config.get("aux_addresses") or {}).values()]
    words += [((service.get("networks") or {}).get(key) or {}).get("ipv4_address")
              for service in model["services"].values()]  # fmt: skip
    words += [address for service in model["services"].values() for _, _, address in _named_hosts(service)]
    if config.get("ip_range"):
        words.append(str(ip_network(config["ip_range"], strict=False)[-1]))
    named = [address for word in words if word and (address := _address(word)) and address in before]
    return max((int(address) - int(before.network_address) + 2 for address in named), default=0)


def _move(
    model: dict[str, Any], key: str, project: str, subnet: Callable[[int], IPv4Network], changes: list[Change]
) -> list[Moved]:
    """Replace each subnet by a leased one, large enough; a network without one gets one."""
    network = model["networks"][key]
    prefixes = _prefixes(model, key, network)
    if network.get("driver") in UNLEASED:
        return []
    ipam = network["ipam"] = network.get("ipam") or {}
    configs = ipam["config"] = ipam.get("config") or []
    leased = iter([subnet(prefix) for prefix in prefixes])
    moved = _moved_configs(key, configs, project, leased, changes)
    configs += [{"subnet": str(own)} for own in leased]
    return moved


def _moved_configs(
    key: str, configs: list[dict[str, Any]], project: str, leased: Iterator[IPv4Network], changes: list[Change]
) -> list[Moved]:
    moved = []
    for index, config in enumerate(configs):
        if not config.get("subnet"):
            continue
        before = ip_network(config["subnet"], strict=False)
        after = next(leased) if before.version == IPV4 else _ula(project, key, index, before.prefixlen)
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
        for word, index, before in _named_hosts(service):
            if after := next((new for move in moved if (new := move.address(before))), None):
                entries = service[word]
                entries[index] = entries[index].removesuffix(before) + after
                changes.append(Change(
                    kind="address", place=f"services.{name}.{word}[{index}]", before=before, after=after,
                    why="it moves with its subnet",
                ))  # fmt: skip


def _named_hosts(service: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Return key, index and address of each DNS server and each entry of the hosts file."""
    for index, server in enumerate(service.get("dns") or ()):
        yield "dns", index, str(server)
    for index, entry in enumerate(service.get("extra_hosts") or ()):
        yield "extra_hosts", index, re.split(r"[=:]", str(entry), maxsplit=1)[-1]


def _address(word: object) -> IPv4Address | IPv6Address | None:
    with contextlib.suppress(ValueError):
        return ip_address(str(word))
    return None

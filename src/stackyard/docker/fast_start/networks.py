"""Networks, and how a container is on them: names, addresses, ports, links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.fast_start.keys import only
from stackyard.docker.fast_start.records import NetworkPlan
from stackyard.errors import UnsupportedModelError
from stackyard.project.model import copies_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.docker.fast_start.keys import Body

POOL: Final = {"ip_range": "iprange", "gateway": "gateway", "aux_addresses": "aux_addresses"}
ENDPOINT: Final = {"aliases", "ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "priority"}


def network(key: str, spec: Mapping[str, Any], labels: Mapping[str, str]) -> NetworkPlan:
    """
    Return the request for one network.

    Args:
        key: Its name in the model.
        spec: What the model says of it.
        labels: Compose's own labels.

    Raises:
        UnsupportedModelError: If something is not understood.
    """
    where = f"networks.{key}."
    known = {"name", "driver", "driver_opts", "ipam", "labels", "internal", "attachable", "enable_ipv6"}
    only(spec, known, where)
    ipam = spec.get("ipam") or {}
    only(ipam, {"driver", "config"}, f"{where}ipam.")
    configs = ipam.get("config") or []
    for config in configs:
        only(config, {"subnet", *POOL}, f"{where}ipam.config.")
    return NetworkPlan(
        name=spec["name"], driver=spec.get("driver") or "bridge", labels={**(spec.get("labels") or {}), **labels},
        subnets=[config.get("subnet") for config in configs], internal=bool(spec.get("internal")),
        pools=[{POOL[word]: config[word] for word in POOL if config.get(word)} for config in configs],
        ipam_driver=ipam.get("driver") or "default", ipv6=bool(spec.get("enable_ipv6")),
        options={name: str(value) for name, value in (spec.get("driver_opts") or {}).items()},
        attachable=bool(spec.get("attachable")),
    )  # fmt: skip


def attach(body: Body, model: Mapping[str, Any], service: str, name: str, number: int) -> None:
    """
    Put a container on its networks.

    Args:
        body: Filled in.
        model: Where the networks are described.
        service: The container's service.
        name: The container's name.
        number: Its place among the containers of its service, from 1.

    Raises:
        UnsupportedModelError: If something is not understood.
    """
    spec, where = model["services"][service], f"services.{service}"
    links = _links(model, spec, number)
    if links:
        body["HostConfig"]["Links"] = links
    mode = str(spec.get("network_mode") or "")
    if mode:
        if not mode.startswith("service:"):
            body["HostConfig"]["NetworkMode"] = mode
        return
    found = {key: options or {} for key, options in (spec.get("networks") or {}).items()}
    keys = sorted(found, key=lambda key: (-int(found[key].get("priority") or 0), key))
    if not keys:
        raise UnsupportedModelError(f"{where}.networks", found)
    ends = {}
    for key in keys:
        only(found[key], ENDPOINT, f"{where}.networks.{key}.")
        given = (spec.get("networks") or {})[key]
        mac = found[key].get("mac_address") or (spec.get("mac_address") if key == keys[0] else None)
        ends[model["networks"][key]["name"]] = _end(given, [name, service], links, mac)
    body["HostConfig"]["NetworkMode"] = model["networks"][keys[0]]["name"]
    body["NetworkingConfig"] = {"EndpointsConfig": ends}


def _end(
    given: Mapping[str, Any] | None, names: Sequence[str], links: Sequence[str], mac: str | None
) -> dict[str, Any]:
    options = given or {}
    made: dict[str, Any] = {"Aliases": [*names, *(options.get("aliases") or ())]}
    if given is not None:
        made["IPAMConfig"] = {
            "IPv4Address": options.get("ipv4_address") or "", "IPv6Address": options.get("ipv6_address") or "",
            "LinkLocalIPs": options.get("link_local_ips"),
        }  # fmt: skip
    if options.get("ipv4_address"):
        made["IPAddress"] = options["ipv4_address"]
    if options.get("ipv6_address"):
        made["IPv6Gateway"] = options["ipv6_address"]
    if links:
        made["Links"] = [*links]
    if mac:
        made["MacAddress"] = mac
    return made


def _links(model: Mapping[str, Any], spec: Mapping[str, Any], number: int) -> list[str]:
    """Return `links` and `external_links` as the engine has them: container, and the name it is known by."""
    project, found = model["name"], []
    for link in spec.get("links") or ():
        service, _, alias = str(link).partition(":")
        for container in names_of(model, service):
            known_by = (alias or service, f"{service}-{number}", f"{project}-{service}-{number}")
            found += [f"{container}:{word}" for word in known_by]
    for link in spec.get("external_links") or ():
        container, _, alias = str(link).partition(":")
        found.append(f"{container}:{alias or container}")
    return found


def names_of(model: Mapping[str, Any], service: str) -> list[str]:
    """Return the names of a service's containers."""
    spec = model["services"][service]
    given = spec.get("container_name")
    return [given or f"{model['name']}-{service}-{number}" for number in range(1, copies_of(spec) + 1)]


def publish(body: Body, ports: Sequence[Mapping[str, Any]], number: int, count: int, where: str) -> None:
    """
    Publish the ports of a container.

    Of a range that a service's containers share, each container gets one port of its own: the engine's own choice among
    them fails when containers start at the same moment.

    Args:
        body: Filled in.
        ports: The service's `ports`.
        number: The container's place among those of its service, from 1.
        count: How many there are.
        where: The place of *ports* in the model.

    Raises:
        UnsupportedModelError: If something is not understood.
    """
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        only(port, {"mode", "host_ip", "target", "published", "protocol", "name", "app_protocol"}, f"{where}.")
        target = f"{port['target']}/{port.get('protocol') or 'tcp'}"
        binding = {"HostIp": port.get("host_ip", ""), "HostPort": _host_port(port, number, count, where)}
        bindings.setdefault(target, []).append(binding)
    body.setdefault("ExposedPorts", {}).update({target: {} for target in bindings})
    body["HostConfig"]["PortBindings"] = bindings


def _host_port(port: Mapping[str, Any], number: int, count: int, where: str) -> str:
    first, _, last = str(port.get("published") or "").partition("-")
    if not last:
        return first
    if int(last) - int(first) + 1 != count:
        raise UnsupportedModelError(where, port)
    return str(int(first) + number - 1)

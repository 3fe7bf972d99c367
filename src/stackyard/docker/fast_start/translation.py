"""
From Compose's rendered model (`docker compose config --format json`) to the bodies of the engine's requests.

Each key has a function that knows what Compose makes of it. A key without one, or an unexpected value, ends the
translation, and Compose does the start. So no key is ever dropped silently.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.fast_start.records import Blueprint, ContainerPlan, NetworkPlan, VolumePlan
from stackyard.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

COMPOSE: Final = "com.docker.compose"
HASH_LABEL: Final = f"{COMPOSE}.config-hash"
UNITS: Final = {"us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}  # of Go's durations, in ns
# Keys that do not change a container: which services exist, their order, and pulling.
IGNORED: Final = frozenset({"depends_on", "image", "labels", "networks", "profiles", "environment"})


def translate(model: Mapping[str, Any], *, file: Path, env_file: Path) -> Blueprint:
    """
    Return what Compose would make of *model* in an engine that has nothing of this project yet.

    `depends_on` is ignored: all services may start at once.

    Args:
        model: As `docker compose config --format json` prints it.
        file: The Compose file, for the labels that let `docker compose -p` find the project.
        env_file: Its env file, as above.

    Raises:
        UnsupportedModelError: If a part of the model has no translation; the error names its place.
    """
    _only(model, {"name", "networks", "services", "secrets", "volumes"}, "")
    project: str = model["name"]
    labels = {
        f"{COMPOSE}.project": project,
        f"{COMPOSE}.project.config_files": str(file),
        f"{COMPOSE}.project.environment_file": str(env_file),
        f"{COMPOSE}.project.working_dir": str(file.parent),
    }
    return Blueprint(
        networks=[_network(project, key, net) for key, net in (model.get("networks") or {}).items()],
        volumes=[_volume(project, *pair) for pair in (model.get("volumes") or {}).items() if _used(model, pair[0])],
        containers=[_container(model, labels, *pair) for pair in model["services"].items()],
    )


def _only(mapping: Mapping[str, Any], known: set[str] | frozenset[str], where: str) -> None:
    """Raise if *mapping* has an unknown key, unless its value is empty or it is an extension (`x-`)."""
    for key, value in mapping.items():
        if key not in known and not key.startswith("x-") and value not in (None, [], {}, "", False):
            raise UnsupportedModelError(f"{where}{key}", value)


def _network(project: str, key: str, network: Mapping[str, Any]) -> NetworkPlan:
    where = f"networks.{key}."
    _only(network, {"name", "driver", "ipam", "labels", "internal"}, where)
    ipam = network.get("ipam") or {}
    _only(ipam, {"config"}, f"{where}ipam.")
    configs = ipam.get("config") or []
    for config in configs:
        _only(config, {"subnet"}, f"{where}ipam.config.")
    return NetworkPlan(
        name=network["name"], driver=network.get("driver") or "bridge",
        subnets=[config["subnet"] for config in configs],
        labels={**(network.get("labels") or {}), f"{COMPOSE}.project": project, f"{COMPOSE}.network": key},
        internal=bool(network.get("internal")),
    )  # fmt: skip


def _used(model: Mapping[str, Any], key: str) -> bool:
    """Say whether a service mounts the volume *key*; Compose makes no other volumes."""
    mounts = [mount for service in model["services"].values() for mount in service.get("volumes") or ()]
    return any(mount.get("type") == "volume" and mount.get("source") == key for mount in mounts)


def _volume(project: str, key: str, volume: Mapping[str, Any]) -> VolumePlan:
    _only(volume, {"name", "labels"}, f"volumes.{key}.")
    labels = {**(volume.get("labels") or {}), f"{COMPOSE}.project": project, f"{COMPOSE}.volume": key}
    return VolumePlan(name=volume["name"], labels=labels)


def _container(
    model: Mapping[str, Any], labels: Mapping[str, str], service: str, spec: Mapping[str, Any]
) -> ContainerPlan:
    name = f"{model['name']}-{service}-1"
    config: dict[str, Any] = {
        "Image": spec["image"], "AttachStdout": True, "AttachStderr": True, "Env": _environment(spec, service),
        "Labels": _container_labels(spec, labels, service),
        "HostConfig": {"Mounts": [], "ExtraHosts": [], "PortBindings": {}},
    }  # fmt: skip
    for key, value in spec.items():
        if key in IGNORED or value is None or key.startswith("x-"):
            continue
        if key not in TRANSLATORS:
            raise UnsupportedModelError(f"services.{service}.{key}", value)
        TRANSLATORS[key](config, value, _Place(model=model, where=f"services.{service}.{key}"))
    _attach(config, model, spec, service, name)
    # as Compose: a mount's place in the list follows the sorted targets
    config["HostConfig"]["Mounts"].sort(key=lambda mount: mount["Target"])
    _stamp(config)
    return ContainerPlan(service=service, name=name, config=config)


def _environment(spec: Mapping[str, Any], service: str) -> list[str]:
    found = spec.get("environment") or {}
    for key, value in found.items():
        if value is None:  # Compose would take it from the caller's environment, which stackyard keeps out
            raise UnsupportedModelError(f"services.{service}.environment.{key}", value)
    return [f"{key}={value}" for key, value in found.items()]


def _container_labels(spec: Mapping[str, Any], labels: Mapping[str, str], service: str) -> dict[str, str]:
    own = {"service": service, "container-number": "1", "oneoff": "False", "depends_on": ""}
    return {**(spec.get("labels") or {}), **labels, **{f"{COMPOSE}.{key}": value for key, value in own.items()}}


def _stamp(config: dict[str, Any]) -> None:
    """
    Label *config* with a digest of itself, where Compose keeps its own.

    Without one, `docker compose exec`, `logs` and `ps` do not see a container. Compose's `up` never makes one that
    equals it, and so makes the container again, as it does after any change.
    """
    text = json.dumps({**config, "Env": sorted(config["Env"])}, sort_keys=True)
    config["Labels"][HASH_LABEL] = f"stackyard-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _attach(config: dict[str, Any], model: Mapping[str, Any], spec: Mapping[str, Any], service: str, name: str) -> None:
    """Put the container into its one network."""
    networks = spec.get("networks") or {}
    if len(networks) != 1:
        raise UnsupportedModelError(f"services.{service}.networks", networks)
    key, options = next(iter(networks.items()))
    _only(options or {}, {"aliases"}, f"services.{service}.networks.{key}.")
    network = model["networks"][key]["name"]
    aliases = [name, service, *((options or {}).get("aliases") or ())]
    config["HostConfig"]["NetworkMode"] = network
    config["NetworkingConfig"] = {"EndpointsConfig": {network: {"Aliases": aliases}}}


class _Place:
    """Where in the model a value stands."""

    def __init__(self, *, model: Mapping[str, Any], where: str) -> None:
        self.model = model
        self.where = where

    def refuse(self, value: object) -> UnsupportedModelError:
        return UnsupportedModelError(self.where, value)


def _top(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[..., None]:
    """Return a translator of a value that belongs to the container itself."""

    def translator(config: dict[str, Any], value: Any, _place: _Place) -> None:
        config[name] = convert(value)

    return translator


def _host(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[..., None]:
    """Return a translator of a value that belongs to the container's host configuration."""

    def translator(config: dict[str, Any], value: Any, _place: _Place) -> None:
        config["HostConfig"][name] = convert(value)

    return translator


def nanoseconds(text: str) -> int:
    """
    Return the nanoseconds of a duration as Go prints it, for example 1m30s or 250ms.

    Raises:
        UnsupportedModelError: If it is not a duration.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", text)
    if "".join(f"{number}{unit}" for number, unit in parts) != text or not parts:
        raise UnsupportedModelError("duration", text)
    return round(sum(float(number) * UNITS[unit] for number, unit in parts))


def _healthcheck(config: dict[str, Any], value: Mapping[str, Any], place: _Place) -> None:
    names = {
        "test": "Test", "interval": "Interval", "timeout": "Timeout", "retries": "Retries",
        "start_period": "StartPeriod", "start_interval": "StartInterval",
    }  # fmt: skip
    _only(value, set(names), f"{place.where}.")
    plain = {"test", "retries"}
    config["Healthcheck"] = {
        names[key]: entry if key in plain else nanoseconds(entry) for key, entry in value.items() if entry is not None
    }


def _ports(config: dict[str, Any], value: Sequence[Mapping[str, Any]], place: _Place) -> None:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in value:
        _only(port, {"mode", "host_ip", "target", "published", "protocol"}, f"{place.where}.")
        if port.get("mode", "ingress") != "ingress" or not str(port.get("published", "")).isdecimal():
            raise place.refuse(port)
        target = f"{port['target']}/{port.get('protocol', 'tcp')}"
        binding = {"HostIp": port.get("host_ip", ""), "HostPort": str(port["published"])}
        bindings.setdefault(target, []).append(binding)
    config["ExposedPorts"] = {target: {} for target in bindings}
    config["HostConfig"]["PortBindings"] = bindings


def _secrets(config: dict[str, Any], value: Sequence[Mapping[str, Any]], place: _Place) -> None:
    for secret in value:
        _only(secret, {"source", "target"}, f"{place.where}.")
        source = place.model["secrets"][secret["source"]]
        _only(source, {"name", "file"}, f"secrets.{secret['source']}.")
        if not source.get("file"):
            raise place.refuse(source)
        target = secret.get("target") or secret["source"]
        mount = {
            "Type": "bind", "Source": source["file"], "ReadOnly": True,
            "Target": target if target.startswith("/") else f"/run/secrets/{target}",
        }  # fmt: skip
        config["HostConfig"]["Mounts"].append(mount)


def _volumes(config: dict[str, Any], value: Sequence[Mapping[str, Any]], place: _Place) -> None:
    for volume in value:
        _only(volume, {"type", "source", "target", "read_only"}, f"{place.where}.")
        mount = {"Target": volume["target"], "Type": volume["type"]}
        if volume["type"] == "volume" and volume.get("source"):
            mount["Source"] = place.model["volumes"][volume["source"]]["name"]
        elif volume["type"] != "tmpfs":
            raise place.refuse(volume)
        if volume.get("read_only"):
            mount["ReadOnly"] = True
        config["HostConfig"]["Mounts"].append(mount)


def _tmpfs(config: dict[str, Any], value: Sequence[str], _place: _Place) -> None:
    mounts = (entry.partition(":") for entry in value)
    config["HostConfig"]["Tmpfs"] = {target: options for target, _, options in mounts}


def _ulimits(config: dict[str, Any], value: Mapping[str, Any], place: _Place) -> None:
    found = []
    for name, limit in value.items():
        both = {"soft": limit, "hard": limit} if isinstance(limit, int) else dict(limit)
        _only(both, {"soft", "hard"}, f"{place.where}.{name}.")
        found.append({"Name": name, "Soft": both["soft"], "Hard": both["hard"]})
    config["HostConfig"]["Ulimits"] = found


def _logging(config: dict[str, Any], value: Mapping[str, Any], place: _Place) -> None:
    _only(value, {"driver", "options"}, f"{place.where}.")
    config["HostConfig"]["LogConfig"] = {"Type": value.get("driver", ""), "Config": value.get("options") or {}}


def _pull_policy(_config: dict[str, Any], value: str, place: _Place) -> None:
    if value != "never":  # what the engine does: a missing image is an error
        raise place.refuse(value)


def _restart(config: dict[str, Any], value: str, _place: _Place) -> None:
    name, _, count = value.partition(":")
    config["HostConfig"]["RestartPolicy"] = {"Name": name, "MaximumRetryCount": int(count or 0)}


def _seconds(value: str) -> int:
    return nanoseconds(value) // 10**9


TRANSLATORS: Final[Mapping[str, Callable[..., None]]] = {
    "annotations": _host("Annotations"),
    "cap_add": _host("CapAdd"),
    "cap_drop": _host("CapDrop"),
    "command": _top("Cmd"),
    "cpus": _host("NanoCpus", lambda value: round(float(value) * 1e9)),
    "dns": _host("Dns"),
    "dns_opt": _host("DnsOptions"),
    "dns_search": _host("DnsSearch"),
    "entrypoint": _top("Entrypoint"),
    "extra_hosts": _host("ExtraHosts", lambda value: [entry.replace("=", ":", 1) for entry in value]),
    "healthcheck": _healthcheck,
    "hostname": _top("Hostname"),
    "init": _host("Init"),
    "logging": _logging,
    "mem_limit": _host("Memory", int),
    "mem_reservation": _host("MemoryReservation", int),
    "memswap_limit": _host("MemorySwap", int),
    "pids_limit": _host("PidsLimit"),
    "ports": _ports,
    "pull_policy": _pull_policy,
    "read_only": _host("ReadonlyRootfs"),
    "restart": _restart,
    "secrets": _secrets,
    "security_opt": _host("SecurityOpt"),
    "shm_size": _host("ShmSize", int),
    "stop_grace_period": _top("StopTimeout", _seconds),
    "stop_signal": _top("StopSignal"),
    "tmpfs": _tmpfs,
    "ulimits": _ulimits,
    "user": _top("User"),
    "volumes": _volumes,
    "working_dir": _top("WorkingDir"),
}

"""
The keys of a service, and what Compose makes of each in the body of `POST /containers/create`.

A key has a function that fills in the body. Keys that change no container are listed. Everything else is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from stackyard.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

UNITS: Final = {"us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}  # of Go's durations, in ns
EMPTY: Final[tuple[object, ...]] = (None, [], {}, "", False)
# `docker compose up` reads these for other purposes than a container, or `translation` does
IGNORED: Final = frozenset({
    "attach", "configs", "container_name", "depends_on", "develop", "environment", "external_links", "image", "labels",
    "links", "mac_address", "network_mode", "networks", "platform", "ports", "profiles", "scale", "secrets", "volumes",
})  # fmt: skip
# of `deploy`: what only a Swarm reads
SWARM: Final = frozenset({
    "endpoint_mode", "labels", "mode", "placement", "replicas", "rollback_config", "update_config",
})  # fmt: skip
RESTARTS: Final = {"none": "no", "any": "always"}  # conditions of `deploy.restart_policy` by the engine's other names
PLAIN_SECURITY: Final = ("no-new-privileges", "label", "apparmor", "seccomp=unconfined")
# keys whose value the engine takes as it is: of the container's host configuration, ...
HOST: Final = {
    "annotations": "Annotations", "cap_add": "CapAdd", "cap_drop": "CapDrop", "cgroup": "CgroupnsMode",
    "cgroup_parent": "CgroupParent", "cpuset": "CpusetCpus", "device_cgroup_rules": "DeviceCgroupRules", "dns": "Dns",
    "dns_opt": "DnsOptions", "dns_search": "DnsSearch", "init": "Init", "oom_kill_disable": "OomKillDisable",
    "privileged": "Privileged", "read_only": "ReadonlyRootfs", "runtime": "Runtime", "storage_opt": "StorageOpt",
    "sysctls": "Sysctls", "userns_mode": "UsernsMode", "uts": "UTSMode",
}  # fmt: skip
# ... the same as a whole number, ...
NUMBERS: Final = {
    "cpu_period": "CpuPeriod", "cpu_quota": "CpuQuota", "cpu_shares": "CpuShares", "mem_limit": "Memory",
    "mem_reservation": "MemoryReservation", "mem_swappiness": "MemorySwappiness", "memswap_limit": "MemorySwap",
    "oom_score_adj": "OomScoreAdj", "pids_limit": "PidsLimit", "shm_size": "ShmSize",
}  # fmt: skip
# ... and of the container itself
TOP: Final = {
    "command": "Cmd", "domainname": "Domainname", "entrypoint": "Entrypoint", "hostname": "Hostname",
    "stdin_open": "OpenStdin", "stop_signal": "StopSignal", "tty": "Tty", "user": "User", "working_dir": "WorkingDir",
}  # fmt: skip

Body = dict[str, Any]


def only(mapping: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """
    Refuse an unknown key, unless its value is empty or it is an extension (`x-`).

    Raises:
        UnsupportedModelError: If there is one.
    """
    for key, value in mapping.items():
        if key not in known and not key.startswith("x-") and value not in EMPTY:
            raise UnsupportedModelError(f"{where}{key}", value)


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


def fill(body: Body, spec: Mapping[str, Any], where: str) -> None:
    """
    Fill in what the keys of one service make of its container.

    Args:
        body: Filled in; it has a ``HostConfig``.
        spec: The service.
        where: Its place in the model.

    Raises:
        UnsupportedModelError: If a key or its value has no translation; the error names its place.
    """
    for key, value in sorted(spec.items(), key=lambda item: item[0] == "deploy"):  # its values win
        if key in IGNORED or value is None or key.startswith("x-") or (key not in TRANSLATORS and value in EMPTY):
            continue
        if key not in TRANSLATORS:
            raise UnsupportedModelError(f"{where}.{key}", value)
        TRANSLATORS[key](body, value, f"{where}.{key}")


def _top(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[..., None]:
    """Return a translator of a value that belongs to the container itself."""

    def translator(body: Body, value: Any, _where: str) -> None:
        body[name] = convert(value)

    return translator


def _host(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[..., None]:
    """Return a translator of a value that belongs to the container's host configuration."""

    def translator(body: Body, value: Any, _where: str) -> None:
        body["HostConfig"][name] = convert(value)

    return translator


def _nano_cpus(value: object) -> int:
    return round(float(str(value)) * 1e9)


def _whole(value: object) -> int:
    return int(str(value))


def _healthcheck(body: Body, value: Mapping[str, Any], where: str) -> None:
    names = {
        "test": "Test", "interval": "Interval", "timeout": "Timeout", "retries": "Retries",
        "start_period": "StartPeriod", "start_interval": "StartInterval",
    }  # fmt: skip
    only(value, {*names, "disable"}, f"{where}.")
    plain = {"test", "retries"}
    body["Healthcheck"] = {
        names[key]: entry if key in plain else nanoseconds(entry)
        for key, entry in value.items() if key in names and entry is not None
    }  # fmt: skip
    if value.get("disable"):
        body["Healthcheck"]["Test"] = ["NONE"]


def _expose(body: Body, value: Sequence[object], _where: str) -> None:
    body.setdefault("ExposedPorts", {}).update({str(port): {} for port in value})


def _tmpfs(body: Body, value: Sequence[str], _where: str) -> None:
    mounts = (entry.partition(":") for entry in value)
    body["HostConfig"]["Tmpfs"] = {target: options for target, _, options in mounts}


def _ulimits(body: Body, value: Mapping[str, Any], where: str) -> None:
    found = []
    for name, limit in value.items():
        both = {"soft": limit, "hard": limit} if isinstance(limit, int) else dict(limit)
        only(both, {"soft", "hard"}, f"{where}.{name}.")
        found.append({"Name": name, "Soft": both.get("soft", 0), "Hard": both.get("hard", 0)})
    body["HostConfig"]["Ulimits"] = found


def _logging(body: Body, value: Mapping[str, Any], where: str) -> None:
    only(value, {"driver", "options"}, f"{where}.")
    body["HostConfig"]["LogConfig"] = {"Type": value.get("driver", ""), "Config": value.get("options") or {}}


def _pull_policy(_body: Body, value: str, where: str) -> None:
    if value not in {"never", "missing", "if_not_present"}:  # the image is here, or nothing is translated
        raise UnsupportedModelError(where, value)


def _restart(body: Body, value: str, _where: str) -> None:
    name, _, count = value.partition(":")
    body["HostConfig"]["RestartPolicy"] = {"Name": name, "MaximumRetryCount": int(count or 0)}


def _deploy(body: Body, value: Mapping[str, Any], where: str) -> None:
    only(value, {*SWARM, "resources", "restart_policy"}, f"{where}.")
    resources = value.get("resources") or {}
    only(resources, {"limits", "reservations"}, f"{where}.resources.")
    limits, reserved = resources.get("limits") or {}, resources.get("reservations") or {}
    only(limits, {"cpus", "memory", "pids"}, f"{where}.resources.limits.")
    only(reserved, {"cpus", "memory"}, f"{where}.resources.reservations.")
    wanted = (
        ("Memory", limits.get("memory"), _whole), ("NanoCpus", limits.get("cpus"), _nano_cpus),
        ("PidsLimit", limits.get("pids"), _whole), ("MemoryReservation", reserved.get("memory"), _whole),
    )  # fmt: skip
    body["HostConfig"] |= {name: convert(found) for name, found, convert in wanted if found}
    if policy := value.get("restart_policy"):
        condition = str(policy.get("condition") or "")
        name, count = RESTARTS.get(condition, condition), int(policy.get("max_attempts") or 0)
        body["HostConfig"]["RestartPolicy"] = {"Name": name, "MaximumRetryCount": count}


def _devices(body: Body, value: Sequence[Any], _where: str) -> None:
    names = {"PathOnHost": "source", "PathInContainer": "target", "CgroupPermissions": "permissions"}
    body["HostConfig"]["Devices"] = [{name: _device(one)[key] for name, key in names.items()} for one in value]


def _device(entry: Mapping[str, str] | str) -> Mapping[str, str]:
    """Return a device in the long form; older Compose writes ``source:target:permissions``."""
    if not isinstance(entry, str):
        return {"target": entry["source"], "permissions": "rwm", **entry}
    source, _, rest = entry.partition(":")
    target, _, permissions = rest.partition(":")
    return {"source": source, "target": target or source, "permissions": permissions or "rwm"}


def _security_opt(body: Body, value: Sequence[str], where: str) -> None:
    for option in value:
        if not option.startswith(PLAIN_SECURITY):  # a profile that Compose reads from a file, or takes apart
            raise UnsupportedModelError(where, option)
    body["HostConfig"]["SecurityOpt"] = list(value)


def _namespace(name: str) -> Callable[..., None]:
    """Return a translator of a namespace; one of another service is joined when that has a container."""

    def translator(body: Body, value: str, _where: str) -> None:
        if not value.startswith("service:"):
            body["HostConfig"][name] = value

    return translator


def _seconds(value: str) -> int:
    return nanoseconds(value) // 10**9


def _hosts(value: Sequence[str]) -> list[str]:
    return [entry.replace("=", ":", 1) for entry in value]


TRANSLATORS: Final[Mapping[str, Callable[..., None]]] = {
    **{key: _host(name) for key, name in HOST.items()},
    **{key: _host(name, _whole) for key, name in NUMBERS.items()},
    **{key: _top(name) for key, name in TOP.items()},
    "cpus": _host("NanoCpus", _nano_cpus),
    "deploy": _deploy,
    "devices": _devices,
    "expose": _expose,
    "extra_hosts": _host("ExtraHosts", _hosts),
    "group_add": _host("GroupAdd", lambda value: [str(group) for group in value]),
    "healthcheck": _healthcheck,
    "ipc": _namespace("IpcMode"),
    "logging": _logging,
    "pid": _namespace("PidMode"),
    "pull_policy": _pull_policy,
    "restart": _restart,
    "security_opt": _security_opt,
    "stop_grace_period": _top("StopTimeout", _seconds),
    "tmpfs": _tmpfs,
    "ulimits": _ulimits,
}

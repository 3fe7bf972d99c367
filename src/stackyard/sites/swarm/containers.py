"""The container of a service: the engine's request for a container, translated to the keys of a Swarm service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.probes.readiness_rules import Rule
    from stackyard.sites.swarm.translation_notes import Notes

SPEC: Final = {
    "Cmd": "Args", "Entrypoint": "Command", "Hostname": "Hostname", "Healthcheck": "Healthcheck", "Tty": "TTY",
    "OpenStdin": "OpenStdin", "StopSignal": "StopSignal", "User": "User", "WorkingDir": "Dir",
}  # fmt: skip
HOST: Final = {
    "CapAdd": "CapabilityAdd", "CapDrop": "CapabilityDrop", "GroupAdd": "Groups", "Init": "Init",
    "ReadonlyRootfs": "ReadOnly", "Sysctls": "Sysctls", "Ulimits": "Ulimits", "OomScoreAdj": "OomScoreAdj",
}  # fmt: skip
DNS: Final = {"Dns": "Nameservers", "DnsOptions": "Options", "DnsSearch": "Search"}
# what others read, or what says nothing about a container
ELSEWHERE: Final = frozenset({
    "Memory", "MemoryReservation", "NanoCpus", "PidsLimit", "LogConfig", "ExtraHosts", "ExposedPorts", "StopTimeout",
})  # fmt: skip
SECOND: Final = 10**9
# 126 and 127 say that the image has no client: then its listener has to be enough, as on one engine
CHECKED: Final = "( {script} )\ncode=$?; case $code in 126|127) exit 0;; esac; exit $code"


def spec(body: Mapping[str, Any], service: Mapping[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    """
    Return the ``ContainerSpec`` of a service.

    Args:
        body: The engine's own request for the container.
        service: The service, as the model has it.
        where: Its place in the model.
        notes: Where dropped parts are named.
    """
    host = body["HostConfig"]
    found = {SPEC[key]: value for key, value in body.items() if key in SPEC}
    found |= {HOST[key]: value for key, value in host.items() if key in HOST}
    if dns := {DNS[key]: value for key, value in host.items() if key in DNS}:
        found["DNSConfig"] = dns
    if hosts := host.get("ExtraHosts"):
        found["Hosts"] = [_host(entry, where, notes) for entry in hosts]
    known = {*SPEC, *HOST, *DNS, *ELSEWHERE, "HostConfig"}
    for key in sorted({*body, *host} - known):
        notes.drop(f"{where} ({key})", "a service has no word for it")
    if rights := _privileges(service, where, notes):
        found["Privileges"] = rights
    return found


def _host(entry: str, where: str, notes: Notes) -> str:
    """Return an entry of `/etc/hosts` as a service has it: the address first."""
    name, _, address = entry.partition(":")
    if address == "host-gateway":
        notes.refuse(f"{where}.extra_hosts", f"{entry}: this host is not the node's; use its real address")
    return f"{address} {name}"


def _privileges(service: Mapping[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    rights: dict[str, Any] = {}
    for option in service.get("security_opt") or ():
        name, _, value = str(option).replace("=", ":", 1).partition(":")
        if name == "no-new-privileges":
            rights["NoNewPrivileges"] = value in {"", "true"}
        elif option.replace("=", ":") in {"seccomp:unconfined", "apparmor:unconfined"}:
            rights[{"seccomp": "Seccomp", "apparmor": "AppArmor"}[name]] = {
                "Mode": "unconfined" if name == "seccomp" else "disabled"
            }
        else:
            notes.drop(f"{where}.security_opt", f"{option}: a service has no word for it")
    return rights


def resources(body: Mapping[str, Any], service: Mapping[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    """
    Return limits and reservations of a service; a memory limit is also reserved, so that nodes are not overfilled.

    Args:
        body: The engine's own request for the container.
        service: The service, as the model has it.
        where: Its place in the model.
        notes: Where changed parts are named.
    """
    host, given = body["HostConfig"], (service.get("deploy") or {}).get("resources") or {}
    limits, reserved = given.get("limits") or {}, given.get("reservations") or {}
    if reserved.get("devices") or reserved.get("generic_resources"):
        notes.refuse(f"{where}.deploy.resources.reservations.devices", "a node's devices are not part of a service")
    memory = int(limits.get("memory") or host.get("Memory") or 0)
    if host.get("Memory"):
        notes.change(f"{where}.mem_limit", "resources.limits.memory")
    kept = int(reserved.get("memory") or host.get("MemoryReservation") or 0)
    if memory and not kept:
        notes.change(f"{where}.deploy.resources", "its memory limit is reserved on the node too")
    most = {
        "MemoryBytes": memory, "NanoCPUs": _nano(limits.get("cpus")) or int(host.get("NanoCpus") or 0),
        "Pids": int(limits.get("pids") or host.get("PidsLimit") or 0),
    }  # fmt: skip
    least = {"MemoryBytes": kept or memory, "NanoCPUs": _nano(reserved.get("cpus"))}
    return {
        "Limits": {key: value for key, value in most.items() if value > 0},
        "Reservations": {key: value for key, value in least.items() if value > 0},
    }


def _nano(cpus: object) -> int:
    return round(float(str(cpus or 0)) * 1e9)


def client_check(rule: Rule) -> dict[str, Any]:
    """Return the health check that runs a database's own client; the nodes run it as a start's own proof."""
    shell, option, script, *rest = rule.words
    return {
        "Test": ["CMD", shell, option, CHECKED.format(script=script), *rest], "Interval": 5 * SECOND,
        "Timeout": round(rule.timeout * SECOND), "Retries": 3, "StartPeriod": 600 * SECOND,
        "StartInterval": SECOND // 10,
    }  # fmt: skip

"""Checks of a running stack: what the kernel really enforces, whatever the Compose file asked for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.advice import Action
from stackyard.checks.records import check
from stackyard.docker.container_commands import output
from stackyard.docker.records import SERVICE_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackyard.docker import Engine
    from stackyard.stacks.environments.stack import Stack

LIMIT_FILES: Final = ("memory.max", "memory.swap.max", "pids.max", "cpu.max")
CGROUP: Final = "/sys/fs/cgroup"
FILTERED: Final = 2  # Seccomp in /proc/PID/status: a filter is loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """
    One running container as the checks see it.

    Attributes:
        facts: What the engine says of it (`docker inspect`).
        status: /proc/1/status, seen from inside.
        command: /proc/1/cmdline, and the environment of its process.
        mounts: /proc/1/mounts, by mount point: its options.
        limits: The files of its control group; empty where the host has another kind.
    """

    service: str
    facts: Mapping[str, Any]
    status: Mapping[str, str]
    command: str = ""
    mounts: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """
    A running stack.

    Attributes:
        listeners: Each address and port the host listens on, of those that are leased.
        secrets: What nothing may show.
        images: The id of the image each service should run; empty where that is not known.
    """

    containers: Sequence[Container]
    listeners: Sequence[tuple[str, int]] = ()
    secrets: Sequence[str] = field(default=(), repr=False)
    images: Mapping[str, str] = field(default_factory=dict)


def look(stack: Stack) -> Running:
    """
    Look at every container of *stack* from the host and from inside.

    Raises:
        EngineError: If the engine does not answer or a container ended in the meantime.
        BookError: If the lease's files cannot be read.
    """
    engine = stack.engine
    found = stack.containers()
    return Running(
        containers=[_container(engine, item.id, item.labels.get(SERVICE_LABEL, item.name)) for item in found],
        listeners=_listeners(frozenset({*stack.lease.ports.values(), *stack.lease.spare})),
        secrets=stack.lease.secrets(),
    )


def _container(engine: Engine, identity: str, service: str) -> Container:
    from stackyard.docker.engine import plain_errors

    with plain_errors(f"inspecting container {service}"):
        facts = engine.api.inspect_container(identity)
    _, status = output(engine, identity, "cat", "/proc/1/status")
    _, command = output(engine, identity, "cat", "/proc/1/cmdline", "/proc/1/environ")
    _, mounts = output(engine, identity, "cat", "/proc/1/mounts")
    code, limits = output(engine, identity, "cat", *(f"{CGROUP}/{name}" for name in LIMIT_FILES))
    return Container(
        service=service, facts=facts, command=command, mounts=_mounts(mounts),
        status=dict(_pair(line) for line in status.splitlines() if ":" in line),
        limits=dict(zip(LIMIT_FILES, limits.splitlines(), strict=False)) if code == 0 else {},
    )  # fmt: skip


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key, " ".join(value.split())


def _mounts(text: str) -> dict[str, str]:
    rows = (line.split() for line in text.splitlines())
    return {row[1]: row[3] for row in rows if len(row) > 3}  # noqa: PLR2004 - device, point, type, options


def _listeners(ports: frozenset[int]) -> list[tuple[str, int]]:
    import psutil

    # a socket's address is an empty tuple where it has none, which a listener never is
    rows = [row.laddr for row in psutil.net_connections(kind="tcp") if row.status == "LISTEN" and row.laddr]
    return sorted({(address.ip, address.port) for address in rows if address.port in ports})


@check("stack-user", "every process runs as a user that is not root", fix="set user: in the Compose file")
def user(stack: Running) -> Iterator[str]:
    """The check looks at the real, effective, saved and file-system ids."""
    for item in stack.containers:
        ids = {word for key in ("Uid", "Gid") for word in item.status.get(key, "0").split()}
        if "0" in ids:
            yield f"{item.service}: Uid {item.status.get('Uid')}, Gid {item.status.get('Gid')}"


@check("stack-capabilities", "no process has a capability", fix="set cap_drop: [ALL]")
def capabilities(stack: Running) -> Iterator[str]:
    """A missing capability cannot be misused. An exec could use the bounding and permitted sets, so they count."""
    for item in stack.containers:
        sets = {key: item.status.get(key, "missing") for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
        held = [f"{key} {value}" for key, value in sets.items() if value.strip("0")]
        if held:
            yield f"{item.service}: {', '.join(held)}"


@check("stack-no-new-privileges", "no process can gain privileges", fix="set security_opt: [no-new-privileges:true]")
def no_new_privileges(stack: Running) -> Iterator[str]:
    """A setuid file then has no effect."""
    for item in stack.containers:
        if item.status.get("NoNewPrivs") != "1":
            yield f"{item.service}: NoNewPrivs {item.status.get('NoNewPrivs')}"


@check(
    "stack-seccomp",
    "the engine's system call filter is loaded",
    fix="remove security_opt seccomp:unconfined; check the engine's own setting",
)
def seccomp(stack: Running) -> Iterator[str]:
    """It blocks about fifty system calls that services never need and that many kernel exploits used."""
    for item in stack.containers:
        if item.status.get("Seccomp") != str(FILTERED):
            yield f"{item.service}: Seccomp {item.status.get('Seccomp')}"


@check("stack-read-only", "no container can write its root", fix="set read_only: true and a tmpfs where it must write")
def read_only(stack: Running) -> Iterator[str]:
    """If a service cannot write its root, an intruder cannot change it either, and it needs no disk."""
    for item in stack.containers:
        if "ro" not in item.mounts.get("/", "rw").split(","):
            yield f"{item.service}: / is mounted {item.mounts.get('/', 'unknown')}"


@check(
    "stack-limits",
    "the control group enforces the limits",
    fix="check the engine's cgroup driver, with docker info",
    action=Action.CHECK_HOST,
)
def limits(stack: Running) -> Iterator[str]:
    """If the host does not account for memory, the engine accepts every limit and enforces none."""
    for item in stack.containers:
        host = item.facts["HostConfig"]
        expected = {
            "memory.max": str(host["Memory"]), "memory.swap.max": str(host["MemorySwap"] - host["Memory"]),
            "pids.max": str(host["PidsLimit"]),
        }  # fmt: skip
        wrong = [
            f"{key} {item.limits[key]}, asked {value}"
            for key, value in expected.items()
            if item.limits.get(key, value) != value
        ]
        wrong += [
            f"{key} {value}" for key, value in item.limits.items() if value.startswith("max") and key not in expected
        ]
        if not item.limits:
            wrong = [] if host["Memory"] and host["PidsLimit"] and host["NanoCpus"] else ["asks for no limits"]
        if wrong:
            yield f"{item.service}: {'; '.join(wrong)}"


@check("stack-health", "every service runs and is not unhealthy", fix="read its log", action=Action.LOGS)
def health(stack: Running) -> Iterator[str]:
    """A running container may still not work; the engine's health check confirms what our probes say."""
    for item in stack.containers:
        state = item.facts["State"]
        word = (state.get("Health") or {}).get("Status", "none")
        if state["Status"] != "running" or word not in {"healthy", "starting"}:
            yield f"{item.service}: {state['Status']}, health {word}"


@check("stack-listeners", "leased ports listen only on 127.0.0.1", fix="write host_ip: 127.0.0.1 in the Compose file")
def listeners(stack: Running) -> Iterator[str]:
    """The check reads the host's own table of listening sockets."""
    for address, port in stack.listeners:
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            yield f"{address}:{port}"


@check("stack-secret", "no secret in inspect, command line or environment", fix="pass it as a file: secrets")
def secret(stack: Running) -> Iterator[str]:
    """Others can read all three: the engine's users, the host's users, every child process."""
    for item in stack.containers:
        places = {"docker inspect": str(item.facts), "command line or environment": item.command}
        for place, text in places.items():
            if any(value in text for value in stack.secrets):
                yield f"{item.service}: a secret of the lease in {place}"


@check(
    "stack-host",
    "no container shares a namespace, device or socket of the host",
    fix="remove privileged, host namespaces and bind mounts",
)
def host(stack: Running) -> Iterator[str]:
    """A container that can write to the engine's socket can start another one that is root on the host."""
    for item in stack.containers:
        settings = item.facts["HostConfig"]
        keys = ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode")
        shared = [f"{key} host" for key in keys if settings.get(key) == "host"]
        shared += ["privileged"] if settings.get("Privileged") else []
        shared += ["devices"] if settings.get("Devices") else []
        shared += [point for point in item.mounts if point.endswith("docker.sock")]
        if shared:
            yield f"{item.service}: {', '.join(shared)}"


CHECKS: Final = (
    user, capabilities, no_new_privileges, seccomp, read_only, limits, health, listeners, secret, host,
)  # fmt: skip

"""Checks of the Compose model: the file as Compose renders it for one environment, every variable filled in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import optional_packages, process
from stackyard._util.durations import parsed
from stackyard._util.tables import format_bound, format_size
from stackyard.checks.patterns import secrets_in
from stackyard.checks.records import Spot, check
from stackyard.docker.compose import Compose
from stackyard.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stackyard.project.environments import Environment

LINT_DEADLINE: Final = 180.0  # seconds for compose-lint over one file
GRADED: Final = frozenset({0, 1})  # compose-lint's exit codes for a file it could read
SENSITIVE: Final = "CL-0013"  # compose-lint's rule on mounts of host paths; its message quotes the path
MEMORY_CEILING: Final = 2_000_000_000  # bytes all services of one stack may have together
LABELS: Final = frozenset(
    f"stackyard.{word}" for word in "lease environment host owner created ports subnet".split()
)  # fmt: skip
LIMITS: Final = ("mem_limit", "memswap_limit", "cpus", "pids_limit")
LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
HOST_NAMESPACES: Final = ("network_mode", "pid", "ipc", "userns_mode", "uts")
NUMBER: Final = re.compile(r"0*[1-9]\d*(:\d+)?")
INTERVAL_S: Final = (1.0, 60.0)  # more often costs CPU, more seldom sees nothing
DETECTION_S: Final = 120.0  # until a service that stopped answering is called unhealthy


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """
    A Compose file rendered for one environment.

    Attributes:
        profiles: The profile of every environment of the project.
        restart: The restart policy the environment is meant to have.
        memory: Bytes the environment's budget gives a stack.
        lint: What compose-lint says of the file itself.
    """

    profiles: frozenset[str]
    services: Mapping[str, Mapping[str, Any]]
    networks: Mapping[str, Any] = field(default_factory=dict)
    restart: str = "no"
    memory: int = MEMORY_CEILING
    lint: Sequence[Spot] = ()

    @classmethod
    def render(cls, environment: Environment, profiles: Iterable[str], lint: Sequence[Spot] = ()) -> Model:
        """
        Let Compose render the file of *environment*.

        Raises:
            CommandError: If Compose refuses the file.
        """
        project = Compose(file=environment.compose_file, env_file=environment.env_file, project="stackyard-verify")
        model = project.model()
        return cls(
            profiles=frozenset(profiles), services=model.get("services") or {}, networks=model.get("networks") or {},
            # an environment that keeps its data is to come back after a reboot
            restart="unless-stopped" if environment.data == "volume" else "no",
            memory=environment.budget.memory_mb * 1_000_000, lint=lint,
        )  # fmt: skip

    def each(self, key: str) -> Iterator[tuple[str, Any]]:
        """Yield every service's name with what *key* is set to."""
        return ((name, service.get(key)) for name, service in self.services.items())


def compose_lint(root: Path, file: Path) -> list[Spot]:
    """
    Let compose-lint look at *file*; what its configuration suppresses with a reason is left out.

    compose-lint calls every folder below /root, /etc and the like sensitive. The project's own files are meant to be
    mounted wherever its checkout lies, so what it says of paths below *root* is left out too.

    Raises:
        UsageError: If it is missing.
        CommandError: If it cannot read the file.
    """
    config = file.parent / ".compose-lint.yml"
    words = ["--config", str(config), "--strict-config"] if config.exists() else []
    command = [optional_packages.program("compose-lint"), "check", "--format", "json", "--no-env", *words, str(file)]
    done = process.run(command, deadline=LINT_DEADLINE, cwd=root, check=False)
    if done.returncode not in GRADED:
        raise CommandError(done.argv, done.returncode, done.stderr or done.stdout)
    rows = json.loads(done.stdout)["findings"]
    return [
        Spot(found=f"{row['rule_id']} {row['service']}: {row['message']}", line=row["line"])
        for row in rows
        if not row["suppressed"] and not (row["rule_id"] == SENSITIVE and f"'{root.resolve()}/" in row["message"])
    ]


@check(
    "compose-lint",
    "compose-lint finds nothing",
    fix="see compose-lint check --explain RULE; an exception goes to compose/.compose-lint.yml, with its reason",
)
def lint(model: Model) -> Iterator[Spot]:
    """compose-lint knows common security mistakes in Compose files."""
    yield from model.lint


@check(
    "compose-limits",
    "memory, swap, CPU and number of processes are limited",
    fix="set mem_limit, memswap_limit, cpus, pids_limit",
)
def limits(model: Model) -> Iterator[str]:
    """Many stacks share a machine, so a runaway service must hit its own limit. Extra swap would hide the problem."""
    for name, service in model.services.items():
        missing = [key for key in LIMITS if not float(service.get(key) or 0) > 0]
        if missing:
            yield f"{name}: no {', '.join(missing)}"
        elif service["memswap_limit"] != service["mem_limit"]:
            yield f"{name}: memswap_limit {service['memswap_limit']} B, mem_limit {service['mem_limit']} B"


@check(
    "compose-reservations",
    "every service reserves memory, less than its limit",
    fix="set mem_reservation to what the service uses at rest",
)
def reservations(model: Model) -> Iterator[str]:
    """The kernel reclaims reserved memory last, and the sum of the reservations is what a stack books."""
    for name, service in model.services.items():
        reserved, limit = int(service.get("mem_reservation") or 0), int(service.get("mem_limit") or 0)
        if not reserved:
            yield f"{name}: no mem_reservation"
        elif limit and reserved >= limit:
            yield f"{name}: mem_reservation {reserved} B, mem_limit {limit} B"


@check("compose-memory", "the memory limits together fit the budget", fix="lower mem_limit where a service needs less")
def memory(model: Model) -> Iterator[str]:
    """A stack can use at most the sum of its limits; people size hosts by that number."""
    total = sum(int(limit or 0) for _, limit in model.each("mem_limit"))
    ceiling = min(model.memory, MEMORY_CEILING)
    if total > ceiling:
        yield f"{format_size(total)} together, budget {format_bound(ceiling, 'bytes')}"


@check(
    "compose-health",
    "every service has a health check with sound timing",
    fix="start_interval < start_period, timeout <= interval",
)
def health(model: Model) -> Iterator[str]:
    """A start interval longer than the start period has no effect, and a slow check notices a dead service late."""
    for name, settings in model.each("healthcheck"):
        if not settings or settings.get("disable") or not settings.get("test"):
            yield f"{name}: no health check"
        else:
            yield from (f"{name}: {problem}" for problem in _timing(settings))


def _timing(settings: Mapping[str, Any]) -> Iterator[str]:
    keys = ("interval", "timeout", "start_period", "start_interval")
    times = {key: parsed(str(settings.get(key))) for key in keys}
    missing = [key for key, value in times.items() if not value]
    if missing or not settings.get("retries"):
        yield f"no {', '.join(missing or ['retries'])}"
        return
    interval, timeout, period, start = (times[key] or 0.0 for key in keys)
    if not INTERVAL_S[0] <= interval <= INTERVAL_S[1]:
        yield f"interval {interval:g} s, outside {INTERVAL_S[0]:g}-{INTERVAL_S[1]:g} s"
    if timeout > interval:
        yield f"timeout {timeout:g} s is longer than interval {interval:g} s"
    if start >= period or start > interval:
        yield f"start_interval {start:g} s, start_period {period:g} s, interval {interval:g} s"
    if (interval + timeout) * int(settings["retries"]) > DETECTION_S:
        yield f"a dead service is seen after {(interval + timeout) * int(settings['retries']):g} s"


@check("compose-loopback", "ports are published only on 127.0.0.1", fix="write host_ip: 127.0.0.1")
def loopback(model: Model) -> Iterator[str]:
    """Docker's rules come before the host's firewall, so any other address opens the service to the network."""
    for name, ports in model.each("ports"):
        for port in ports or ():
            if port.get("host_ip") not in LOOPBACK:
                yield f"{name}: {port.get('host_ip') or '0.0.0.0'}:{port.get('published', '')}->{port.get('target')}"  # noqa: S104 - named, not bound


@check(
    "compose-profiles",
    "every service is in every environment's profile",
    fix="list all profiles in the shared part of the file",
)
def profiles(model: Model) -> Iterator[str]:
    """A service that one profile lacks is missing in one environment only, which is hard to notice."""
    for name, listed in model.each("profiles"):
        missing = sorted(model.profiles - set(listed or ()))
        if missing:
            yield f"{name}: not in {', '.join(missing)}"


@check("compose-labels", "containers and networks carry the lease's labels", fix="use the shared labels of the file")
def labels(model: Model) -> Iterator[str]:
    """The clean-up finds things by label; anything without labels stays behind."""
    networks = ((f"network {name}", settings) for name, settings in model.networks.items())
    for name, settings in [*model.services.items(), *networks]:
        missing = sorted(LABELS - set((settings or {}).get("labels") or ()))
        if missing:
            yield f"{name}: no {', '.join(missing)}"


@check("compose-container-name", "no service has a fixed container name", fix="remove container_name")
def container_name(model: Model) -> Iterator[str]:
    """Each container name exists once per engine, so a second stack could not start."""
    yield from (f"{name}: {value}" for name, value in model.each("container_name") if value)


@check(
    "compose-restart", "containers restart only where their data is kept", fix="set STACKYARD_RESTART in the env file"
)
def restart(model: Model) -> Iterator[str]:
    """A test must see a crash, and a restart races with the clean-up."""
    for name, policy in model.each("restart"):
        if (policy or "no") not in {model.restart, "no"}:
            yield f"{name}: restart {policy}, expected {model.restart}"


@check("compose-image", "images have a tag that says what they are", fix="name a tag other than latest")
def image(model: Model) -> Iterator[str]:
    """`latest` is the image that was built last, perhaps by someone else."""
    for name, reference in model.each("image"):
        text = reference or ""
        tag = text.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in text and tag in {"", "latest"}:
            yield f"{name}: {text or 'no image'}"


@check(
    "compose-confinement",
    "read-only root, no capability, no new privileges, a numeric user, no namespace of the host",
    fix="use the shared service settings of the file",
)
def confinement(model: Model) -> Iterator[str]:
    """Each puts one more barrier between a bug in a service and the host; OWASP Docker Security rules 1 to 8."""
    for name, service in model.services.items():
        yield from (f"{name}: {problem}" for problem in _open(service))


def _open(service: Mapping[str, Any]) -> Iterator[str]:
    if not NUMBER.fullmatch(str(service.get("user") or "")):
        yield f"user {service.get('user') or 'not set'}"
    if not service.get("read_only"):
        yield "its root can be written"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield f"cap_drop {service.get('cap_drop')}, cap_add {service.get('cap_add')}"
    options = [str(option).replace("=", ":") for option in service.get("security_opt") or ()]
    if not {"no-new-privileges:true", "no-new-privileges"} & set(options):
        yield "no-new-privileges is not set"
    yield from (f"security_opt {option}" for option in options if option.endswith(":unconfined"))
    yield from _shared(service)


def _shared(service: Mapping[str, Any]) -> Iterator[str]:
    """Name what of the host the service gets to see."""
    yield from (f"{key} {service[key]}" for key in ("privileged", "devices") if service.get(key))
    yield from (f"{key}: host" for key in HOST_NAMESPACES if service.get(key) == "host")
    mounts = service.get("volumes") or ()
    yield from (f"mounts the host's {mount.get('source')}" for mount in mounts if mount.get("type") == "bind")


@check(
    "compose-secret", "no variable holds a secret", fix="pass it as a file: secrets, and NAME_FILE in the environment"
)
def secret(model: Model) -> Iterator[str]:
    """Variables are visible in docker inspect and in /proc."""
    for name, variables in model.each("environment"):
        words = (f"{key}={value or ''}" for key, value in (variables or {}).items())
        yield from (f"{name}: {found}" for found in secrets_in(words))


@check("compose-logging", "logs are bounded", fix="set logging: max-size and max-file")
def logging(model: Model) -> Iterator[str]:
    """One chatty service must not fill the disk of a shared machine."""
    for name, settings in model.each("logging"):
        options = (settings or {}).get("options") or {}
        if not options.get("max-size") or not options.get("max-file"):
            yield f"{name}: max-size {options.get('max-size')}, max-file {options.get('max-file')}"


CHECKS: Final = (
    limits, reservations, memory, health, loopback, profiles, labels, container_name, restart, image, confinement,
    secret, logging,
)  # fmt: skip
FILE_CHECKS: Final = (lint,)

"""
Checks that the files of one environment agree: YAML entry, env file and Compose file.

The env file repeats values of the YAML, so that plain `docker compose --env-file` needs nothing else. This module
compares the two, so that they cannot differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import asdict

from stackyard.errors import ConfigError
from stackyard.project.environments import rules
from stackyard.project.environments.files import read_text
from stackyard.project.environments.roots import ENVIRONMENTS
from stackyard.project.environments.services import variable
from stackyard.project.environments.yaml_tree import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from stackyard.project.environments.schema import Entry
    from stackyard.project.environments.yaml_tree import Node

MAX_BYTES: Final = 256 * 1024
INTERPOLATED: Final = re.compile(r"(?<!\$)(?:\$\$)*\$\{?([A-Za-z_][A-Za-z0-9_]*)")
OWN_VARIABLES: Final = frozenset({"COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "STACKYARD_FLAVOUR"})
SIZE: Final = re.compile(r"([1-9][0-9]{0,6})([bkmg])b?")
SIZES: Final = {"b": 0, "k": 10, "m": 20, "g": 30}  # powers of two, as Compose reads them
RESTARTS: Final = ("no", "on-failure", "unless-stopped", "always")
DURABLE: Final = re.compile("STACKYARD_[A-Z0-9_]+_DURABLE")
SECRET: Final = re.compile(r"\$\{STACKYARD_SECRETS_DIR[^}]*\}/([a-z][a-z0-9_-]*)")
# every service reaches its image through one variable; the tag's first word is the flavour
IMAGE: Final = re.compile(r"(?:[a-z0-9.:_/-]+/)?[a-z0-9._-]+(?::[A-Za-z0-9._-]+)?(?:@sha256:[0-9a-f]{64})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeFile:
    """
    What an environment needs to know about the Compose file.

    Attributes:
        shown: The file's name in messages.
        profiles: For each service, the profiles that start it; empty where every profile does.
        variables: Names the file interpolates.
        reserve_mb: MB (1,000,000 bytes) of memory that all services which start with the wanted ones reserve together.
        secrets: Names of the secret files that it wants in ``STACKYARD_SECRETS_DIR``.
    """

    shown: str
    profiles: Mapping[str, frozenset[str]]
    variables: frozenset[str]
    reserve_mb: int
    secrets: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, shown: str, wanted: Collection[str]) -> ComposeFile:
        """Read the file at *path*, which has the services *wanted*; merge keys are followed."""
        text = read_text(path, shown, limit=MAX_BYTES)
        tree = rules.mapping(shown, "", parse_yaml(text, shown, aliases=True))
        if "services" not in tree:
            raise ConfigError(shown, "services", None, "missing key")
        services = rules.mapping(shown, "services", tree["services"])
        profiles = {name: frozenset(_profiles(node)) for name, node in services.items()}
        ours = frozenset().union(*(profiles[name] for name in wanted if name in profiles))
        beside = [name for name, listed in profiles.items() if name in wanted or not listed or listed & ours]
        reserved = sum(_reserved(shown, name, services[name]) for name in beside)
        return cls(
            shown=shown, profiles=profiles, variables=frozenset(INTERPOLATED.findall(text)),
            reserve_mb=-(-reserved // 1_000_000), secrets=tuple(_secrets(tree.get("secrets"))),
        )  # fmt: skip

    def check_profile(self, profile: str, wanted: Collection[str]) -> None:
        """
        Raise unless *profile* starts every service *wanted*.

        Raises:
            ConfigError: If the Compose file lacks a service.
            ValueError: If a service has other profiles; states the rule.
        """
        for service in wanted:
            if service not in self.profiles:
                raise ConfigError(self.shown, f"services.{service}", None, f"missing service; {ENVIRONMENTS} has it")
            allowed = self.profiles[service]
            if allowed and profile not in allowed:
                raise ValueError(f"service {service} of {self.shown} has no such profile{rules.hint(profile, allowed)}")


def _secrets(node: Node | None) -> Iterator[str]:
    """Return the names of the secret files of a lease."""
    for secret in node.values() if isinstance(node, dict) else ():
        file = secret.get("file") if isinstance(secret, dict) else None
        if isinstance(file, str) and (found := SECRET.fullmatch(file)):
            yield found[1]


def _reserved(shown: str, name: str, service: Node) -> int:
    """Return the bytes of a service's memory reservation; 0 without one."""
    text = _inherited(service, "mem_reservation")
    if text is None:
        return 0
    match = SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(shown, f"services.{name}.mem_reservation", text, "must be a size such as 64m or 1g")
    return int(match[1]) << SIZES[match[2]]


def _inherited(service: Node, key: str) -> Node | None:
    """Return a service's own value, or else that of a mapping that it merges."""
    if not isinstance(service, dict) or key in service:
        return service[key] if isinstance(service, dict) else None
    merged = service.get("<<", [])
    found = (_inherited(parent, key) for parent in (merged if isinstance(merged, list) else [merged]))
    return next((value for value in found if value is not None), None)


def _profiles(service: Node) -> list[str]:
    found = _inherited(service, "profiles")
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def expected(name: str, entry: Entry, compose: ComposeFile) -> dict[str, str]:
    """Return the variables an env file must repeat from the YAML *entry* called *name*."""
    always: dict[str, str] = {
        "COMPOSE_PROJECT_NAME": f"stackyard-{name}",
        "COMPOSE_PROFILES": entry.profile,
        "STACKYARD_ENVIRONMENT": name,
        "STACKYARD_FLAVOUR": entry.flavour,
        "STACKYARD_SUBNET": entry.subnet,
    }
    always |= {variable(service, "PORT"): port for service, port in entry.ports.items()}
    used = {"STACKYARD_DATA_MOUNT": entry.data}
    used |= {f"STACKYARD_HEALTH_{key.upper()}": value for key, value in asdict(entry.health).items()}
    return always | {key: value for key, value in used.items() if key in compose.variables}


def check_variables(file: str, variables: Mapping[str, str], *, name: str, entry: Entry, compose: ComposeFile) -> None:
    """
    Compare the *variables* of env file *file* with the YAML *entry* and the Compose file.

    Raises:
        ConfigError: If a variable is unknown or missing, or differs from the YAML.
    """
    known = compose.variables | OWN_VARIABLES
    for key, value in variables.items():
        if not key.startswith(("STACKYARD_", "COMPOSE_")):
            raise ConfigError(file, key, value, "a variable's name must start with STACKYARD_ or COMPOSE_")
        if key not in known:
            raise ConfigError(file, key, value, f"not a variable of {compose.shown}{_near(key, known)}")
    for key, value in expected(name, entry, compose).items():
        _require(file, variables, key, f"must be {value}, as {ENVIRONMENTS} says", {value})
    _check_images(file, variables, entry, compose)
    _check_data(file, variables, compose, volume=entry.data == "volume")


def _near(key: str, known: frozenset[str]) -> str:
    return rules.hint(key, known).partition(" known:")[0].rstrip(";")


def _require(file: str, variables: Mapping[str, str], key: str, rule: str, allowed: set[str] | None = None) -> str:
    if key not in variables:
        raise ConfigError(file, key, None, f"missing variable; {rule}")
    if allowed is not None and variables[key] not in allowed:
        raise ConfigError(file, key, variables[key], rule)
    return variables[key]


def _check_images(file: str, variables: Mapping[str, str], entry: Entry, compose: ComposeFile) -> None:
    for service in entry.ports:
        key, own = f"STACKYARD_IMAGE_{service.upper().replace('-', '_')}", f"stackyard/{service}:{entry.flavour}"
        if key not in compose.variables:
            continue
        rule = f"must name an image such as {own}"
        value = _require(file, variables, key, rule)
        if not IMAGE.fullmatch(value) or (
            value.startswith("stackyard/") and not re.fullmatch(rf"{re.escape(own)}(?:-[0-9a-f]+)?", value)
        ):
            raise ConfigError(file, key, value, rule)


def _check_data(file: str, variables: Mapping[str, str], compose: ComposeFile, *, volume: bool) -> None:
    if (key := "STACKYARD_DATA_SOURCE") in compose.variables:
        source = _require(file, variables, key, "needed, empty where data is tmpfs")
        if bool(source) != volume:
            rule = "must name a volume, because data is volume" if volume else "must be empty, because data is tmpfs"
            raise ConfigError(file, key, source, rule)
    # off means no fsync: a crash of the host would corrupt data that must be kept
    durable = {"on"} if volume else {"on", "off"}
    rule = "must be on, because data is volume" if volume else "must be on or off"
    for key in sorted(filter(DURABLE.fullmatch, compose.variables)):
        _require(file, variables, key, rule, durable)
    if (key := "STACKYARD_RESTART") in compose.variables:
        _require(file, variables, key, f"must be one of {', '.join(RESTARTS)}", set(RESTARTS))

"""The environments: their records, and loading them from the YAML file and their env files."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard.errors import ConfigError, UsageError
from stackyard.project.environments import rules
from stackyard.project.environments.consistency import ComposeFile, check_variables
from stackyard.project.environments.dotenv import read_env
from stackyard.project.environments.files import read_text
from stackyard.project.environments.roots import ENVIRONMENTS, project_root
from stackyard.project.environments.yaml_tree import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES: Final = 256 * 1024
ENTRY: Final = ("description", "profile", "env_file", "flavour", "data", "ports", "subnet", "budget", "health")
BUDGET: Final = ("startup", "memory", "cleanup", "image")
HEALTH: Final = ("interval", "timeout", "retries", "start_period", "start_interval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """
    The limits of one run of an environment.

    Attributes:
        startup_s: Seconds from the first command until every probe has passed.
        memory_mb: MB (1,000,000 bytes) all containers together use when ready.
        cleanup_s: Seconds until everything of the run is removed.
        image_mb: MB of the largest image.
    """

    startup_s: float
    memory_mb: int
    cleanup_s: float
    image_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    Times of the containers' own health checks.

    Attributes:
        interval_s: Seconds between checks once the start period is over.
        timeout_s: Seconds one check may take.
        retries: Failed checks in a row that make a container unhealthy.
        start_period_s: Seconds in which failures do not count.
        start_interval_s: Seconds between checks in the start period.
    """

    interval_s: float
    timeout_s: float
    retries: int
    start_period_s: float
    start_interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """
    One entry of `envs/docker_environments.yaml` with its env file, checked.

    Attributes:
        name: Its key in the YAML file.
        description: One line that says what it is for.
        profile: The Compose profile that starts it.
        env_file: Its env file, absolute.
        compose_file: The Compose file, absolute.
        flavour: The base of its images.
        data: Where PostgreSQL keeps its data.
        ports: Fixed host port of each service.
        subnet: Fixed IPv4 /28.
        budget: Limits of one run.
        health: Timing of the containers' health checks.
        variables: The env file's variables.
        root: The project's directory.
        reserve_mb: MB (1,000,000 bytes) that its containers reserve in the Compose file; a lease books this much.
    """

    name: str
    description: str
    profile: str
    env_file: Path
    compose_file: Path
    flavour: rules.Flavour
    data: rules.Data
    ports: Mapping[str, int]
    subnet: str
    budget: Budget
    health: Health
    variables: Mapping[str, str]
    root: Path
    reserve_mb: int = 0

    @classmethod
    def load(cls, name: str, root: Path | None = None) -> Environment:
        """
        Return the environment called *name*; of the others, only the YAML entries are checked.

        Args:
            name: An environment of the project.
            root: The project's directory; found by `project_root` if not given.

        Raises:
            UsageError: If there is no environment *name*, or no project.
            ConfigError: If a file is wrong.
        """
        project = _Project.read(root)
        if name not in project.entries:
            raise UsageError(f"unknown environment {name[:80]!r}{rules.hint(name, project.entries)}")
        return project.environment(name)


def load_all(root: Path | None = None) -> dict[str, Environment]:
    """
    Return every environment by name, in file order; *root* as for `Environment.load`.

    Raises:
        UsageError: If there is no project.
        ConfigError: If a file is wrong.
    """
    project = _Project.read(root)
    return {name: project.environment(name) for name in project.entries}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Project:
    """The YAML file's entries, each checked by itself and against the others, and the Compose file they share."""

    root: Path
    compose_path: str
    compose: ComposeFile
    entries: Mapping[str, rules.Section]

    @classmethod
    def read(cls, root: Path | None) -> _Project:
        root = (root or project_root()).absolute()
        text = read_text(root / ENVIRONMENTS, ENVIRONMENTS, limit=MAX_BYTES)
        top = rules.Section.of(
            ENVIRONMENTS, "", parse_yaml(text, ENVIRONMENTS), ("version", "compose_file", "environments")
        )
        top.get("version", rules.version)
        entries = _entries(top.section("environments"))
        path = top.get("compose_file", rules.relative_path)
        return cls(root=root, compose_path=path, compose=ComposeFile.read(root / path, path), entries=entries)

    def environment(self, name: str) -> Environment:
        entry = self.entries[name]
        profile = entry.get("profile", rules.name)
        self.compose.check_profile(entry, profile)
        env_file = entry.get("env_file", rules.relative_path)
        variables = read_env(self.root / env_file, env_file)
        check_variables(env_file, variables, name=name, entry=entry, compose=self.compose)
        return Environment(
            name=name, description=entry.get("description", rules.sentence), profile=profile,
            env_file=self.root / env_file, compose_file=self.root / self.compose_path,
            flavour=entry.get("flavour", rules.flavour), data=entry.get("data", rules.data),
            ports=_ports(entry), subnet=entry.get("subnet", rules.subnet),
            budget=_budget(entry), health=_health(entry), variables=variables, root=self.root,
            reserve_mb=self.compose.reserve_mb,
        )  # fmt: skip


def _entries(environments: rules.Section) -> dict[str, rules.Section]:
    found: dict[str, rules.Section] = {}
    for name in environments.values:
        try:
            rules.name(name)
        except ValueError as error:
            raise ConfigError(environments.file, environments.path, name, f"a name {error}") from None
        found[name] = environments.section(name, ENTRY)
        _check_alone(found[name])
    if not found:
        raise ConfigError(environments.file, environments.path, {}, "must hold at least one environment")
    _check_ports(found)
    _check_subnets(found)
    _check_env_files(found)
    return found


def _check_alone(entry: rules.Section) -> None:
    """Read every value once, so that a mistake in one environment shows for every environment."""
    entry.get("description", rules.sentence)
    entry.get("profile", rules.name)
    entry.get("env_file", rules.relative_path)
    entry.get("flavour", rules.flavour)
    entry.get("data", rules.data)
    entry.get("subnet", rules.subnet)
    _ports(entry)
    _budget(entry)
    _health(entry)


def _ports(entry: rules.Section) -> dict[str, int]:
    ports = entry.section("ports", rules.SERVICES)
    return {service: ports.get(service, rules.port) for service in ports.values}


def _budget(entry: rules.Section) -> Budget:
    budget = entry.section("budget", BUDGET)
    return Budget(
        startup_s=budget.get("startup", rules.seconds), memory_mb=budget.get("memory", rules.megabytes),
        cleanup_s=budget.get("cleanup", rules.seconds), image_mb=budget.get("image", rules.megabytes),
    )  # fmt: skip


def _health(entry: rules.Section) -> Health:
    section = entry.section("health", HEALTH)
    health = Health(
        interval_s=section.get("interval", rules.seconds), timeout_s=section.get("timeout", rules.seconds),
        retries=section.get("retries", rules.retries), start_period_s=section.get("start_period", rules.seconds),
        start_interval_s=section.get("start_interval", rules.seconds),
    )  # fmt: skip
    # the engine ignores a start interval that does not fit into the start period
    if health.start_interval_s >= health.start_period_s:
        raise section.fail("start_interval", f"must be shorter than start_period {section.values['start_period']}")
    if health.start_interval_s > health.interval_s:
        raise section.fail("start_interval", f"must not be longer than interval {section.values['interval']}")
    return health


def _check_ports(entries: Mapping[str, rules.Section]) -> None:
    holders: dict[int, str] = {}
    for entry in entries.values():
        for service, number in _ports(entry).items():
            holder = holders.setdefault(number, f"{entry.path}.ports.{service}")
            if holder != f"{entry.path}.ports.{service}":
                raise entry.section("ports").fail(service, f"port is taken by {holder}")


def _check_subnets(entries: Mapping[str, rules.Section]) -> None:
    holders: dict[ipaddress.IPv4Network, str] = {}
    for entry in entries.values():
        network = ipaddress.IPv4Network(entry.get("subnet", rules.subnet))
        if network in holders:  # all are /28, so two either are the same or do not overlap
            raise entry.fail("subnet", f"subnet is taken by {holders[network]}")
        holders[network] = entry.path


def _check_env_files(entries: Mapping[str, rules.Section]) -> None:
    holders: dict[str, str] = {}
    for entry in entries.values():
        file = entry.get("env_file", rules.relative_path)
        if file in holders:
            raise entry.fail("env_file", f"env file belongs to {holders[file]}")
        holders[file] = entry.path

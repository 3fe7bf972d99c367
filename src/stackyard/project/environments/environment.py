"""The environments: their records, and loading them from the YAML file and their env files."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from stackyard.errors import ConfigError, UsageError
from stackyard.project.environments import rules, schema
from stackyard.project.environments.consistency import ComposeFile, check_variables
from stackyard.project.environments.dotenv import read_env
from stackyard.project.environments.files import read_text
from stackyard.project.environments.roots import ENVIRONMENTS, project_root
from stackyard.project.environments.services import LEASE, Services, variable, words
from stackyard.project.environments.yaml_tree import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from stackyard.project.environments.schema import Entry

MAX_BYTES: Final = 256 * 1024


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
        data: Where it keeps its data.
        ports: Fixed host port of each service that has its own, in the order of *services*.
        subnet: Fixed IPv4 /28.
        budget: Limits of one run.
        health: Timing of the containers' health checks.
        variables: The env file's variables.
        root: The project's directory.
        services: Its services, the variables and the secrets of its leases; the same for all environments of a file.
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
    services: Services
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


def load_services(root: Path | None = None) -> Services:
    """
    Return what the YAML file says about the services; no env file is read. *root* as for `Environment.load`.

    Raises:
        UsageError: If there is no project.
        ConfigError: If the YAML file or the Compose file is wrong.
    """
    return _Project.read(root).services


@dataclass(frozen=True, slots=True, kw_only=True)
class _Project:
    """The YAML file's entries, each checked alone and against the others, and the Compose file they share."""

    root: Path
    compose_path: str
    compose: ComposeFile
    entries: Mapping[str, Entry]
    services: Services

    @classmethod
    def read(cls, root: Path | None) -> _Project:
        root = (root or project_root()).absolute()
        text = read_text(root / ENVIRONMENTS, ENVIRONMENTS, limit=MAX_BYTES)
        found = schema.read(ENVIRONMENTS, parse_yaml(text, ENVIRONMENTS))
        _check_services(found.services)
        services = Services(urls=found.services, variables=found.variables)
        _check(found.environments, services.published)
        path = found.compose_file
        compose = ComposeFile.read(root / path, path, services.published)
        services = replace(services, secrets=compose.secrets)
        return cls(root=root, compose_path=path, compose=compose, entries=found.environments, services=services)

    def environment(self, name: str) -> Environment:
        entry, published = self.entries[name], self.services.published
        with _naming(name, "profile", entry.profile):
            self.compose.check_profile(entry.profile, published)
        _check_words(self.services)
        variables = read_env(self.root / entry.env_file, entry.env_file)
        check_variables(entry.env_file, variables, name=name, entry=entry, compose=self.compose)
        return Environment(
            name=name, description=entry.description, profile=entry.profile, env_file=self.root / entry.env_file,
            compose_file=self.root / self.compose_path, flavour=entry.flavour, data=entry.data,
            ports={service: int(entry.ports[service]) for service in published}, subnet=entry.subnet,
            budget=_budget(entry.budget), health=_health(entry.health), variables=variables, root=self.root,
            services=self.services, reserve_mb=self.compose.reserve_mb,
        )  # fmt: skip


def _budget(budget: schema.Budget) -> Budget:
    return Budget(
        startup_s=rules.seconds(budget.startup), memory_mb=rules.megabytes(budget.memory),
        cleanup_s=rules.seconds(budget.cleanup), image_mb=rules.megabytes(budget.image),
    )  # fmt: skip


def _health(health: schema.Health) -> Health:
    return Health(
        interval_s=rules.seconds(health.interval), timeout_s=rules.seconds(health.timeout),
        retries=int(health.retries), start_period_s=rules.seconds(health.start_period),
        start_interval_s=rules.seconds(health.start_interval),
    )  # fmt: skip


@contextlib.contextmanager
def _naming(name: str, key: str, value: str) -> Iterator[None]:
    """Give the rule of a ValueError in the block the place that it was broken in."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(ENVIRONMENTS, f"environments.{name}.{key}", value, str(error)) from None


def _check_services(urls: Mapping[str, str]) -> None:
    """Check that each URL is of one service, and that each service has variables of its own."""
    named: dict[str, str] = {}
    for name, url in urls.items():
        found = {word for word in words(url) if word in urls}
        if len(found) != 1:
            rule = f"must hold one service in braces, such as {{{name}}}; known: {', '.join(urls)}"
            raise ConfigError(ENVIRONMENTS, f"services.{name}", url, rule)
        if (server := found.pop()) != name and server not in words(urls[server]):
            raise ConfigError(ENVIRONMENTS, f"services.{name}", url, f"service {server} has no port of its own")
        if (other := named.setdefault(variable(name, "URL"), name)) != name:
            rule = f"has the same variable as {other}, {variable(name, 'URL')}"
            raise ConfigError(ENVIRONMENTS, f"services.{name}", name, rule)


def _check_words(services: Services) -> None:
    """Check that what the URLs and variables name is there."""
    for name in services.secrets:
        if name in services.urls or name == LEASE:
            raise ConfigError(ENVIRONMENTS, f"services.{name}", name, "must not be the name of a secret, too")
    known = {*services.published, *services.secrets, LEASE}
    texts = {f"services.{name}": text for name, text in services.urls.items()}
    texts |= {f"variables.{name}": text for name, text in services.variables.items()}
    for place, text in texts.items():
        for word in words(text):
            if word not in known:
                raise ConfigError(ENVIRONMENTS, place, text, f"unknown word {{{word}}}{rules.hint(word, known)}")


def _check(entries: Mapping[str, Entry], published: Collection[str]) -> None:
    """Check what the schema cannot: a mistake in one environment shows for every environment."""
    taken: dict[tuple[str, str], str] = {}

    def take(name: str, key: str, value: str, rule: str) -> None:
        holder = taken.setdefault((rule, value), f"environments.{name}.{key}")
        if holder != f"environments.{name}.{key}":
            raise ValueError(f"{rule} {holder}")

    for name, entry in entries.items():
        with _naming(name, "description", entry.description):
            rules.sentence(entry.description)
        rules.mapping(ENVIRONMENTS, f"environments.{name}.ports", entry.ports, published)
        for service, port in entry.ports.items():
            with _naming(name, f"ports.{service}", port):
                rules.port(port)
                take(name, f"ports.{service}", port, "port is taken by")
        with _naming(name, "subnet", entry.subnet):
            rules.subnet(entry.subnet)  # all are /28, so two either are the same or do not overlap
            take(name, "subnet", entry.subnet, "subnet is taken by")
        with _naming(name, "env_file", entry.env_file):
            take(name, "env_file", entry.env_file, "env file belongs to")
        with _naming(name, "health.start_interval", entry.health.start_interval):
            _check_health(entry.health)


def _check_health(health: schema.Health) -> None:
    # the engine ignores a start interval that does not fit into the start period
    if rules.seconds(health.start_interval) >= rules.seconds(health.start_period):
        raise ValueError(f"must be shorter than start_period {health.start_period}")
    if rules.seconds(health.start_interval) > rules.seconds(health.interval):
        raise ValueError(f"must not be longer than interval {health.interval}")

"""The record of a lease, and the forms in which its parts are written."""

from __future__ import annotations

import contextlib
import itertools
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from stackyard._util import files as disk
from stackyard.errors import BookError, UsageError
from stackyard.leases import staleness
from stackyard.leases.directory import credentials
from stackyard.leases.needs import PortName
from stackyard.project.environments.services import variable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from stackyard.leases.owners import Owner
    from stackyard.project.environments.services import Services

ENV, SECRETS, LOCK = "env", "secrets", "owner.lock"  # what a lease's directory holds
MODEL: Final = "model.json"  # in it, where the stack is a copy of any project
KEEPER: Final = "keeper.lock"  # name of the lock file while its stack is warm
CHECKOUT: Final = "STACKYARD_CHECKOUT"  # the variable that names the checkout of a lease
SECRET_NAMES: Final = "STACKYARD_SECRETS"  # noqa: S105 - the variable that names the secrets of a lease
FIRST: Final = "COMPOSE_PROJECT_NAME"  # of the variables in an env file that only the lease gives
_NEEDED: Final = (FIRST, "STACKYARD_LEASE", "STACKYARD_PORTS", "STACKYARD_SUBNET")  # no command can do without them
_URL: Final = re.compile(r"STACKYARD_([A-Z0-9_]+)_URL")
_KEY: Final = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_RANDOM: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)  # the id of a lease that keeps no data
LONGEST_PREFIX: Final = 33  # characters of an environment's name in a lease's id, which has 40 at most

Fixed = Literal["never", "prefer", "only"]


class Leasable(Protocol):
    """What a lease needs to know about an environment."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def data(self) -> Literal["tmpfs", "volume"]:
        """Where its database is; a volume outlives its stack."""
        ...

    @property
    def root(self) -> Path:
        """The checkout that it belongs to."""
        ...

    @property
    def ports(self) -> Mapping[str, int]:
        """Its fixed host port for each service that has its own."""
        ...

    @property
    def services(self) -> Services | None:
        """Its services, and what its leases tell of them; None for the copy of a project."""
        ...

    @property
    def subnet(self) -> str:
        """Its fixed IPv4 network."""
        ...

    @property
    def reserve_mb(self) -> int:
        """MB (1,000,000 bytes) of memory its stack is known to need; with 0, leases book none."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of its env file."""
        ...


class Strangers(Protocol):
    """Ports and networks that an engine uses and the kernel does not show."""

    @property
    def ports(self) -> Collection[int]:
        """Published host ports."""
        ...

    @property
    def subnets(self) -> Collection[str | IPv4Network]:
        """IPv4 networks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """
    An exclusive claim on a block of host ports, a subnet and a Compose project name.

    A program that does not use the lease book may still bind a leased port before the stack does.

    Attributes:
        id: Eight random hex digits; if the environment keeps its data, its name and six hex digits made from the
            book and the checkout.
        parallel_id: The caller's own name for it; None if it has none.
        environment: Name of the environment.
        slot: Number of its slot in the pool; None on an environment's fixed block.
        ports: Host port of each service; of a copy, by `PortName`.
        spare: Host ports of the block that no service uses.
        subnet: IPv4 network of its containers; a copy of a project with several networks has several, with commas.
        project: Compose project name.
        owner: What keeps it alive.
        created: When it was granted, in seconds since 1970.
        deadline: When it ends unless renewed, in seconds since 1970; None if only its owner ends it.
        removing: Whether its owner took it over to remove its stack.
        memory_mb: MB (1,000,000 bytes) of the host's memory that it books.
        exclusive: Words for what no other lease can have at the same time, such as ``host-network``.
        directory: Where its files are, mode 0700.
        reused: Whether `LeaseBook.acquire` returned a lease that was there before the call. No clock tells this: the
            wall clock may be set at any time.
    """

    id: str
    parallel_id: str | None
    environment: str
    slot: int | None
    ports: Mapping[str, int]
    spare: tuple[int, ...] = ()
    subnet: str
    project: str
    owner: Owner
    created: float
    deadline: float | None
    removing: bool = False
    memory_mb: int = 0
    exclusive: tuple[str, ...] = ()
    directory: Path = field(repr=False)
    reused: bool = field(default=False, repr=False, compare=False)

    @property
    def keeps_data(self) -> bool:
        """True when its data is in a volume that outlives it."""
        return keeps_data(self.id, self.environment)

    @property
    def is_copy(self) -> bool:
        """True for the copy of a Compose project, false for a stack of an environment."""
        return all(map(PortName.parse, self.ports))

    @property
    def subnets(self) -> tuple[str, ...]:
        """Its IPv4 networks."""
        return tuple(self.subnet.split(","))

    @property
    def prefixes(self) -> tuple[int, ...]:
        """The prefix lengths of its networks."""
        return tuple(IPv4Network(subnet).prefixlen for subnet in self.subnets)

    @property
    def every_port(self) -> tuple[int, ...]:
        """All its host ports, used and spare, in order."""
        return tuple(sorted((*self.ports.values(), *self.spare)))

    @property
    def title(self) -> str:
        """The lease as messages show it: ``mine (9bdbf9f1)``, or only its id if it has no name."""
        return f"{self.parallel_id} ({self.id})" if self.parallel_id else self.id

    @property
    def checkout(self) -> str:
        """The checkout that it belongs to; empty if its files do not say."""
        with contextlib.suppress(BookError):
            return self.variables().get(CHECKOUT, "")
        return ""

    @property
    def env_file(self) -> Path:
        """The env file of its stack, mode 0600: for Compose, for a shell, for tests."""
        return self.directory / ENV

    @property
    def secrets_dir(self) -> Path:
        """The directory of its secret files."""
        return self.directory / SECRETS

    @property
    def lock(self) -> Path:
        """The file a process owner holds locked."""
        return self.directory / LOCK

    def variables(self) -> dict[str, str]:
        """
        Read the env file.

        Raises:
            BookError: If it cannot be read, or a variable is missing that every lease has; the text names the file.
        """
        try:
            found = parse_env(disk.read(self.env_file).decode())
        except OSError as error:
            raise self._damaged(error.strerror or str(error)) from None
        except ValueError:
            raise self._damaged("has a line that is not NAME=value") from None
        urls = () if self.is_copy else (variable(service, "URL") for service in self.ports)
        if lost := sorted(name for name in (*_NEEDED, *urls) if not found.get(name)):
            raise self._damaged(f"has no {lost[0]}")
        if (named := found["STACKYARD_LEASE"]) != self.id:
            raise self._damaged(f"belongs to another lease, {named[:40]!r}")
        return found

    def _damaged(self, how: str) -> BookError:
        return BookError(f"lease {self.title}: its env file {self.env_file} {how}; end the lease and start it again")

    def secrets(self) -> list[str]:
        """
        Return the values that no log or report may show.

        Raises:
            BookError: If they cannot be read; the text names the file.
        """
        if self.is_copy:
            return []
        try:
            return list(credentials.read(self.secrets_dir, self._secret_names()).values())
        except BookError as error:
            raise BookError(f"lease {self.title}: {error}") from None

    def _secret_names(self) -> list[str]:
        with contextlib.suppress(BookError):
            if (names := self.variables().get(SECRET_NAMES)) is not None:
                return names.split(",") if names else []
        return credentials.names(self.secrets_dir)  # as an older stackyard left it

    def is_stale(self, now: float) -> bool:
        """Say whether it is stale at *now*, in seconds since 1970."""
        return staleness.is_stale(self, now)

    def url(self, service: str) -> str:
        """
        Return the URL of *service*, credentials included.

        Raises:
            UsageError: If there is no such service.
            BookError: If the env file cannot be read.
        """
        urls = self.urls()
        if service not in urls:
            raise UsageError(f"no service {service!r} in environment {self.environment}; known: {', '.join(urls)}")
        return urls[service]

    def urls(self) -> dict[str, str]:
        """
        Return the URL of every service of the environment, as *url* does; the env file is read once for all.

        Raises:
            UsageError: If it is the lease of a copy, whose addresses are in its model.
            BookError: If the env file cannot be read.
        """
        if self.is_copy:
            raise UsageError(f"lease {self.title} is not of an environment, so it has no URLs of its services")
        return self.urls_in(self.variables())

    def urls_in(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the URL of every service, from the *variables* of the lease's env file."""
        exact = {variable(service, "URL"): service for service in self.ports}
        own = ((name, _URL.fullmatch(name)) for name in own_names(variables))
        return {exact.get(name, found[1].lower()): variables[name] for name, found in own if found}

    def speaking(self, scheme: str) -> dict[str, str]:
        """Return the URLs with *scheme*, such as ``postgresql``, by their service; errors are those of `urls`."""
        return {name: url for name, url in self.urls().items() if url.partition(":")[0] == scheme}

    def url_of(self, scheme: str) -> str:
        """
        Return the first URL with *scheme*; other errors are those of `urls`.

        Raises:
            UsageError: If no service has one.
        """
        for url in self.speaking(scheme).values():
            return url
        raise UsageError(f"no service of stack {self.title} speaks {scheme}")

    def servers(self) -> dict[str, str]:
        """
        Return the service that answers at each URL: its own, or the one that has the URL's port.

        Raises:
            UsageError: As `urls` does.
            BookError: If the env file cannot be read.
        """
        owners = {port: name for name, port in self.ports.items()}
        return {name: owners.get(urlsplit(url).port or 0, name) for name, url in self.urls().items()}

    @property
    def published(self) -> dict[str, int]:
        """Its host ports without those that are kept free, because another service answers for the one they are of."""
        urls: Mapping[str, str] = {}
        with contextlib.suppress(BookError, UsageError):
            urls = self.urls()
        used = {name: urlsplit(url).port for name, url in urls.items()}
        return {name: port for name, port in self.ports.items() if used.get(name, port) == port}

    def to_json(self) -> dict[str, Any]:
        """Return the lease as JSON values: moments in seconds since 1970, memory in bytes, no secrets."""
        used = self.published
        return {
            "lease": self.id,
            "name": self.parallel_id,
            "environment": self.environment,
            "slot": self.slot,
            "ports": used,
            "spare": sorted({*self.every_port} - {*used.values()}),
            "subnet": self.subnet,
            "project": self.project,
            "owner": self.owner.label(),
            "created": self.created,
            "deadline": self.deadline,
            "removing": self.removing,
            "memory_bytes": self.memory_mb * 1_000_000,
            "env_file": str(self.env_file),
            "checkout": self.checkout,
        }


def stable_id(environment: str, host: str, root: Path) -> str:
    """
    Return the id of the only lease that a checkout has, in one book, of an environment that keeps its data.

    Args:
        environment: The environment's name.
        host: ``Settings.host`` of the book.
        root: The checkout.
    """
    import hashlib

    seed = "\n".join([host, str(root.resolve()), environment])
    return f"{environment[:LONGEST_PREFIX]}-{hashlib.sha256(seed.encode()).hexdigest()[:6]}"


def keeps_data(lease: str, environment: str) -> bool:
    """
    Say whether the lease with the id *lease* belongs to an environment that keeps its data.

    Every other lease has eight random hex digits; earlier versions gave this one the name of the environment.
    """
    return lease == environment or not _RANDOM.fullmatch(lease)


def project_name(environment: str, lease: str) -> str:
    """Return the Compose project name of a lease; it ends with the lease's id, so no other lease has it."""
    return f"stackyard-{environment}-{lease}" if _RANDOM.fullmatch(lease) else f"stackyard-{lease}"


def own_names(variables: Mapping[str, str]) -> list[str]:
    """Return the variables of a lease's env file that only the lease gives; they are the last in the file."""
    return list(itertools.dropwhile(lambda name: name != FIRST, variables))


def parse_env(text: str) -> dict[str, str]:
    """
    Read an env file of a lease: ``KEY=value`` or ``KEY='value'`` on each line.

    Raises:
        ValueError: If a line has another form.
    """
    found = {}
    for line in text.splitlines():
        key, mark, value = line.partition("=")
        if line and not line.startswith("#"):
            if not mark or not _KEY.fullmatch(key) or "\0" in value:
                raise ValueError(line)
            found[key] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == "'" else value
    return found

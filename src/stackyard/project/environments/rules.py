"""The rules for values: each turns a text into a value or raises a ValueError that states the rule."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from stackyard.errors import ConfigError
from stackyard.settings import SUBNET_PREFIX, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stackyard.project.environments.yaml_tree import Node

Flavour: TypeAlias = Literal["debian", "alpine"]
Data: TypeAlias = Literal["tmpfs", "volume"]
T = TypeVar("T")

SERVICES: Final = ("postgres", "redis", "auth", "backend")
FLAVOURS: Final[Mapping[str, Flavour]] = {"debian": "debian", "alpine": "alpine"}
DATA: Final[Mapping[str, Data]] = {"tmpfs": "tmpfs", "volume": "volume"}
# The default pool of the leases; a fixed port or subnet in it would collide with leases.
POOL: Final = value("STACKYARD_POOL", {})[0]
POOL_SUBNETS: Final = value("STACKYARD_POOL_SUBNETS", {})
PORTS: Final = range(1024, 65536)
PRIVATE: Final = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
PREFIX: Final = SUBNET_PREFIX
MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000}
MEGABYTES: Final = {"MB": 1, "GB": 1000}
# at most seven digits: no value can overflow, and a mistyped 30s does not become a year
WHOLE: Final = re.compile(r"[1-9][0-9]{0,6}")
UNIT: Final = re.compile(rf"({WHOLE.pattern})([A-Za-z]+)")
NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
NAME_LENGTH: Final = 32
PATH: Final = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """
    One mapping of a configuration file, with its place in it.

    Attributes:
        file: The file's name in messages.
        path: Dotted path of the mapping; empty for the whole file.
        values: Its keys and values.
    """

    file: str
    path: str
    values: Mapping[str, Node]

    @classmethod
    def of(cls, file: str, path: str, node: Node, keys: Iterable[str] | None = None) -> Section:
        """Return *node* as a section; with *keys*, it must have exactly these."""
        if not isinstance(node, dict):
            raise ConfigError(file, path or "file", node, "must be a mapping of keys to values")
        section = cls(file=file, path=path, values=node)
        if keys is not None:
            section._match(tuple(keys))
        return section

    def _match(self, keys: tuple[str, ...]) -> None:
        for key in self.values:
            if key not in keys:
                raise ConfigError(self.file, self._at(key), key, f"unknown key{hint(key, keys)}")
        for key in keys:
            if key not in self.values:
                raise ConfigError(self.file, self._at(key), None, f"missing key; needed here: {', '.join(keys)}")

    def section(self, key: str, keys: Iterable[str] | None = None) -> Section:
        """Return the mapping under *key*."""
        return Section.of(self.file, self._at(key), self.values[key], keys)

    def get(self, key: str, rule: Callable[[str], T]) -> T:
        """Return the value under *key* as *rule* reads it."""
        value = self.values[key]
        if not isinstance(value, str):
            raise ConfigError(self.file, self._at(key), value, "must be a single value")
        try:
            return rule(value)
        except ValueError as error:
            raise ConfigError(self.file, self._at(key), value, str(error)) from None

    def fail(self, key: str, rule: str) -> ConfigError:
        """Return the error for a value under *key* that is valid alone but does not fit the others."""
        return ConfigError(self.file, self._at(key), self.values.get(key), rule)

    def _at(self, key: str) -> str:
        return f"{self.path}.{printable(key)}" if self.path else printable(key)


def printable(text: str) -> str:
    """Return *text* fit for a message: short, and with nothing that would move a terminal's cursor."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: NAME_LENGTH * 2])


def hint(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean …? known: …" for a word that is not in *known*."""
    import difflib

    names = sorted(map(printable, known))
    near = difflib.get_close_matches(word[:100], names, n=1)
    return (f"; did you mean '{near[0]}'?" if near else ";") + f" known: {', '.join(names) or 'none'}"


def name(text: str) -> str:
    """A name of an environment or a profile: it becomes part of project, container and network names."""
    if not NAME.fullmatch(text) or len(text) > NAME_LENGTH:
        raise ValueError(
            f"must be at most {NAME_LENGTH} lower-case letters, digits and single hyphens, starting with a letter"
        )
    return text


def sentence(text: str) -> str:
    """One line of text."""
    if not text.isprintable() or not 0 < len(text.strip()) <= 200:  # noqa: PLR2004 - said in the message
        raise ValueError("must be one line of 1 to 200 printable characters")
    return text


def seconds(text: str) -> float:
    """A duration in seconds; written as a whole number with its unit."""
    match = UNIT.fullmatch(text)
    if not match or match[2] not in MILLISECONDS:
        raise ValueError("must be a duration above 0: a whole number with its unit, such as 250ms, 30s or 2m")
    return int(match[1]) * MILLISECONDS[match[2]] / 1000


def megabytes(text: str) -> int:
    """A size in MB (1,000,000 bytes)."""
    match = UNIT.fullmatch(text)
    if not match or match[2] not in MEGABYTES:
        raise ValueError("must be a size above 0: a whole number with its unit, such as 200MB or 2GB")
    return int(match[1]) * MEGABYTES[match[2]]


def port(text: str) -> int:
    """A host port outside the pool of parallel runs."""
    if not WHOLE.fullmatch(text) or int(text) not in PORTS:
        raise ValueError(f"must be a port number from {PORTS.start} to {PORTS.stop - 1}")
    if int(text) in POOL:
        raise ValueError(f"must lie outside the pool of parallel runs, {POOL.start}-{POOL.stop - 1}")
    return int(text)


def retries(text: str) -> int:
    """How many failed health checks make a container unhealthy."""
    if not WHOLE.fullmatch(text) or int(text) > 100:  # noqa: PLR2004 - said in the message
        raise ValueError("must be a whole number from 1 to 100")
    return int(text)


def subnet(text: str) -> str:
    """A private IPv4 /28 outside the subnets of parallel runs."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"must be an IPv4 network such as 10.213.255.0/28 ({error})") from None
    if network.prefixlen != PREFIX or str(network) != text:
        raise ValueError(f"must be a /{PREFIX} network written as address/{PREFIX}")
    if not any(network.subnet_of(block) for block in PRIVATE):
        raise ValueError(f"must lie in private address space ({', '.join(map(str, PRIVATE))})")
    if network.overlaps(POOL_SUBNETS):
        raise ValueError(f"must lie outside the subnets of parallel runs, {POOL_SUBNETS}")
    return text


def relative_path(text: str) -> str:
    """A file below the project's root."""
    if not PATH.fullmatch(text) or ".." in text.split("/"):
        raise ValueError("must be a path relative to the project's root, made of letters, digits and . _ - /")
    return text


def flavour(text: str) -> Flavour:
    """Which base the images stand on."""
    if text not in FLAVOURS:
        raise ValueError("must be debian or alpine")
    return FLAVOURS[text]


def data(text: str) -> Data:
    """Where PostgreSQL keeps its data."""
    if text not in DATA:
        raise ValueError("must be tmpfs or volume")
    return DATA[text]


def version(text: str) -> int:
    """The version of the file's own format."""
    if text != "1":
        raise ValueError("must be 1, the only format there is")
    return 1

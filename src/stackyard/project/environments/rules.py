"""The rules for values of configuration files, and their texts in errors."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from stackyard._util.printable import printable as escaped
from stackyard.errors import ConfigError
from stackyard.settings import SUBNET_PREFIX, value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from stackyard.project.environments.yaml_tree import Node

Flavour: TypeAlias = Literal["debian", "alpine"]
Data: TypeAlias = Literal["tmpfs", "volume"]

# The default pool of the leases; a fixed port or subnet in it would collide with leases.
POOL: Final = value("STACKYARD_POOL", {})[0]
POOL_SUBNETS: Final = value("STACKYARD_POOL_SUBNETS", {})
PORTS: Final = range(1024, 65536)
PRIVATE: Final = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
PREFIX: Final = SUBNET_PREFIX
MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000}
MEGABYTES: Final = {"MB": 1, "GB": 1000}
# at most seven digits: no value can overflow, and a mistyped 30s does not become a year
WHOLE: Final = "[1-9][0-9]{0,6}"
NAME_LENGTH: Final = 32
# a name of an environment or a profile becomes part of project, container and network names
NAME: Final = rf"(?=.{{1,{NAME_LENGTH}}}$)[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
NAME_RULE: Final = f"at most {NAME_LENGTH} lower-case letters, digits and single hyphens, starting with a letter"
SENTENCE_RULE: Final = "one line of 1 to 200 printable characters"
PORT_RULE: Final = f"a port number from {PORTS[0]} to {PORTS[-1]}"


def mapping(
    file: str, path: str, node: Any, keys: Iterable[str] | None = None, *, optional: Collection[str] = ()
) -> dict[str, Node]:
    """
    Return *node*, which is at the dotted *path* of *file*, as a mapping.

    With *keys* it may have no others, and must have those of them that are not *optional*.

    Raises:
        ConfigError: If it is no mapping, or a key is unknown or missing.
    """
    if not isinstance(node, dict):
        raise ConfigError(file, path or "file", node, "must be a mapping of keys to values")
    known = tuple(node if keys is None else keys)
    for key in node:
        if key not in known:
            raise ConfigError(file, below(path, key), key, f"unknown key{hint(key, known)}")
    for key in known:
        if key not in node and key not in optional:
            raise ConfigError(file, below(path, key), None, f"missing key; needed here: {', '.join(known)}")
    return node


def below(path: str, key: str) -> str:
    """Return the dotted path of *key* in the mapping at *path*."""
    return f"{path}.{printable(key)}" if path else printable(key)


def printable(text: str) -> str:
    """Return *text* fit for a message: short, and with nothing that would move a terminal's cursor."""
    return escaped(text[: NAME_LENGTH * 2])


def hint(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean …? known: …" for a word that is not in *known*."""
    import difflib

    names = sorted(map(printable, known))
    near = difflib.get_close_matches(word[:100], names, n=1)
    return (f"; did you mean '{near[0]}'?" if near else ";") + f" known: {', '.join(names) or 'none'}"


def seconds(text: str) -> float:
    """Return a duration, such as 250ms, 30s or 2m, in seconds."""
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * MILLISECONDS[unit] / 1000


def megabytes(text: str) -> int:
    """Return a size, such as 200MB or 2GB, in MB (1,000,000 bytes)."""
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * MEGABYTES[unit]


def sentence(text: str) -> None:
    """Raise a ValueError with the rule unless *text* is one printable line."""
    if not text.isprintable():
        raise ValueError(f"must be {SENTENCE_RULE}")


def port(text: str) -> None:
    """Raise a ValueError with the rule unless *text* is a host port outside the pool of parallel runs."""
    if int(text) not in PORTS:
        raise ValueError(f"must be {PORT_RULE}")
    if int(text) in POOL:
        raise ValueError(f"must lie outside the pool of parallel runs, {POOL.start}-{POOL.stop - 1}")


def subnet(text: str) -> None:
    """Raise a ValueError with the rule unless *text* is a private IPv4 /28 outside the subnets of parallel runs."""
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

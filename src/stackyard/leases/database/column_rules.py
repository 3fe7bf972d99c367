"""
What each column of the lease book may hold.

SQLite keeps any value in any column, and any program may write to the file. So stackyard uses no value before its rule
here has accepted it. In particular it makes no path, project name or number of ports from an unchecked value.
"""

from __future__ import annotations

import math
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from stackyard.leases.names import EXCLUSIVE, ID, ID_RULE
from stackyard.leases.owners import Owner
from stackyard.leases.port_format import parse_ports, ports_text
from stackyard.leases.records import project_name
from stackyard.settings import LARGEST_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Check: TypeAlias = "Callable[[Any], bool]"
Rule: TypeAlias = tuple[str, Check]

_LATEST: Final = 1e11  # seconds since 1970; no deadline is later
_LONGEST: Final = 4096  # characters of a path
_LONGEST_LIST: Final = 1 << 17  # characters of all ports, or all subnets, of one lease
_SHOWN: Final = 60  # characters of a wrong value that a message shows
_KINDS: Final = ("port", "subnet", "project", "slot", "block", "parallel")


class BadRowError(Exception):
    """A row of the book holds a value that stackyard never writes; the text says which and why."""


def _text(most: int) -> Rule:
    return (
        f"1 to {most} printable characters",
        lambda value: isinstance(value, str) and 0 < len(value) <= most and value.isprintable(),
    )


def _whole(first: int, last: int) -> Rule:
    return f"a whole number from {first} to {last}", lambda value: type(value) is int and first <= value <= last


def _moment(value: Any) -> bool:
    return type(value) in {int, float} and math.isfinite(value) and 0 <= value <= _LATEST


def _none_or(rule: Rule) -> Rule:
    text, check = rule
    return f"nothing, or {text}", lambda value: value is None or check(value)


def _is_block(value: Any) -> bool:
    """Say whether *value* is the ports of a lease, as stackyard writes them."""
    block = parse_ports(value) if isinstance(value, str) and len(value) <= _LONGEST_LIST else None
    if block is None:
        return False
    every = (*block[0].values(), *block[1])
    # less than a block has no use, or all of it
    return (
        bool(every) and len(block[1]) <= LARGEST_BLOCK and len(set(every)) == len(every) and ports_text(*block) == value
    )


def _are_subnets(value: Any) -> bool:
    """Say whether *value* is one subnet, or several with commas between them."""
    if not isinstance(value, str) or len(value) > _LONGEST_LIST:
        return False
    subnets = value.split(",")
    return len(set(subnets)) == len(subnets) and all(map(_is_subnet, subnets))


def _is_subnet(value: str) -> bool:
    try:
        network = IPv4Network(value)
    except ValueError:
        return False
    return str(network) == value and network.is_private and network.prefixlen >= 8  # noqa: PLR2004 - no private network is wider


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/") and len(value) <= _LONGEST and "\0" not in value


_ID: Final[Rule] = (ID_RULE, lambda value: isinstance(value, str) and bool(ID.fullmatch(value)))
_OWNER: Final[Rule] = ("an owner", lambda value: isinstance(value, str) and Owner.parse(value) is not None)
_TIME: Final[Rule] = (f"seconds from 0 to {_LATEST:.0f}", _moment)
_PATH: Final[Rule] = ("an absolute path", _is_path)
_COUNT: Final = _whole(0, 1 << 53)

RULES: Final[dict[str, dict[str, Rule]]] = {
    "leases": {
        "id": _ID,
        "parallel_id": _none_or(_ID),
        "environment": _ID,
        "slot": _none_or(_whole(0, 65535)),
        "ports": ("ports such as db:9500,web:9501,spare:9502-9509", _is_block),
        "subnet": ("a private IPv4 network, or several", _are_subnets),
        "project": _text(100),
        "owner": _OWNER,
        "created": _TIME,
        "deadline": _none_or(_TIME),
        "removing": _whole(0, 1),
        "memory_mb": _whole(0, 10**9),
    },
    "claims": {
        "kind": (f"one of {', '.join(_KINDS)}", lambda value: value in _KINDS),
        "value": _text(200),
        "lease": _ID,
    },
    "slots": {
        "pool": _text(_LONGEST),
        "port": _whole(1, 65535),
        "idle": _none_or(_COUNT),
        "rests_until": _TIME,
    },
    "queue": {"ticket": _COUNT, "wanted": _text(100), "owner": _OWNER, "seen": _TIME},
    "pools": {"root": _PATH, "environment": _ID, "size": _whole(1, 10**6)},
    "warm": {"lease": _ID, "root": _PATH, "fingerprint": _text(200), "since": _TIME},
    "ended": {"number": _COUNT, "lease": _ID},
    "exclusive": {
        "what": (
            "a word such as host-network", lambda value: isinstance(value, str) and bool(EXCLUSIVE.fullmatch(value))
        ),
        "lease": _ID,
    },
    "clocks": {
        "lease": _ID, "wall": _TIME, "boot": _text(100),
        "ends": (f"seconds up to {_LATEST:.0f}", lambda value: _moment(abs(value)) if type(value) is float else False),
    },
}  # fmt: skip


def fault(table: str, row: Sequence[Any]) -> str | None:
    """
    Say what is wrong with a row of *table*, whose columns are in the order of `RULES`; None if nothing is.

    Args:
        table: A key of `RULES`.
        row: Its values.
    """
    for (column, (rule, check)), value in zip(RULES[table].items(), row, strict=True):
        if not check(value):
            return f"{column} is {shown(value)} and must be {rule}"
    if table == "leases" and row[6] != project_name(row[2], row[0]):
        return f"project is {shown(row[6])} and must be {project_name(row[2], row[0])}"
    return None


def check(table: str, row: Sequence[Any]) -> None:
    """
    Check a row before it is used.

    Raises:
        BadRowError: If a value breaks its rule.
    """
    found = fault(table, row)
    if found is not None:
        raise BadRowError(f"a row of {table}: {found}")


def shown(value: object) -> str:
    """Return *value* for a message: short, and in printable characters."""
    text = ascii(value[:_SHOWN] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."

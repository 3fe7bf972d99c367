"""What a host's owner may set: where state lives, which ports and subnets the pool holds, where images come from."""

from __future__ import annotations

import itertools
import os
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast, get_args

from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

ImageSource = Literal["auto", "registry", "packages"]
StartPath = Literal["auto", "compose"]
StartLimit = Literal["auto", "off"]

LARGEST_BLOCK: Final = 100  # ports
MOST_STARTS: Final = 1000  # at once: more is no limit, and off says so
NAMED_PORTS: Final = 5  # postgres, redis, backend, auth, websocket: the least a block can hold
SUBNET_PREFIX: Final = 28  # 13 addresses for containers: the pod, and room for what a project adds
DEFAULT_POOL: Final = "9500-9999"
DEFAULT_BLOCK: Final = "10"
DEFAULT_SUBNETS: Final = "10.213.0.0/17"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    The host-wide settings, each read from one environment variable.

    Attributes:
        state_dir: Directory of the lease book, one for each user of a host (``STACKYARD_STATE_DIR``).
        pools: Ranges of TCP ports that leases are cut from (``STACKYARD_POOL``, such as ``9500-9999,20000-20999``).
        block: Consecutive ports in one lease (``STACKYARD_POOL_BLOCK``).
        subnets: Network that the leases' /28 subnets are cut from (``STACKYARD_POOL_SUBNETS``).
        image_source: Where base images come from (``STACKYARD_IMAGE_SOURCE``).
        root: Project folder (``STACKYARD_ROOT``); None leaves finding it to ``environments.project_root``.
        start: Who makes a fresh stack's containers (``STACKYARD_START``): the engine itself where it can, or always
            ``docker compose up``.
        starts_at_once: How many stacks may be starting at a time (``STACKYARD_STARTS_AT_ONCE``): a number, auto for
            as many as there are processors, or off for no limit.
    """

    state_dir: Path
    pools: tuple[range, ...]
    block: int
    subnets: IPv4Network
    image_source: ImageSource = "auto"
    root: Path | None = None
    start: StartPath = "auto"
    starts_at_once: int | StartLimit = "auto"

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None) -> Settings:
        """
        Read the settings from *env*, by default this process's environment; an empty value counts as unset.

        Raises:
            UsageError: If a value is wrong; the text names the variable, the value and the rule.
        """
        source = os.environ if env is None else env
        given = {name: value.strip() for name, value in source.items() if name.startswith("STACKYARD_")}
        block = _block(given.get("STACKYARD_POOL_BLOCK") or DEFAULT_BLOCK)
        root = given.get("STACKYARD_ROOT")
        return cls(
            state_dir=_state_dir(given.get("STACKYARD_STATE_DIR")),
            pools=_pools(given.get("STACKYARD_POOL") or DEFAULT_POOL, block),
            block=block,
            subnets=_subnets(given.get("STACKYARD_POOL_SUBNETS") or DEFAULT_SUBNETS),
            image_source=_image_source(given.get("STACKYARD_IMAGE_SOURCE") or "auto"),
            root=Path(root).absolute() if root else None,
            start=_start(given.get("STACKYARD_START") or "auto"),
            starts_at_once=_starts_at_once(given.get("STACKYARD_STARTS_AT_ONCE") or "auto"),
        )

    @property
    def slots(self) -> int:
        """How many leases the port pool can hold at once."""
        return sum(len(pool) // self.block for pool in self.pools)

    @property
    def pool_text(self) -> str:
        """The port pool as its setting writes it."""
        return ",".join(f"{pool.start}-{pool.stop - 1}" for pool in self.pools)

    @property
    def host(self) -> str:
        """
        Twelve hex digits that tell this user's book on this machine from any other on the same engine.

        Derived, never stored: stacks that outlive a deleted state directory are still recognised as ours.
        """
        import hashlib  # noqa: PLC0415 - loads OpenSSL, which commands that only look need not wait for

        seed = "\n".join([_machine(), socket.gethostname(), str(self.state_dir.resolve()), str(os.geteuid())])
        return hashlib.sha256(seed.encode()).hexdigest()[:12]


def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _state_dir(text: str | None) -> Path:
    if text:
        if "\0" in text:
            raise UsageError(f"STACKYARD_STATE_DIR must be a path without NUL, got {text!r}")
        return Path(text).expanduser().absolute()
    from platformdirs import user_state_path  # noqa: PLC0415 - not needed where the variable is set

    return user_state_path("stackyard")


def _number(text: str) -> int | None:
    """Return a plain decimal number of at most five digits; None for anything else, "08" too."""
    return int(text) if re.fullmatch(r"0|[1-9][0-9]{0,4}", text, re.ASCII) else None


def _block(text: str) -> int:
    block = _number(text)
    if block is None or not NAMED_PORTS <= block <= LARGEST_BLOCK:
        rule = f"a number of ports from {NAMED_PORTS} to {LARGEST_BLOCK}"
        raise UsageError(f"STACKYARD_POOL_BLOCK must be {rule}, got {text!r}")
    return block


def _pools(text: str, block: int) -> tuple[range, ...]:
    pools = tuple(_pool(part.strip(), block) for part in text.split(","))
    ordered = sorted(pools, key=lambda pool: pool.start)
    for below, above in itertools.pairwise(ordered):
        if above.start < below.stop:
            raise UsageError(f"STACKYARD_POOL has overlapping ranges around port {above.start}, got {text!r}")
    return pools


def _pool(text: str, block: int) -> range:
    first, _, last = text.partition("-")
    start, end = _number(first), _number(last)
    if start is None or end is None or not 1024 <= start <= end <= 65535:  # noqa: PLR2004 - as the message says
        raise UsageError(f"STACKYARD_POOL must be ranges within 1024-65535 such as {DEFAULT_POOL}, got {text!r}")
    if end - start + 1 < block:
        raise UsageError(f"STACKYARD_POOL range {text} is shorter than one block of {block} ports")
    return range(start, end + 1)


def _subnets(text: str) -> IPv4Network:
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise UsageError(f"STACKYARD_POOL_SUBNETS must be an IPv4 network such as {DEFAULT_SUBNETS}: {error}") from None
    if not network.is_private or not 8 <= network.prefixlen <= SUBNET_PREFIX:  # noqa: PLR2004 - as the message says
        raise UsageError(f"STACKYARD_POOL_SUBNETS must be a private network from /8 to /{SUBNET_PREFIX}, got {text!r}")
    return network


def _image_source(text: str) -> ImageSource:
    known = get_args(ImageSource)
    if text not in known:
        raise UsageError(f"STACKYARD_IMAGE_SOURCE must be one of {', '.join(known)}, got {text!r}")
    return cast("ImageSource", text)


def _start(text: str) -> StartPath:
    known = get_args(StartPath)
    if text not in known:
        raise UsageError(f"STACKYARD_START must be one of {', '.join(known)}, got {text!r}")
    return cast("StartPath", text)


def _starts_at_once(text: str) -> int | StartLimit:
    if text in get_args(StartLimit):
        return cast("StartLimit", text)
    number = _number(text)
    if number is None or not 1 <= number <= MOST_STARTS:
        raise UsageError(
            f"STACKYARD_STARTS_AT_ONCE must be auto, off or a number from 1 to {MOST_STARTS}, got {text!r}"
        )
    return number

"""
The settings of a host: the state directory, the ports and subnets of the pool, the source of images.

Each setting is an environment variable, and `SETTINGS` is the one list of them. `Settings.load` reads and checks all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast, get_args

from stackyard._util.durations import LONGEST, seconds
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ImageSource = Literal["auto", "registry", "packages"]
StartPath = Literal["auto", "compose"]
StartLimit = Literal["auto", "off"]
Switch = Literal["on", "off"]

LARGEST_BLOCK: Final = 100  # ports
MOST_STARTS: Final = 1000  # at once; off is for more than that
NAMED_PORTS: Final = 5  # those of an environment's services: the least a block can hold
SUBNET_PREFIX: Final = 28  # 13 addresses for containers: the services, and room for what a project adds
DEFAULT_POOL: Final = "9500-9999"
DEFAULT_BLOCK: Final = "10"
DEFAULT_SUBNETS: Final = "10.213.0.0/17"
LONGEST_ANSWER: Final = 3600.0  # seconds that anybody may want to wait for an engine
PREFIX: Final = "STACKYARD_"
SITE_RULE: Final = "local, context:NAME or swarm"
REGISTRY_RULE: Final = "HOST:PORT, with a path after it or not"
_REGISTRY: Final = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)*")  # as docker takes it
_SITE: Final = re.compile(r"local|swarm|context:[a-zA-Z0-9][a-zA-Z0-9_.+-]*")  # names as docker takes them
_LONGEST_PATH: Final = 1024  # characters; with a lease's files it stays below what the system takes
_LIKE: Final = 0.75  # how similar two names are, from 0 to 1, for one to be taken for a slip of the other
# stackyard's variables that are no settings: a lease's env file or a program of stackyard gives them to others.
_HANDED: Final = re.compile(
    r"LEASE|CHECKOUT|PARALLEL_ID|ENVIRONMENT|HOST|OWNER|CREATED|PORTS|SUBNET|MEMORY_MB|SECRETS_DIR|ALLOWED_ORIGIN|FLAVOUR"
    r"|RESTART|RESTART_COMMAND|PAYLOAD|CRASH_AT|FULL|NOX_INSIDE|BENCH_PYTHON|SPARE_PORT_\d+|(JWT|HEALTH|DATA)_\w+"
    r"|(POSTGRES|REDIS|AUTH|BACKEND|WEBSOCKET)_\w+|IMAGE_(POSTGRES|REDIS|AUTH|BACKEND)"
)


class Setting(NamedTuple):
    """
    One setting.

    Attributes:
        name: Its environment variable.
        default: What an unset or empty variable means, as the variable would say it, or in words.
        rule: What its value must be, and *text* what it is for.
        read: Returns the value of a text, None for an unset variable; raises a UsageError if it breaks the rule.
    """

    name: str
    default: str
    rule: str
    text: str
    read: Callable[[str | None], Any]


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
        start: Who makes a fresh stack's containers (``STACKYARD_START``): the engine if it can (auto), or Compose.
        starts_at_once: How many stacks may be starting at a time (``STACKYARD_STARTS_AT_ONCE``); auto: processors.
        reaper: Whether commands start the background process (``STACKYARD_REAPER``).
        engine_timeout: Seconds that a command waits for an engine (``STACKYARD_ENGINE_TIMEOUT``); None: the default.
        payload_timeout: Seconds that a run's tests may take (``STACKYARD_PAYLOAD_TIMEOUT``); None without a limit.
        site: Where copies run (``STACKYARD_SITE``): local, context:NAME or swarm.
        registry: Where nodes of a Swarm get images that only its manager has (``STACKYARD_REGISTRY``); None without.
        keep_images: Seconds that a copied service's latest image stays after its last use (``STACKYARD_KEEP_IMAGES``).
    """

    state_dir: Path
    pools: tuple[range, ...]
    block: int
    subnets: IPv4Network
    image_source: ImageSource = "auto"
    root: Path | None = None
    start: StartPath = "auto"
    starts_at_once: int | StartLimit = "auto"
    reaper: Switch = "on"
    engine_timeout: float | None = None
    payload_timeout: float | None = None
    site: str = "local"
    registry: str | None = None
    keep_images: float = 14 * 86400.0

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None) -> Settings:
        """
        Read the settings from *env*, by default this process's environment; an empty value counts as unset.

        A variable of this process's that is nearly a setting is named on standard error, once.

        Raises:
            UsageError: If a value is wrong; the text names the variable, the value and the rule.
        """
        source = os.environ if env is None else env
        if env is None:
            _name_slips(source)
        found = {item.name.removeprefix(PREFIX).lower(): item.read(_given(item.name, source)) for item in SETTINGS}
        pools, block, subnets = found.pop("pool"), found.pop("pool_block"), found.pop("pool_subnets")
        _check_pools(pools, block)
        return cls(pools=pools, block=block, subnets=subnets, **found)

    def variables(self) -> dict[str, str]:
        """Return the environment variables with which another process reads the same settings."""
        given = {
            "STATE_DIR": self.state_dir, "POOL": self.pool_text, "POOL_BLOCK": self.block, "POOL_SUBNETS": self.subnets,
            "IMAGE_SOURCE": self.image_source, "ROOT": self.root, "START": self.start,
            "STARTS_AT_ONCE": self.starts_at_once, "REAPER": self.reaper, "ENGINE_TIMEOUT": self.engine_timeout,
            "PAYLOAD_TIMEOUT": self.payload_timeout, "SITE": self.site, "REGISTRY": self.registry,
            "KEEP_IMAGES": self.keep_images,
        }  # fmt: skip
        return {f"{PREFIX}{name}": str(value) for name, value in given.items() if value is not None}

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

        Derived, never stored: stacks that outlive a deleted state directory are still recognised as stackyard's.
        """
        import hashlib

        seed = "\n".join([_machine(), socket.gethostname(), os.path.realpath(self.state_dir), str(os.geteuid())])
        return hashlib.sha256(seed.encode()).hexdigest()[:12]


def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _state_dir(text: str | None) -> Path:
    if text:
        return _path("STACKYARD_STATE_DIR", text)
    from platformdirs import user_state_path

    return _path("STACKYARD_STATE_DIR", str(user_state_path("stackyard")))


def _path(name: str, text: str) -> Path:
    """
    Return the absolute path that *text* gives.

    Raises:
        UsageError: If it cannot be written into an env file, or is longer than the system takes.
    """
    if not text.isprintable() or len(text) > _LONGEST_PATH:
        rule = f"a path of at most {_LONGEST_PATH} printable characters"
        raise UsageError(f"{name} must be {rule}, got {text[:60]!a}")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{name} cannot be resolved ({error}), got {text[:60]!a}") from None


def value(name: str, env: Mapping[str, str] | None = None) -> Any:
    """
    Read one setting.

    Args:
        name: Its variable.
        env: Where to read it; by default this process's environment.

    Raises:
        UsageError: If its value is wrong.
    """
    return _BY_NAME[name].read(_given(name, os.environ if env is None else env))


def slips(names: Iterable[str]) -> dict[str, str]:
    """Return which of *names* are no variable of stackyard but nearly a setting, and which setting that is."""
    import difflib

    found = {}
    for name in names:
        known = name in _BY_NAME or (name.startswith(PREFIX) and _HANDED.fullmatch(name.removeprefix(PREFIX)))
        if not known and name.upper().startswith("STACK"):
            own, known_names = _bare(name), {_bare(item): item for item in _BY_NAME}
            if near := difflib.get_close_matches(own, known_names, n=1, cutoff=_LIKE):
                found[name] = known_names[near[0]]
    return found


def _bare(name: str) -> str:
    """Return what tells a setting from others, for the comparison."""
    return re.sub(r"^STACK_?YARD[_-]*", "", name.upper())


def _name_slips(env: Mapping[str, str]) -> None:
    strange = [name for name in env if name[:5].upper() == "STACK" and name not in _BY_NAME and name not in _named]
    for name, setting in slips(strange).items():
        _named.add(name)
        with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error may be closed or gone
            sys.stderr.write(f"{ascii(name[:60])[1:-1]} is not a setting; did you mean {setting}?\n")


def _given(name: str, env: Mapping[str, str]) -> str | None:
    return env.get(name, "").strip() or None


def _number(text: str) -> int | None:
    """Return a plain decimal number of at most five digits; None for anything else, "08" too."""
    return int(text) if re.fullmatch(r"0|[1-9][0-9]{0,4}", text, re.ASCII) else None


def _block(text: str | None) -> int:
    block = _number(text := text or DEFAULT_BLOCK)
    if block is None or not NAMED_PORTS <= block <= LARGEST_BLOCK:
        rule = f"a number of ports from {NAMED_PORTS} to {LARGEST_BLOCK}"
        raise UsageError(f"STACKYARD_POOL_BLOCK must be {rule}, got {text!r}")
    return block


def _pools(text: str | None) -> tuple[range, ...]:
    text = text or DEFAULT_POOL
    pools = tuple(_pool(part.strip()) for part in text.split(","))
    for below, above in itertools.pairwise(sorted(pools, key=lambda pool: pool.start)):
        if above.start < below.stop:
            raise UsageError(f"STACKYARD_POOL has overlapping ranges around port {above.start}, got {text!r}")
    return pools


def _pool(text: str) -> range:
    first, _, last = text.partition("-")
    start, end = _number(first), _number(last)
    if start is None or end is None or not 1024 <= start <= end <= 65535:  # noqa: PLR2004 - as the message says
        raise UsageError(f"STACKYARD_POOL must be ranges within 1024-65535 such as {DEFAULT_POOL}, got {text!r}")
    return range(start, end + 1)


def _check_pools(pools: tuple[range, ...], block: int) -> None:
    for pool in pools:
        if len(pool) < block:
            shown = f"{pool.start}-{pool.stop - 1}"
            raise UsageError(f"STACKYARD_POOL range {shown} is shorter than one block of {block} ports")


def _subnets(text: str | None) -> IPv4Network:
    try:
        network = IPv4Network(text := text or DEFAULT_SUBNETS)
    except ValueError as error:
        rule = f"an IPv4 network such as {DEFAULT_SUBNETS}"
        raise UsageError(f"STACKYARD_POOL_SUBNETS must be {rule}, got {text!r} ({error})") from None
    if not network.is_private or not 8 <= network.prefixlen <= SUBNET_PREFIX:  # noqa: PLR2004 - as the message says
        raise UsageError(f"STACKYARD_POOL_SUBNETS must be a private network from /8 to /{SUBNET_PREFIX}, got {text!r}")
    return network


def _one_of(name: str, known: tuple[str, ...], default: str) -> Callable[[str | None], str]:
    """Return what reads a setting that has few values."""

    def read(text: str | None) -> str:
        if text is None or text in known:
            return text or default
        listed = " or ".join(known) if len(known) == 2 else f"one of {', '.join(known)}"  # noqa: PLR2004 - as English has it
        raise UsageError(f"{name} must be {listed}, got {text[:60]!r}")

    return read


def _starts_at_once(text: str | None) -> int | StartLimit:
    if text is None or text in get_args(StartLimit):
        return cast("StartLimit", text or "auto")
    number = _number(text)
    if number is None or not 1 <= number <= MOST_STARTS:
        rule = f"auto, off or a number from 1 to {MOST_STARTS}"
        raise UsageError(f"STACKYARD_STARTS_AT_ONCE must be {rule}, got {text!r}")
    return number


def check_site(name: str, text: str) -> str:
    """
    Return the *text* of an option or a setting that names a site.

    Raises:
        UsageError: If it names none; the text begins with *name*.
    """
    return _formed(name, text, _SITE, SITE_RULE)


def _formed(name: str, text: str, form: re.Pattern[str], rule: str) -> str:
    if form.fullmatch(text):
        return text
    raise UsageError(f"{name} must be {rule}, got {text[:60]!r}")


def _time(name: str, most: float, default: float | None = None) -> Callable[[str | None], float | None]:
    """Return what reads a setting that is a length of time; *default* for an unset one."""
    return lambda text: default if text is None else seconds(name, text, most=most)


SETTINGS: Final = (
    Setting(
        "STACKYARD_STATE_DIR", "~/.local/state/stackyard", "a path",
        "Directory of the lease book and of every lease's files. It must be new, empty or stackyard's own. A relative "
        "path starts at the current directory.", _state_dir,
    ),
    Setting(
        "STACKYARD_POOL", DEFAULT_POOL, "one or more ranges of ports within 1024-65535, separated by commas",
        "TCP ports that leases take their ports from.", _pools,
    ),
    Setting(
        "STACKYARD_POOL_BLOCK", DEFAULT_BLOCK, f"a number of ports from {NAMED_PORTS} to {LARGEST_BLOCK}",
        "How many consecutive ports one lease gets.", _block,
    ),
    Setting(
        "STACKYARD_POOL_SUBNETS", DEFAULT_SUBNETS, f"a private IPv4 network from /8 to /{SUBNET_PREFIX}",
        f"Network that the /{SUBNET_PREFIX} subnets of the leases are taken from.", _subnets,
    ),
    Setting(
        "STACKYARD_IMAGE_SOURCE", "auto", "auto, registry or packages",
        "Where base images come from: a container registry, or packages of the distributions. auto takes the registry "
        "if the engine reaches it.",
        _one_of("STACKYARD_IMAGE_SOURCE", get_args(ImageSource), "auto"),
    ),
    Setting(
        "STACKYARD_ROOT", "found from the working directory", "a path",
        "Directory of the project: the one that holds envs/docker_environments.yaml.",
        lambda text: text and _path("STACKYARD_ROOT", text),
    ),
    Setting(
        "STACKYARD_START", "auto", "auto or compose",
        "How a stack is started: by requests to the engine where stackyard understands the Compose file, or always by "
        "docker compose up.",
        _one_of("STACKYARD_START", get_args(StartPath), "auto"),
    ),
    Setting(
        "STACKYARD_STARTS_AT_ONCE", "auto", f"auto, off or a number from 1 to {MOST_STARTS}",
        "How many stacks may be starting at a time on this host. auto is the number of processors, off is no limit.",
        _starts_at_once,
    ),
    Setting(
        "STACKYARD_REAPER", "on", "on or off",
        "Whether commands start the background process that removes the stacks of killed runs and keeps stacks warm.",
        _one_of("STACKYARD_REAPER", get_args(Switch), "on"),
    ),
    Setting(
        "STACKYARD_ENGINE_TIMEOUT", "22s", "a time such as 30s, up to 1h",
        "How long one command waits for the engine in all.", _time("STACKYARD_ENGINE_TIMEOUT", LONGEST_ANSWER),
    ),
    Setting(
        "STACKYARD_PAYLOAD_TIMEOUT", "no limit", "a time such as 90s or 10m, up to 30d",
        "How long the tests of a run may take.", _time("STACKYARD_PAYLOAD_TIMEOUT", LONGEST),
    ),
    Setting(
        "STACKYARD_SITE", "local", SITE_RULE,
        "Where copies run: on this host's engine, on the engine of a Docker context, or on a Docker Swarm.",
        lambda text: check_site("STACKYARD_SITE", text or "local"),
    ),
    Setting(
        "STACKYARD_REGISTRY", "the Swarm's own, if it has one", REGISTRY_RULE,
        "The registry from which the nodes of a Swarm get images that only its manager has.",
        lambda text: text and _formed("STACKYARD_REGISTRY", text, _REGISTRY, REGISTRY_RULE),
    ),
    Setting(
        "STACKYARD_KEEP_IMAGES", "14d", "a time such as 12h or 7d, up to 365d",
        "How long the latest image that copies of a service were built with stays after its last use.",
        _time("STACKYARD_KEEP_IMAGES", 365 * 86400.0, 14 * 86400.0),
    ),
)  # fmt: skip
NAMES: Final = frozenset(item.name for item in SETTINGS)
_BY_NAME: Final = {item.name: item for item in SETTINGS}
_named: Final[set[str]] = set()  # slips that this process has named

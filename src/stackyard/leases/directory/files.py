"""A lease's files: its directory, its secrets, and the env file that Compose, a shell and the tests read."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stackyard._util import files as disk
from stackyard.errors import UsageError
from stackyard.leases.directory import credentials
from stackyard.leases.names import ID
from stackyard.leases.owners import is_held
from stackyard.leases.port_format import ports_text
from stackyard.leases.records import ENV, KEEPER, LOCK, SECRET_NAMES, own_names
from stackyard.project.environments.services import HOST, variable
from stackyard.settings import LARGEST_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from stackyard.leases.records import Lease
    from stackyard.project.environments.services import Services

DRAFT: Final = ".new-"  # begins the name of a directory that belongs to no lease yet
_GONE: Final = ".gone-"  # begins the name of a directory whose lease has ended
_UNFINISHED: Final = re.compile(rf"({re.escape(DRAFT)}|{re.escape(_GONE)})[0-9a-f]{{12}}")
_NAME: Final = re.compile(rf"{ID.pattern}|{_UNFINISHED.pattern}", re.ASCII)
_OWN: Final = frozenset(
    [
        "COMPOSE_PROJECT_NAME",
        *(f"STACKYARD_{word}" for word in (
            "LEASE PARALLEL_ID ENVIRONMENT HOST OWNER CREATED PORTS SUBNET MEMORY_MB EXCLUSIVE SECRETS SECRETS_DIR"
        ).split()),
        *(f"STACKYARD_SPARE_PORT_{number}" for number in range(1, LARGEST_BLOCK)),
    ]
)  # fmt: skip
_SPARE: Final = "STACKYARD_SPARE_PORT_"
_ADDRESS: Final = re.compile(rf"{re.escape(HOST)}:([0-9]+)")
_KEY: Final = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
# A POSIX shell, Compose and stackyard read these characters as they are. All others go into single quotes, where the
# three agree too.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.,:/@%+=-]*", re.ASCII)
_QUOTABLE: Final = re.compile(r"[^'\x00-\x1f\x7f\u0085\u2028\u2029]*")


def write(
    lease: Lease,
    environment: Mapping[str, str],
    extra: Mapping[str, str],
    host: str,
    services: Services | None = None,
) -> None:
    """
    Write the lease's secrets (kept if they are there) and its env file, each replaced in one step.

    Args:
        lease: Whose files.
        environment: Variables of the environment's own env file.
        extra: Variables on top of them, such as image references; none may be one of the lease's own.
        host: ``Settings.host``.
        services: The services of the environment; None for a copy.

    Raises:
        UsageError: If a variable cannot be written so that Compose, a shell and stackyard read the same value.
        BookError: If a secret cannot be written.
        OSError: If the env file cannot be written.
    """
    text = common_text(environment, extra, services)
    disk.make_folder(lease.directory)
    secrets = credentials.ensure(lease.secrets_dir, services.secrets) if services else {}
    disk.write(lease.env_file, (text + own_text(lease, secrets, host, services)).encode())


def restorer(lease: Lease) -> Callable[[], None]:
    """
    Return what puts the env file of *lease* back as it is now.

    Raises:
        BookError: If the file cannot be read.
    """
    text = env_text(lease.variables())
    return lambda: disk.write(lease.env_file, text.encode())


def rewrite(held: Lease, lease: Lease, host: str) -> None:
    """
    Write the env file of *held* again for what it has become, *lease*: another owner, name or place.

    Raises:
        UsageError: If a variable cannot be written.
        BookError: If the file cannot be read.
        OSError: If it cannot be written.
    """
    found = held.variables()
    own = dict.fromkeys(own_names(found))
    given = {name: value for name, value in found.items() if name not in own}
    rest = {name: found[name] for name in own if not name.startswith(_SPARE)}
    moved = {str(port): str(lease.ports[name]) for name, port in held.ports.items() if name in lease.ports}
    rest = {name: _ADDRESS.sub(lambda at: f"{HOST}:{moved.get(at[1], at[1])}", value) for name, value in rest.items()}
    disk.write(lease.env_file, env_text({**given, **_finished(lease, {**rest, **_told(lease, host)})}).encode())


def write_new(file: Path, text: str) -> None:
    """
    Write *text* to a new file, mode 0600.

    Raises:
        OSError: If the file exists, or cannot be written.
    """
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as opened:
        opened.write(text.encode())


def append(file: Path, text: str) -> None:
    """
    Append *text* to an existing file.

    Raises:
        OSError: If the file does not exist, or cannot be written.
    """
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(handle, "wb") as opened:
        opened.write(text.encode())


def own_variables(services: Services | None) -> frozenset[str]:
    """Return the names of the variables that only a lease of *services*, or of a copy, can give."""
    return _OWN | services.own if services else _OWN


def common_text(environment: Mapping[str, str], extra: Mapping[str, str], services: Services | None = None) -> str:
    """
    Write the variables that no lease changes; leave the lease's own out of *environment*.

    Raises:
        UsageError: If a variable of *extra* is the lease's own, or one cannot be written so that Compose, a shell and
            stackyard read the same value.
    """
    own = own_variables(services)
    if clash := sorted(own & extra.keys()):
        raise UsageError(f"variable {clash[0]} belongs to the lease and cannot be given")
    return env_text({key: value for key, value in {**environment, **extra}.items() if key not in own})


def own_text(lease: Lease, secrets: Mapping[str, str], host: str, services: Services | None = None) -> str:
    """
    Write the variables that only the lease can give.

    Raises:
        UsageError: If no env file can hold the state directory's path.
    """
    return env_text(variables(lease, secrets, host, services))


def variables(lease: Lease, secrets: Mapping[str, str], host: str, services: Services | None = None) -> dict[str, str]:
    """Return the variables that only the lease can give; those of an environment's *services* need its *secrets*."""
    own = _told(lease, host)
    if services is None:
        return own
    own |= {SECRET_NAMES: ",".join(secrets), "STACKYARD_SECRETS_DIR": str(lease.secrets_dir)}
    told = services.filled(lease.ports, secrets, lease.id)
    return _finished(lease, {**own, **{name: value for name, value in told.items() if name not in own}})


def _told(lease: Lease, host: str) -> dict[str, str]:
    """Return what a lost book is made again from."""
    return {
        "COMPOSE_PROJECT_NAME": lease.project,
        "STACKYARD_LEASE": lease.id,
        "STACKYARD_PARALLEL_ID": lease.parallel_id or "",
        "STACKYARD_ENVIRONMENT": lease.environment,
        "STACKYARD_HOST": host,
        "STACKYARD_OWNER": lease.owner.label(),
        "STACKYARD_CREATED": f"{lease.created:.3f}",
        "STACKYARD_PORTS": ports_text(lease.ports, lease.spare),
        "STACKYARD_SUBNET": lease.subnet,
        "STACKYARD_MEMORY_MB": str(lease.memory_mb),
        **({"STACKYARD_EXCLUSIVE": ",".join(lease.exclusive)} if lease.exclusive else {}),
    }


def _finished(lease: Lease, own: Mapping[str, str]) -> dict[str, str]:
    """Add the port of each service, and those that no service uses."""
    urls = {} if lease.is_copy else lease.urls_in(own)
    ports = {variable(name, "PORT"): str(urlsplit(url).port) for name, url in urls.items() if name in lease.ports}
    spare = {} if lease.is_copy else {f"{_SPARE}{number}": str(port) for number, port in enumerate(lease.spare, 1)}
    return {**own, **ports, **spare}


def env_text(values: Mapping[str, str]) -> str:
    """
    Write variables as an env file.

    Raises:
        UsageError: If a name is not a variable's, or a value has a quote, a line break or a control character.
    """
    return "".join(f"{_key(key)}={_quoted(key, value)}\n" for key, value in values.items())


def _key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise UsageError(f"variable names are A-Z, 0-9 and '_', got {key[:60]!r}")
    return key


def _quoted(key: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if not _QUOTABLE.fullmatch(value):
        raise UsageError(
            f"variable {key} has a single quote, line break or control character, which no env file can hold"
        )
    return f"'{value}'"


def is_ours(directory: Path) -> bool:
    """
    Say whether stackyard made this directory for a lease, and so may remove it with its content.

    This is so if its name is that of a lease, a draft or a removed lease, it is a real directory of this user, and it
    holds the lock file of a lease or an env file that names this lease.
    """
    if not _NAME.fullmatch(directory.name) or not disk.is_folder(directory):
        return False
    return any(disk.is_plain(directory / name) for name in (LOCK, KEEPER)) or _names_itself(directory)


def _names_itself(directory: Path) -> bool:
    try:
        lines = disk.read(directory / ENV).splitlines()
    except OSError:
        return False
    return f"STACKYARD_LEASE={directory.name}".encode() in lines


def remove(directory: Path) -> Path | None:
    """
    Move a lease's directory out of its place in one step, for *discard*.

    Returns:
        The new place; None if there is no directory, or stackyard did not make it: then it stays, and the log names it.

    Raises:
        OSError: If it cannot be moved.
    """
    if not is_ours(directory):
        if os.path.lexists(directory):
            import logging

            logging.getLogger("stackyard").warning("%s was not made by stackyard, so it stays", directory)
        return None
    # a directory that is only partly removed must still show that stackyard made it
    with contextlib.suppress(OSError):
        os.close(os.open(directory / LOCK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    aside = directory.with_name(f"{_GONE}{os.urandom(6).hex()}")
    directory.rename(aside)
    return aside


def orphans(folder: Path, leases: Collection[str]) -> list[Path]:
    """
    Move directories in *folder* that stackyard made aside, except those of *leases* and of living processes.

    *discard* deletes them. Everything else in *folder* stays.
    """
    try:
        names = sorted(set(os.listdir(folder)).difference(leases))  # noqa: PTH208 - names are all that is needed
    except FileNotFoundError:
        return []
    dead = [path for name in names if is_ours(path := folder / name) and not is_held(path / LOCK)]
    for name in names:
        if _UNFINISHED.fullmatch(name):
            with contextlib.suppress(
                OSError
            ):  # empty: its maker was killed before its first file, or its remover after its last
                (folder / name).rmdir()
    asides = [path if path.name.startswith(_GONE) else remove(path) for path in dead]
    return [aside for aside in asides if aside is not None]


def discard(aside: Path | None) -> None:
    """Delete a directory that *remove* moved, or a draft; a later clean-up tries again if this fails."""
    if aside is not None:
        disk.remove_tree(aside, last=LOCK)

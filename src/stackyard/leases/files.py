"""A lease's files: its directory, its secrets, and the env file that Compose, a shell and the tests all read alike."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from stackyard import credentials
from stackyard.errors import UsageError
from stackyard.leases.records import ports_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from stackyard.credentials import Credentials
    from stackyard.leases.records import Lease

_KEY: Final = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
# Read as themselves by a POSIX shell, by Compose and by us; all else goes into single quotes, where all three agree.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.,:/@%+=-]*", re.ASCII)
_QUOTABLE: Final = re.compile(r"[^'\x00-\x1f\x7f\u0085\u2028\u2029]*")


def write(lease: Lease, environment: Mapping[str, str], extra: Mapping[str, str], host: str) -> None:
    """
    Write the lease's secrets (kept if they are there) and its env file, each replaced in one step.

    Args:
        lease: Whose files.
        environment: Variables of the environment's own env file.
        extra: Variables on top of them, such as image references; none may be one of the lease's own.
        host: ``Settings.host``.

    Raises:
        UsageError: If a variable cannot be written so that every reader reads it alike.
        BookError: If a secret cannot be written.
        OSError: If the env file cannot be written.
    """
    lease.directory.mkdir(mode=0o700, exist_ok=True)
    own = variables(lease, credentials.ensure(lease.secrets_dir), host)
    if clash := sorted(own.keys() & extra.keys()):
        raise UsageError(f"variable {clash[0]} belongs to the lease and cannot be given")
    text = env_text({**environment, **extra, **own})
    temporary = lease.directory / f".env.{os.urandom(4).hex()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(lease.env_file)


def variables(lease: Lease, secrets: Credentials, host: str) -> dict[str, str]:
    """Return the variables that only the lease can give."""
    ports = lease.ports
    own = {
        "COMPOSE_PROJECT_NAME": lease.project,
        "STACKYARD_LEASE": lease.id,
        "STACKYARD_PARALLEL_ID": lease.parallel_id or "",
        "STACKYARD_ENVIRONMENT": lease.environment,
        "STACKYARD_HOST": host,
        "STACKYARD_OWNER": lease.owner.label(),
        "STACKYARD_CREATED": f"{lease.created:.3f}",
        "STACKYARD_PORTS": ports_text(ports, lease.spare),
        "STACKYARD_SUBNET": lease.subnet,
        "STACKYARD_SECRETS_DIR": str(lease.secrets_dir),
        "STACKYARD_POSTGRES_URL": f"postgresql://app:{secrets.postgres_password}@127.0.0.1:{ports['postgres']}/app",
        "STACKYARD_REDIS_URL": f"redis://app:{secrets.redis_password}@127.0.0.1:{ports['redis']}/0",
        "STACKYARD_AUTH_URL": f"http://127.0.0.1:{ports['auth']}",
        "STACKYARD_BACKEND_URL": f"http://127.0.0.1:{ports['backend']}",
        "STACKYARD_WEBSOCKET_URL": f"ws://127.0.0.1:{ports['backend']}/ws",
        "STACKYARD_JWT_KEY": secrets.jwt_key,
        "STACKYARD_JWT_ISSUER": "stackyard-auth",
        "STACKYARD_JWT_AUDIENCE": lease.id,
        "STACKYARD_ALLOWED_ORIGIN": f"http://127.0.0.1:{ports['backend']}",
    }
    return own | {f"STACKYARD_{service.upper()}_PORT": str(port) for service, port in ports.items()}


def given(lease: Lease) -> dict[str, str]:
    """
    Return the variables of the lease's env file that are not the lease's own: its environment's and its caller's.

    Raises:
        BookError: If the file cannot be read.
    """
    own = variables(lease, credentials.read(lease.secrets_dir), "")
    return {key: value for key, value in lease.variables().items() if key not in own}


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
            f"variable {key} has a single quote, line break or control character, which no env file can carry"
        )
    return f"'{value}'"


def remove(directory: Path) -> Path | None:
    """Move a lease's directory out of its place in one step, for *discard*; None if there is none."""
    aside = directory.with_name(f".gone-{os.urandom(6).hex()}")
    try:
        directory.rename(aside)
    except FileNotFoundError:
        return None
    return aside


def orphans(folder: Path, leases: Collection[str]) -> list[Path | None]:
    """Move what *folder* holds besides the directories of *leases* out of the way, for *discard*."""
    try:
        found = [path for path in folder.iterdir() if path.name not in leases]
    except FileNotFoundError:
        return []
    return [path if path.name.startswith(".gone-") else remove(path) for path in found]


def discard(aside: Path | None) -> None:
    """Delete a directory that *remove* moved; what cannot be deleted now is swept by a later clean-up."""
    if aside is not None:
        import shutil  # noqa: PLC0415 - brings half the compression modules, and many commands never get here

        shutil.rmtree(aside, ignore_errors=True)

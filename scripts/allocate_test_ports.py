#!/usr/bin/env python3
"""
Allocate a block of test ports that no other run on this host has, and give it back.

  allocate_test_ports.py --parallel-id NAME [--env ENV]     lease ports; the same name gives the same ports
  allocate_test_ports.py --parallel-id NAME --check-only    show whether NAME has ports, or could get some
  allocate_test_ports.py --parallel-id NAME --release       give the ports of NAME back
  allocate_test_ports.py --cleanup                          remove the stacks and leases of runs that have died
  allocate_test_ports.py --system-check                     check the lease book and the pool

A lease is written to .env.dynamic in the current folder, for `docker compose --env-file .env.dynamic`; --output names
another file. The file has mode 0600, because it holds passwords.
"""

from __future__ import annotations

if __name__ == "__main__":
    import _project  # type: ignore[import-not-found] # next to this script

    _project.enter()

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files, streams
from stackyard.cli import leasing
from stackyard.errors import StackyardError, UsageError
from stackyard.leases import LeaseBook
from stackyard.leases.names import check_id
from stackyard.project.environments import Environment, project_root
from stackyard.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from stackyard.leases import Lease

DYNAMIC: Final = ".env.dynamic"
COMPOSE_FILE: Final = "compose/docker-compose.unified.yml"
SERVED: Final = ("postgres", "redis", "backend", "auth")  # the backend serves the WebSocket


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the flags say; return 0, or the exit code of what went wrong."""
    words = sys.argv[1:] if argv is None else argv
    options = plain(words) or parser().parse_args(words, SimpleNamespace())
    try:
        answer, text = run(options)
    except StackyardError as error:
        print(f"allocate_test_ports.py: {error}", file=sys.stderr)
        return error.exit_code
    print(dumped(answer) if options.json else text)
    return 0


def plain(words: Sequence[str]) -> SimpleNamespace | None:
    """Read the flags of a plain allocation, which need not wait until argparse is imported; None for any others."""
    found: dict[str, Any] = dict.fromkeys(("base_port", "output"))
    found |= dict.fromkeys(("force", "json", "check_only", "release", "cleanup", "system_check"), False)
    found |= {"parallel_id": None, "env": "test"}
    rest = iter(words)
    for word in rest:
        if word in {"--force", "--json"}:
            found[word[2:]] = True
        elif word in {"--parallel-id", "--env"} and not (value := next(rest, "-")).startswith("-"):
            found[word[2:].replace("-", "_")] = value
        else:
            return None
    return SimpleNamespace(**found)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    import argparse
    import functools

    # a width of our own, because asking the terminal imports compression libraries that double the start
    layout = functools.partial(argparse.RawDescriptionHelpFormatter, width=120)
    made = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    made.add_argument("--parallel-id", "--name", help="your name for the run: a-z, 0-9, '_' and '-'")
    made.add_argument("--env", "--environment", default="test", help="environment the ports are for (default: test)")
    made.add_argument("--base-port", type=int, help="first port of the pool to allocate from (default: 9500)")
    made.add_argument(
        "--output",
        help="file for the lease: variables for --env-file, or JSON if it ends in .json (default: .env.dynamic)",
    )
    made.add_argument("--force", action="store_true", help="allocate even if there seems to be no memory for a stack")
    made.add_argument("--json", action="store_true", help="print JSON")
    action = made.add_mutually_exclusive_group()
    action.add_argument(
        "--check-only", "--dry-run", action="store_true", help="allocate nothing, only show what would be"
    )
    action.add_argument("--release", action="store_true", help="give the ports of --parallel-id back")
    action.add_argument("--cleanup", action="store_true", help="remove the stacks and leases of runs that have died")
    action.add_argument("--system-check", action="store_true", help="check the lease book and the pool")
    return made


def dumped(answer: dict[str, Any]) -> str:
    """Return the answer as JSON."""
    import json

    return json.dumps(answer, indent=2)


def run(options: SimpleNamespace) -> tuple[dict[str, Any], str]:
    """Return the answer as JSON values and as text."""
    book = LeaseBook(settings(options.base_port))
    if options.cleanup:
        return cleanup()
    if options.system_check:
        return system_check(book)
    if not options.parallel_id:
        raise UsageError("--parallel-id is needed, such as --parallel-id job-1")
    if options.release:
        lease = book.find(options.parallel_id, environment=options.env)
        return leasing.release(book, lease, note=note), f"released the ports of {lease.title}"
    if options.check_only:
        return check(book, options.parallel_id, options.env)
    environment = Environment.load(options.env, book.settings.root)
    lease = book.acquire(environment, parallel_id=options.parallel_id, force=options.force)
    return allocated(book, lease, options)


def allocated(book: LeaseBook, lease: Lease, options: SimpleNamespace) -> tuple[dict[str, Any], str]:
    """
    Write the lease to the file that was asked for, and return the answer.

    JSON alone needs no file; what prints variables writes one, because Compose needs more variables than a person.

    Raises:
        UsageError: If the file cannot be written; the lease stays.
    """
    compose_file = nearby((book.settings.root or project_root()) / COMPOSE_FILE)
    file = Path(options.output or DYNAMIC)
    if options.output or not options.json:
        as_json = file.suffix == ".json"
        write(file, dumped(lease.to_json()) if as_json else lease.env_file.read_text(encoding="utf-8"))
    given = lease.env_file if options.json or file.suffix == ".json" else file
    command = leasing.start_command(compose_file, given)
    end = f"invoke env.down --name {leasing.handle(book, lease)}"
    lines = [described(lease), f"# use it: {command}", f"# end it: {end}"]
    if options.output or not options.json:
        lines.insert(1, f"# written to {file.absolute()}")
    return {**lease.to_json(), "command": command, "end_command": end}, "\n".join(lines)


def nearby(path: Path) -> Path:
    """Return *path* from the current folder if it lies below it, else as it is."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def note(line: str) -> None:
    """Print a line to standard error."""
    print(line, file=sys.stderr)


def settings(base_port: int | None) -> Settings:
    """Return the host's settings, with the pool's first range starting at *base_port* if given."""
    if base_port is None:
        return Settings.load()
    pool = f"{base_port}-{base_port + len(Settings.load().pools[0]) - 1}"
    return Settings.load({**os.environ, "STACKYARD_POOL": pool})


def described(lease: Lease) -> str:
    """Return the lease as variables a shell can read; credentials stay in its env file."""
    lines = [f"STACKYARD_{service.upper()}_PORT={lease.ports[service]}" for service in SERVED]
    fields = {"SUBNET": lease.subnet, "LEASE": lease.id, "ENV_FILE": lease.env_file}
    return "\n".join(
        [*lines, f"COMPOSE_PROJECT_NAME={lease.project}", *(f"STACKYARD_{k}={v}" for k, v in fields.items())]
    )


def check(book: LeaseBook, name: str, environment: str) -> tuple[dict[str, Any], str]:
    """
    Say which ports a name has, or that it could get some.

    Raises:
        PoolExhaustedError: If it has none and none are free.
        UsageError: If the name or the environment is wrong.
    """
    check_id("--parallel-id", name)
    Environment.load(environment, book.settings.root)
    lease, free = leasing.availability(book, name, environment)
    if lease is not None:
        return {"allocated": True, **lease.to_json()}, described(lease)
    return {"allocated": False, "free_slots": free}, f"{name} has no ports; {free} slots are free"


def cleanup() -> tuple[dict[str, Any], str]:
    """Remove what dead owners left."""
    from stackyard.cleanup.removal import remove_stale

    removal = remove_stale().check()
    return removal.to_json(), f"{len(removal.removed)} removed, {len(removal.leases)} leases released"


def system_check(book: LeaseBook) -> tuple[dict[str, Any], str]:
    """Say how the book and the pool are."""
    from stackyard.leases.grants.host_ports import Ground

    leases, ground = book.leases(), Ground.survey()
    leased = {port for lease in leases for port in (*lease.ports.values(), *lease.spare)}
    others = [p for pool in book.settings.pools for p in pool if p not in leased and not ground.is_free([p])]
    answer = {
        "book": book.check(),
        "pool": book.settings.pool_text,
        "slots": book.settings.slots,
        "leased": sum(lease.slot is not None for lease in leases),
        "stale": sum(map(book.is_stale, leases)),
        "ports_of_other_programs": others,
    }
    return answer, "\n".join(f"{key.replace('_', ' ')}: {value}" for key, value in answer.items())


def write(file: Path, text: str) -> None:
    """
    Write *text*, which may hold passwords, in one step.

    Raises:
        UsageError: If the file cannot be written.
    """
    try:
        files.write(file.parent.resolve() / file.name, (text.rstrip("\n") + "\n").encode())
    except OSError as error:
        raise UsageError(
            f"cannot write {file}: {error.strerror or error}; --output names another file, and the lease is made"
        ) from None


if __name__ == "__main__":
    streams.guard()
    sys.exit(streams.settle(main()))

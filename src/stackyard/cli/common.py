"""What the task modules share: an error becomes one line and an exit code; a stack is found by its name."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from invoke.exceptions import Exit

from stackyard._util import files, optional_packages, streams
from stackyard._util.advice import Action, typed
from stackyard._util.printable import printable
from stackyard._util.tables import NOTHING, format_count
from stackyard.errors import BookError, StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stackyard.docker import Engine
    from stackyard.leases import Lease, LeaseBook
    from stackyard.stacks.environments.stack import Stack

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED: Final = 130  # as a shell says it
HOUR: Final = 3600.0  # seconds that a stack or a copy stays unless its user says otherwise
WIDTH: Final = 60  # columns of a wrong value that a message shows


def failing_cleanly(body: Callable[P, R]) -> Callable[P, R]:
    """
    Turn a StackyardError of *body* into Invoke's Exit with its message and exit code, and Ctrl-C into its own.

    A package that is missing because an extra is not installed counts as such an error.
    """

    @functools.wraps(body)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = body(*args, **kwargs)
        except StackyardError as error:
            raise Exit(printable(str(error), also="\n\t"), code=streams.settle(error.exit_code)) from None
        except ModuleNotFoundError as error:
            if (missing := optional_packages.explained(error)) is None:
                raise
            raise Exit(str(missing), code=streams.settle(missing.exit_code)) from None
        except (OSError, RuntimeError) as error:
            if (told := _told_by_the_system(error)) is None:
                raise
            raise told from None
        except Exit:
            streams.settle()
            raise
        except KeyboardInterrupt:
            raise Exit(code=INTERRUPTED) from None  # Invoke itself would say 1, as for any failure
        if lost := streams.settle():
            raise Exit(code=lost)
        return result

    return wrapper


def _told_by_the_system(error: OSError | RuntimeError) -> Exit | None:
    """Return the end of a command that met a full disk or a limit on processes; None for any other error."""
    from stackyard._util import process

    if limited := process.limit_reached(error):
        return Exit(limited, code=streams.settle(StackyardError.exit_code))
    if isinstance(error, OSError) and files.is_full(error) and error.filename:
        return Exit(files.refused(error.filename, error), code=streams.settle(BookError.exit_code))
    return None


def current_folder() -> Path:
    """Return the current folder; of one that is gone the path that the shell has, by which its copies are known."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(os.environ.get("PWD") or "/")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def tell(line: str) -> None:
    """Print a line on standard error at once."""
    print(line, file=sys.stderr, flush=True)


def telling(*, quiet: bool) -> Callable[[str], None]:
    """Return what prints the lines of a start on standard error: all, or with *quiet* only the warnings."""

    def tell_warnings(line: str) -> None:
        if line.startswith("warning: "):
            tell(line)

    return tell_warnings if quiet else tell


def answer(data: Any, text: str, *, as_json: bool) -> None:
    """Print *data* as JSON, or *text*."""
    print(json.dumps(data, indent=2) if as_json else text)


def sized(record: Any) -> dict[str, Any]:
    """Return a record as JSON has it: the keys of its sizes end in `_bytes`."""
    return {f"{key}_bytes" if key in {"size", "shared"} else key: value for key, value in asdict(record).items()}


def exit_code(code: int | None) -> object:
    """Return what a table shows of an exit code."""
    return NOTHING if code is None else code


def identity(lease: Lease) -> dict[str, Any]:
    """Return what every JSON answer says of a lease: its id, its name or None, its environment."""
    return {"lease": lease.id, "name": lease.parallel_id, "environment": lease.environment}


@contextlib.contextmanager
def opened() -> Iterator[tuple[LeaseBook, Engine]]:
    """Give a `with` block the lease book and the engine; the block's end closes the connection to the engine."""
    from stackyard.docker import Engine
    from stackyard.docker.lease_book import open_book

    with Engine() as engine:
        yield open_book(None, engine), engine


@contextlib.contextmanager
def attach(name: str = "", *, environment: str = "") -> Iterator[Stack]:
    """
    Give a `with` block the stack under a lease, found by the lease's name or id; without one, the only stack there is.

    The block's end closes the stack's connection to the engine.

    Args:
        name: Name or id; may be empty.
        environment: Only leases of this environment; empty for any.

    Raises:
        UsageError: If *name* is empty and there is not exactly one; warm stacks do not count.
        LeaseNotFoundError: If no lease has this name or id.
    """
    from stackyard.stacks.environments.stack import Stack

    with opened() as (book, engine):
        yield Stack.of(_lease(book, name, environment), book, engine)


def _lease(book: LeaseBook, name: str, environment: str) -> Lease:
    """Return the lease that a command means."""
    from stackyard.stacks.environments.checkouts import own_lease

    found = own_lease(book, name or environment) if name or environment else None
    if found is None:
        _check_environment(book, environment)
        found = book.find(name, environment=environment or None) if name else only(book, environment=environment)
    if name != found.id and not is_own(book, found):
        where = found.checkout or "another checkout"
        raise UsageError(
            f"this checkout has no stack of {found.environment}; {where} has {found.id}: give that id to use it"
        )
    return found


def _check_environment(book: LeaseBook, environment: str) -> None:
    """Refuse a wrong name of an environment; no file is read for one that has a lease."""
    from stackyard.project.environments import Environment

    if environment and all(lease.environment != environment for lease in book.leases()):
        Environment.load(environment)


def only(book: LeaseBook, *, environment: str = "") -> Lease:
    """
    Return the only lease in the book that is not a warm stack's.

    Raises:
        UsageError: If there is none, or more than one; the text lists them.
    """
    from stackyard.leases.warm import WarmStacks

    waiting = {item.lease.id for item in WarmStacks(book).inventory().warm}
    leases = in_use(book, environment)
    if len(leases) == 1:
        return leases[0]
    of = f" of {environment}" if environment else ""
    if not leases:
        warm = f" ({format_count(len(waiting), 'warm stack')} not counted)" if waiting else ""
        raise UsageError(f"no lease{of} is in use{warm}; '{typed(Action.START_ONE)}' starts a stack")
    listed = ", ".join(f"{lease.title} of {lease.environment}" for lease in leases)
    raise UsageError(f"there are {len(leases)} leases{of}; choose one with --name: {listed}")


def in_use(book: LeaseBook, environment: str = "") -> list[Lease]:
    """Return the leases that may be meant without a name: no warm stack's, and of `dev` only this checkout's."""
    from stackyard.leases.warm import WarmStacks

    found = WarmStacks(book).inventory()
    waiting = {item.lease.id for item in found.warm}
    return [
        lease
        for lease in found.leases
        if lease.id not in waiting
        and not lease.is_copy
        and environment in {"", lease.environment}
        and is_own(book, lease)
    ]


def is_own(book: LeaseBook, lease: Lease) -> bool:
    """Say whether the lease is not the one that another checkout has of an environment that keeps its data."""
    from stackyard.leases.records import stable_id
    from stackyard.project.environments import project_root

    root = book.settings.root or project_root()
    return not lease.keeps_data or lease.id == stable_id(lease.environment, book.host, root)


def confirmed(question: str) -> bool:
    """Ask *question* on the terminal; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def check_count(what: str, text: str, *, most: int, least: int = 1) -> int:
    """
    Return the plain decimal number *text* says.

    Raises:
        UsageError: If it is anything but a number from *least* to *most*: negative, NaN, "08", "1e3".
    """
    if not re.fullmatch(r"0|[1-9][0-9]{0,8}", text, re.ASCII) or not least <= int(text) <= most:
        shown = repr(text) if len(text) <= WIDTH else f"{text[:WIDTH]!r}..."
        raise UsageError(f"{what} must be a number from {least} to {most}, got {shown}")
    return int(text)

"""Which copy a command means: by its name, by its id, or by the folder that the command is typed in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from stackyard._util import files
from stackyard._util.advice import at_site
from stackyard.cli.common import current_folder
from stackyard.errors import LeaseNotFoundError, UsageError
from stackyard.project.compose_files import FILES

if TYPE_CHECKING:
    from collections.abc import Sequence


class Lease(Protocol):
    """What is asked here of a lease, on one engine or on a Swarm."""

    @property
    def id(self) -> str: ...  # noqa: D102 - see leases.Lease
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def parallel_id(self) -> str | None: ...  # noqa: D102
    @property
    def checkout(self) -> str: ...  # noqa: D102
    @property
    def is_copy(self) -> bool: ...  # noqa: D102


L = TypeVar("L", bound=Lease)
L_co = TypeVar("L_co", bound=Lease, covariant=True)


class Book(Protocol[L_co]):
    """Where the leases of a site are."""

    def leases(self) -> Sequence[L_co]:
        """Return all leases, oldest first."""


def of_this_folder(book: Book[L]) -> list[L]:
    """
    Return the copies of the project that this folder belongs to, oldest first.

    It is the nearest project at or above the folder, within one checkout: a git worktree may lie inside another.
    """
    found = _copies(book)
    for folder in _above():
        if own := [lease for lease in found if lease.checkout == str(folder)]:
            return own
    return []


def chosen(book: Book[L], name: str) -> L:
    """
    Return the copy that a command means.

    A name means a copy of this folder's project: a copy of another checkout may have the same. An id means any copy.
    Without either it is the only copy of the project, or the one named after its git worktree or branch.

    Raises:
        UsageError: If it is not clear which.
        LeaseNotFoundError: If there is none.
    """
    here = of_this_folder(book) or _below(book)
    if not name:
        return _unnamed(here)
    everywhere = _copies(book)
    if by_id := [lease for lease in everywhere if lease.id == name]:
        return by_id[0]
    named = [lease for lease in everywhere if lease.parallel_id == name]
    own = [lease for lease in here if lease.id in {one.id for one in named}] or (
        [] if _belongs_to_a_project() else named
    )
    if len(own) == 1:
        return own[0]
    listed = ", ".join(f"{lease.id} of {lease.checkout}" for lease in named)
    if own:
        raise UsageError(f"several copies have the name {name!r}; give the id of one: {listed}")
    if named:
        raise LeaseNotFoundError(f"no copy of this folder's project has the name {name!r}; give an id to use {listed}")
    raise LeaseNotFoundError(f"no copy has the name or id {name!r}; '{at_site('stackyard ps --all')}' lists all")


def _unnamed(here: Sequence[L]) -> L:
    from stackyard.project.git_names import default_name

    if len(here) == 1:
        return here[0]
    if not here:
        starts = at_site("stackyard up")
        raise LeaseNotFoundError(f"no copy of this folder's project is up; '{starts}' starts one")
    name = default_name(current_folder())
    if name and len(usual := [lease for lease in here if lease.parallel_id == name]) == 1:
        return usual[0]
    listed = ", ".join(lease.title for lease in here)
    raise UsageError(f"this project has {len(here)} copies; choose one with --name: {listed}")


def _copies(book: Book[L]) -> list[L]:
    return [lease for lease in book.leases() if lease.is_copy]


def _above() -> list[Path]:
    """Return this folder and those above it, up to the nearest with a Compose file or the top of the checkout."""
    here, found = current_folder().resolve(), []
    for folder in (here, *here.parents):
        found.append(folder)
        if _has_compose_file(folder) or (folder / ".git").exists():
            break
    return found


def _below(book: Book[L]) -> list[L]:
    """
    Return the copies of projects below this folder, which `--file deploy/compose.yml` may have named from here.

    A project that Compose would find by itself does not count where this folder has one, nor does another checkout.
    """
    here, own = current_folder().resolve(), _has_compose_file(current_folder())
    return [
        lease for lease in _copies(book)
        if (folder := Path(lease.checkout or "/")).is_relative_to(here)
        and not any((between / ".git").exists() for between in (folder, *folder.parents) if between.is_relative_to(here)
                    and between != here)
        and not (own and _has_compose_file(folder))
    ]  # fmt: skip


def _belongs_to_a_project() -> bool:
    top = _above()[-1]
    return _has_compose_file(top) or (top / ".git").exists()


def _has_compose_file(folder: Path) -> bool:
    return any(files.exists(folder / name) for name in FILES)

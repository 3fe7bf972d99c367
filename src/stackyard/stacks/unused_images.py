"""Images that were built for copies: which of them the copies of a book still need, and the removal of the others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from stackyard._util import files, json_text
from stackyard.docker import images
from stackyard.docker.ownership import BUILD_LABEL
from stackyard.errors import EngineError
from stackyard.images import copy_images, holds
from stackyard.leases.records import MODEL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from stackyard.docker import Engine
    from stackyard.docker.images import EngineImage
    from stackyard.images.holds import Hold
    from stackyard.images.unused import Guard, Surplus
    from stackyard.leases import LeaseBook


def find(
    book: LeaseBook,
    engine: Engine,
    rows: Sequence[EngineImage] | None = None,
    *,
    project: str = "",
    but: Collection[str] = (),
) -> list[Surplus]:
    """
    List the images of copies that no copy needs: replaced by a later build, or not used for a long time.

    Args:
        book: Whose images.
        engine: Where they are.
        rows: The engine's images with their sizes; None asks for those of this book, without what they share.
        project: Only images of this project, as leases have it; empty for all.
        but: Ids of images that a start needs.

    Raises:
        BookError: If the lease book cannot be read.
        EngineError: If the engine does not answer.
    """
    listed = _listed(engine, book.host) if rows is None else rows
    needed = _needed(book, but)  # after the list: a copy's model is written before its containers are made
    keep = book.settings.keep_images
    return copy_images.surplus(engine, listed, book.host, needed, keep=keep, project=project)


def all_sizes(book: LeaseBook, engine: Engine) -> list[int]:
    """
    Return the bytes of each image of copies, needed or not; layers that several share count in each.

    Raises:
        EngineError: If the engine does not answer.
    """
    return [row.size for row in images.labelled(engine, f"{BUILD_LABEL}.host={book.host}")]


def _listed(engine: Engine, host: str) -> list[EngineImage]:
    found = images.labelled(engine, f"{BUILD_LABEL}.host={host}")
    in_use = images.used(engine) if found else set()
    return [row for row in found if row.id not in in_use]


def _needed(book: LeaseBook, but: Collection[str]) -> copy_images.Used:
    """Read from the models of all copies which images they need; one without a readable model needs all it may have."""
    needed, unknown = {*but}, set[str]()
    for lease in book.leases():
        try:
            services: dict[str, Any] = json_text.read(files.read(lease.directory / MODEL))["services"]
            needed |= {str(service.get("image")) for service in services.values()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            unknown.add(lease.environment)
    return copy_images.Used(images=needed, projects=unknown)


def guard(book: LeaseBook, engine: Engine) -> Guard:
    """Return what keeps the copies of a project from starting while its images are removed."""

    @contextlib.contextmanager
    def guarded(project: str) -> Iterator[Collection[str]]:
        with holds.hold(book.settings, project) as hold:
            yield {item.name for item in find(book, engine, project=project)} if hold.alone() else ()

    return guarded


def clear(book: LeaseBook, engine: Engine, project: str, hold: Hold, but: Collection[str]) -> None:
    """
    Remove what builds of *project* have replaced, unless another start is under way; a refusal is left as it is.

    Args:
        book: Whose images.
        engine: Where they are.
        project: The project, as leases have it.
        hold: The hold of the start that has just built; it is shared again at the end.
        but: Ids of the images that this start needs.
    """
    if not hold.alone():
        return
    try:
        with contextlib.suppress(EngineError):
            for item in find(book, engine, project=project, but=but):
                images.untag(engine, item.name)
    finally:
        hold.share()

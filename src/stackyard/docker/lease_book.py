"""The lease book for work with an engine, and what a lost one is made again from: the labels of what runs there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard.docker import ownership
from stackyard.docker.time_limit import allowing
from stackyard.errors import EngineError, UnlistedError
from stackyard.leases import LeaseBook, Survivor
from stackyard.settings import Settings

if TYPE_CHECKING:
    from stackyard.docker import Engine

SURVEY_DEADLINE: Final = 6.0  # seconds for each of the three lists that a lost book is made again from


def survivors(engine: Engine, host: str) -> list[Survivor]:
    """
    Read from the labels of containers and networks which leases of the book *host* still have something standing.

    Raises:
        EngineError: If the engine does not answer.
    """
    # the book is locked at this time, and a later command asks again
    with allowing(alone=SURVEY_DEADLINE):
        things = [*ownership.marked(engine.everything, host)]
    found = [Survivor.from_labels(item.labels, host=host) for item in things]
    return list({survivor.id: survivor for survivor in found if survivor is not None}.values())


def open_book(settings: Settings | None, engine: Engine) -> LeaseBook:
    """
    Return the lease book for work that needs *engine*; a lost book is made again from what the engine runs.

    It is this host's, or for an engine on another host the one of that engine.

    The book's methods raise `UnlistedError` while it is lost and the engine does not answer.

    Raises:
        UsageError: If a setting is wrong.
    """
    settings = settings or Settings.load()
    if engine.endpoint.elsewhere:
        from stackyard.docker.remote_lease_book import SharedBook, settings_of

        own = settings_of(settings, engine)
        return SharedBook(own, lambda: _listed(engine, own.host), engine)
    return LeaseBook(settings, lambda: _listed(engine, settings.host))


def _listed(engine: Engine, host: str) -> list[Survivor]:
    try:
        return survivors(engine, host)
    except EngineError as error:
        raise UnlistedError(f"the lease book is new, and the running stacks cannot be listed: {error}") from None

"""Which stack a test session wants, in a form that another process can read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackyard.cleanup import removal
from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.errors import LeftoversError
from stackyard.running import running
from stackyard.sites import Site

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True, kw_only=True)
class StackDescription:
    """
    A stack that somebody wants.

    Attributes:
        folder: Where Compose looks for the project.
        environment: The environment of a project that has environments; empty for a Compose project.
        files: Compose files, instead of those that Compose finds.
        profiles: Profiles to enable.
        timeout: Seconds until the start has failed; None takes the usual time.
        wait: Seconds to queue for a place; None does not wait.
        resettable: Whether a copy keeps the state of its data, even if the configuration does not ask for it.
    """

    folder: str
    environment: str = ""
    files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    timeout: float | None = None
    wait: float | None = None
    resettable: bool = False

    @property
    def key(self) -> str:
        """A short word that tells this stack from others of the same run."""
        named = (self.folder, self.environment, self.files, self.profiles)
        return hashlib.sha256(repr(named).encode()).hexdigest()[:8]

    def run(self, progress: Callable[[str], None]) -> AbstractContextManager[Any]:
        """
        Run the stack for a `with` block.

        Args:
            progress: Called with each line for the user.

        Raises:
            StackyardError: As `running` does.
        """
        if self.environment:
            return running(self.environment, progress=progress, timeout=self.timeout, wait=self.wait)
        return running(
            folder=self.folder, files=self.files, profiles=self.profiles, progress=progress, timeout=self.timeout,
            wait=self.wait, resettable=self.resettable,
        )  # fmt: skip


def remove_stale_stacks() -> list[str]:
    """
    Remove the stacks of processes that were killed; return what could not be removed.

    Raises:
        StackyardError: If engine or lease book cannot be used.
    """
    with Engine() as engine:
        if Site.find().kind == "swarm":
            from stackyard.docker.swarm import Swarm
            from stackyard.sites.swarm import removal as swarm_removal

            try:
                swarm_removal.sweep(Swarm(engine))
            except LeftoversError as error:
                return [str(error)]
            return []
        return [*map(str, removal.sweep(open_book(None, engine), engine).left)]

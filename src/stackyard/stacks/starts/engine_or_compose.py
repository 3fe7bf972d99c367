"""
What makes the containers of a start: requests to the engine, which are faster, else `docker compose up`.

Compose does the start if part of the model has no translation into requests to the engine, or if the setting says so.
The Compose file means the same in both cases.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from stackyard._util.failpoints import reach
from stackyard.docker import compose, unanswered_requests
from stackyard.docker.unanswered_requests import Asking
from stackyard.errors import CommandError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.docker.fast_start import Blueprint
    from stackyard.leases import Lease
    from stackyard.settings import Settings

KILLED: Final = 128  # and more: exit codes of what a signal ended, as a shell says them


class Maker:
    """
    What makes the containers of one start under *lease*.

    Args:
        lease: The lease.
        engine: Where they are made.
        settings: Which way of starting is allowed.

    Attributes:
        began: Monotonic seconds that all times count from.
        by: What made them: ``engine``, or ``compose: `` and why.
        steps: Beginning and end of each step, in seconds.
    """

    def __init__(self, lease: Lease, engine: Engine, settings: Settings) -> None:
        self.lease = lease
        self.engine = engine
        self.settings = settings
        self.began = time.monotonic()
        self.by = "engine"
        self.steps: dict[str, tuple[float, float]] = {}

    def asking(self) -> Engine:
        """Return the engine as it is asked to make things: what it has not answered is noted in the lease."""
        return cast("Engine", Asking(self.engine, self.lease))

    def elapsed(self) -> float:
        """Return the seconds since the start began."""
        return time.monotonic() - self.began

    async def translated(self, translate: Callable[[], Awaitable[Blueprint]]) -> Blueprint | None:
        """Return the requests to the engine; if Compose has to do the start, note the reason and return None."""
        if self.settings.start == "compose":
            self.by = "compose: as STACKYARD_START asks"
            return None
        try:
            return await translate()
        except UnsupportedModelError as error:
            self.by = f"compose: {error}"
            return None

    async def build(
        self,
        blueprint: Blueprint,
        started: Callable[[str], None],
        proven: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        """
        Let the engine make and start everything in *blueprint*; what it has not answered is noted in the lease.

        Args:
            blueprint: What to make.
            started: Gets the name of each service whose containers have been started.
            proven: Waits until a service is what a condition of `depends_on` says.

        Raises:
            EngineError: If the engine refuses something or does not answer.
        """
        from stackyard.docker.fast_start import build

        await build(self.asking(), blueprint, began=self.began, steps=self.steps, started=started, proven=proven)

    async def compose(
        self, words: Sequence[str], *, deadline: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """
        Let Compose make and start everything; what it was ended over is noted in the lease, unless it appears soon.

        Arguments and errors are those of `compose.up`.

        Raises:
            EngineError: If it fails.
        """
        beginning, errors = self.elapsed(), bytearray()
        try:
            await compose.up(words, deadline=deadline, env=env, cwd=cwd, errors=errors)
        except BaseException as error:
            # one that ended by itself got at least one answer: the refusal
            refused = isinstance(error, CommandError) and error.returncode in range(1, KILLED)
            things = compose.unmade(errors.decode(errors="replace"))
            unanswered_requests.await_late(self.lease, self.engine, things, refused=int(refused))
            raise
        self.steps["compose"] = (beginning, self.elapsed())
        reach("start")

"""
What makes the containers of a start: the engine, asked directly, which is the quick way; else `docker compose up`.

Compose does the start if part of the model has no translation into requests to the engine, or if the setting says so.
The Compose file means the same in both cases.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from stackyard._util.failpoints import reach
from stackyard.docker.unanswered_requests import Asking
from stackyard.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stackyard.docker import Engine
    from stackyard.docker.fast_start import Blueprint
    from stackyard.leases import Lease
    from stackyard.settings import Settings


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

        asking = cast("Engine", Asking(self.engine, self.lease))
        await build(asking, blueprint, began=self.began, steps=self.steps, started=started, proven=proven)

    async def compose(self, up: Awaitable[object]) -> None:
        """
        Let Compose make and start everything, as *up*, a call of `compose.up`, says.

        Raises:
            EngineError: As `compose.up` does.
        """
        beginning = self.elapsed()
        await up
        self.steps["compose"] = (beginning, self.elapsed())
        reach("start")

"""The options of a start: of an environment's stack, and of a copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackyard.leases.records import Fixed


def no_progress(_line: str) -> None:
    """Ignore a progress line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """
    Fields common to both requests.

    Attributes:
        name: The lease's name.
        ttl: Seconds that the stack stays unless renewed, once it is ready; until then, and with None, it ends with this
            process.
        deadline: Seconds until the start has failed; None takes the configuration's.
        wait: Seconds to queue for a place; None does not.
        progress: Called with a line whenever the user should know something.
    """

    name: str | None = None
    ttl: float | None = None
    deadline: float | None = None
    wait: float | None = None
    progress: Callable[[str], None] = no_progress

    @property
    def outlives_process(self) -> bool:
        """True when the stack stays after the process that has started it."""
        return self.ttl is not None or self.name is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRequest(StartRequest):
    """
    What is asked of an environment's stack. One that keeps its data stays until somebody ends it, if `ttl` is None.

    Attributes:
        fixed: Whether the environment's fixed block is used: never, prefer (else the pool), or only. If
            the environment keeps its data, a second checkout gets ports of the pool, because the first one has the
            fixed block.
        keep: Leave a failed start standing; its lease then outlives this process for a day.
        force: Start it even if the host seems to have no memory for it.
        variables: For this stack alone, on top of what the environment and a lease set; no warm one has them.
    """

    fixed: Fixed = "never"
    keep: bool = False
    force: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest(StartRequest):
    """
    What is asked of a copy.

    Attributes:
        until_ready: False returns when the containers have started.
        resettable: Keep the state of its data for `Copy.reset`; the configuration can ask for it, too.
    """

    until_ready: bool = True
    resettable: bool = False

"""What is to be measured, and how thoroughly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from stackyard._util.advice import Action, typed

if TYPE_CHECKING:
    from collections.abc import Callable

Depth = Literal["quick", "default", "full"]
ROUNDS: Final[dict[Depth, int]] = {"quick": 3, "default": 10, "full": 10}
STACKS: Final[dict[Depth, int]] = {"quick": 3, "default": 10, "full": 50}


def silent(_line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    How to measure.

    Attributes:
        environment: Name of the environment whose stacks are started.
        depth: quick takes about a minute, default compares with more peers, full measures everything.
        rounds: How often each start is done; None takes the depth's own number.
        parallel: Stacks at once; None takes the depth's own number.
        say: Called with each line of progress.
    """

    environment: str = "test"
    depth: Depth = "default"
    rounds: int | None = None
    parallel: int | None = None
    say: Callable[[str], None] = silent

    @property
    def repeats(self) -> int:
        """How often each start is done, the warm-up apart."""
        return self.rounds or ROUNDS[self.depth]

    @property
    def stacks(self) -> int:
        """How many stacks are started at once."""
        return self.parallel or STACKS[self.depth]

    def command(self, suite: str) -> str:
        """Return the command line that measures *suite* in the same way."""
        words = [typed(Action.BENCH), "--", suite]
        words += [f"--env {self.environment}"] if self.environment != "test" else []
        words += [f"--{self.depth}"] if self.depth != "default" else []
        words += [f"--rounds {self.rounds}"] if self.rounds else []
        words += [f"--parallel {self.parallel}"] if self.parallel else []
        return " ".join(words)

"""Services that a Swarm runs for stackyard itself, a registry or a reaper: wait until one works, and remove it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, TypeVar

from stackyard.errors import LeftoversError, NotReadyError, StackyardError
from stackyard.sites.swarm import removal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.docker.swarm import Swarm, Task

SERVICE_TIMEOUT_S: Final = 60.0  # seconds until one works, or until its containers are gone
TICK: Final = 0.2
T = TypeVar("T")


def wait(
    swarm: Swarm, label: str, look: Callable[[Sequence[Task]], T | None], why: Callable[[Sequence[Task]], str], *,
    fresh: bool,
) -> T:  # fmt: skip
    """
    Wait until a service works, and return what showed it.

    Args:
        swarm: Where it is.
        label: What the service carries and no other does, as ``key=value``.
        look: Gets the service's tasks and says what shows that it works; None while nothing does.
        why: Makes the text of a failure from the tasks that are to blame.
        fresh: Whether it was made just now and must not fail first; one that stands may have moved from a lost node.

    Raises:
        NotReadyError: If it does not work.
        EngineError: If the manager does not answer.
    """
    end = time.monotonic() + SERVICE_TIMEOUT_S
    while (found := look(tasks := swarm.tasks(label))) is None:
        failed = [task for task in tasks if task.failed and task.reason and fresh]
        if failed or time.monotonic() > end:
            raise NotReadyError(why(failed or tasks))
        time.sleep(TICK)
    return found


@contextlib.contextmanager
def or_nothing(take_away: Callable[[], object]) -> Iterator[None]:
    """Remove what a `with` block that failed has made; what goes wrong then does not hide why the block failed."""
    try:
        yield
    except BaseException as error:
        try:
            take_away()
        except StackyardError as left:
            if isinstance(error, StackyardError):
                error.args = (f"{error}; what was made could not be removed: {left}",)
        raise


def said(tasks: Sequence[Task]) -> str:
    """Return the state of each task, each text once."""
    return "; ".join(dict.fromkeys(task.said for task in tasks)) or "it has no container"


def remove(swarm: Swarm, label: str) -> list[str]:
    """
    Remove what has *label*; return its names when the manager's engine has removed the containers, too.

    Raises:
        LeftoversError: If something is still there after a while.
        EngineError: If the manager does not answer or refuses.
    """
    removed, end = removal.emptied(swarm, label, f"the label {label}"), time.monotonic() + SERVICE_TIMEOUT_S
    while left := swarm.engine.containers([label]):  # a volume is in use until then
        if time.monotonic() > end:
            raise LeftoversError(f"the label {label}: {', '.join(map(str, left))} left after {SERVICE_TIMEOUT_S:g} s")
        time.sleep(TICK)
    return removed

"""
How much memory of the host one stack takes in all.

What the kernel says is available is read before and after each start, so that everything counts: the services, their
files on tmpfs, the engine's shims and port proxies, network namespaces, page tables. Whatever else the host does
at that time counts as well; so there are several stacks, and a median. The first one also brings the images' pages and
the engine's own buffers into memory, which all others share, and is left out.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Final

from stackyard.bench.harness import Arena
from stackyard.bench.methods import as_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stackyard.bench.methods import Starter

SETTLED: Final = 3.0  # seconds after a start: first health checks are over, what they touched is charged
LOOKS: Final = 5
GLANCE: Final = 0.1  # seconds between two looks


def measure(
    n: int,
    *,
    name: str = "test",
    way: Starter | None = None,
    available: Callable[[], int] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[float]:
    """
    Start *n* + 1 stacks one after the other and keep them; return the bytes that each but the first took.

    Raises:
        StackyardError: If a stack cannot be started; what was started is removed.
    """
    look = available or free_memory
    with Arena.open(name, lambda _line: None) as arena, contextlib.ExitStack() as standing:
        left = []
        for _ in range(n + 1):
            standing.enter_context(_started(arena, way))
            sleep(SETTLED)
            left.append(_quiet(look, sleep))
    return [before - after for before, after in itertools.pairwise(left)]


@contextlib.contextmanager
def _started(arena: Arena, way: Starter | None) -> Iterator[None]:
    """Start one stack; it is removed with the block."""
    with arena.stack() as stack:
        if way is None:
            stack.up()
        else:
            with way.surroundings(as_written(stack)):
                way.prepare(stack)
                way.up(stack)
        yield


def _quiet(look: Callable[[], int], sleep: Callable[[float], None]) -> int:
    """Return the most of a few looks: what a passing process needed is not the stack's."""
    most = look()
    for _ in range(LOOKS - 1):
        sleep(GLANCE)
        most = max(most, look())
    return most


def free_memory() -> int:
    """Return the bytes that the host could still give, as the kernel estimates them."""
    import psutil

    return int(psutil.virtual_memory().available)

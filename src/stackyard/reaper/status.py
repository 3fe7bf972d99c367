"""The status of a reaper and its pools."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stackyard.leases.warm import Inventory, WarmStacks
    from stackyard.stacks.reaper_files import Post

POLL_S: Final = 0.1  # seconds between two looks at the pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    A reaper, from its lock, its notice and the kernel.

    Attributes:
        running: Whether one runs.
        pid: Its process; None if there is none.
        since: When it started, in seconds since 1970.
        code: Which stackyard it runs.
        rss_bytes: Bytes of memory in its process; None if it cannot be read.
        pss_bytes: The same, with a proportional share of shared pages.
        watched: Ids of the leases it watches.
        warm: Ids of the warm stacks it keeps.
        trouble: What failed in its last attempt; empty if nothing did.
    """

    running: bool
    pid: int | None = None
    since: float | None = None
    code: str = ""
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    watched: list[str] = field(default_factory=list)
    warm: list[str] = field(default_factory=list)
    trouble: str = ""

    @classmethod
    def read(cls, post: Post) -> Status:
        """Look at *post*."""
        notice = post.read() if post.is_taken() else None
        if notice is None or notice.process is None:
            return cls(running=post.is_taken())
        pid = notice.process.pid
        memory = _memory(Path("/proc") / str(pid) / "smaps_rollup")
        return cls(
            running=True, pid=pid, since=notice.since, code=notice.code, rss_bytes=memory.get("Rss"),
            pss_bytes=memory.get("Pss"), watched=notice.watched, warm=notice.warm, trouble=notice.trouble,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """
    One pool.

    Attributes:
        environment: Its environment's name.
        root: The directory of its project.
        size: How many warm stacks it should have.
        ready: How many it has.
    """

    environment: str
    root: str
    size: int
    ready: int

    @classmethod
    def every(cls, found: Inventory) -> list[PoolStatus]:
        """Count the warm stacks of each pool."""
        return [
            cls(
                environment=pool.environment, root=str(pool.root), size=pool.size,
                ready=sum(warm.fits(pool) for warm in found.warm),
            )
            for pool in found.pools
        ]  # fmt: skip


def wait_for_pools(stacks: WarmStacks, patience: float) -> str:
    """
    Wait until every pool has exactly as many stacks as it should.

    Args:
        stacks: The warm stacks of a book.
        patience: Seconds to wait at most.

    Returns:
        What is not as it should be when the time is over; empty if all is.
    """
    end = time.monotonic() + patience
    while True:
        found = stacks.inventory()
        pools = PoolStatus.every(found)
        if all(item.ready == item.size for item in pools) and len(found.warm) == sum(item.size for item in pools):
            return ""
        if time.monotonic() >= end:
            lacking = ", ".join(f"{item.environment} has {item.ready} of {item.size}" for item in pools)
            return lacking or "warm stacks are left"
        time.sleep(POLL_S)


def _memory(file: Path) -> dict[str, int]:
    """Read the kernel's totals of a process's memory, in bytes."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()[1:]
        return {line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    except (OSError, ValueError, IndexError):
        return {}

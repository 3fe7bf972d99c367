"""The status of a reaper and its pools."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackyard.leases.warm import Inventory
    from stackyard.stacks.reaper_files import Post


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


def _memory(file: Path) -> dict[str, int]:
    """Read the kernel's totals of a process's memory, in bytes."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()[1:]
        return {line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    except (OSError, ValueError, IndexError):
        return {}

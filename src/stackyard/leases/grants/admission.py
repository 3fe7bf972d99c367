"""
Whether the host has memory for one more stack, checked before a start could slow the others down.

A lease books the memory that its containers reserve in the Compose file. All bookings together stay within a share of
the host's memory. A new stack does not use its memory yet, so young bookings are also subtracted from what the kernel
calls available. If a cgroup limits this process, its limit counts instead of the host's memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from stackyard._util.advice import Action, how

if TYPE_CHECKING:
    import sqlite3

SHARE: Final = 0.9  # of all memory that leases may book together; the rest is for the engine and the tests themselves
SETTLING: Final = 30.0  # seconds until a stack uses its memory, so that "available" counts it
_MB: Final = 1_000_000


class Memory(NamedTuple):
    """
    Memory this process and its containers may use.

    Attributes:
        total_mb: All of it, in MB (1,000,000 bytes).
        available_mb: What is free now or could be freed, in MB.
    """

    total_mb: int
    available_mb: int


class Booked(NamedTuple):
    """
    What leases have booked.

    Attributes:
        leases: How many have booked any.
        total_mb: All bookings, in MB.
        young_mb: Those of leases younger than `SETTLING`, in MB.
    """

    leases: int
    total_mb: int
    young_mb: int

    @classmethod
    def read(cls, db: sqlite3.Connection, now: float) -> Booked:
        """Add the bookings up; *now* in seconds since 1970."""
        row = db.execute(
            "SELECT count(*), coalesce(sum(memory_mb), 0),"
            " coalesce(sum(CASE WHEN created BETWEEN ? AND ? THEN memory_mb ELSE 0 END), 0) FROM leases"
            # no lease books more, and a sum of larger values would overflow
            " WHERE typeof(memory_mb)='integer' AND memory_mb BETWEEN 1 AND 1000000000",
            (now - SETTLING, now),
        ).fetchone()
        return cls(leases=row[0], total_mb=row[1], young_mb=row[2])

    def room(self, memory: Memory, reserve_mb: int) -> int:
        """Return how many more stacks of *reserve_mb* MB each fit, at least 0."""
        left = min(int(memory.total_mb * SHARE) - self.total_mb, memory.available_mb - self.young_mb)
        return max(left // reserve_mb, 0)


class Capacity(NamedTuple):
    """
    How many more stacks of an environment fit on the host now.

    Attributes:
        environment: Its name.
        stacks: How many.
        limit: What runs out first.
        slots: Free slots of the port pool.
        networks: Free /28 subnets, counted up to the number of slots.
        memory: Stacks that fit into memory; None if the environment books none or the host does not tell.
        reserve_mb: What one stack books, in MB.
        booked_mb: What leases have booked, in MB.
        total_mb: The host's memory, in MB; None if it does not tell.
        available_mb: What of it is available, in MB; None if it does not tell.
    """

    environment: str
    stacks: int
    limit: Literal["slots", "networks", "memory"]
    slots: int
    networks: int
    memory: int | None
    reserve_mb: int
    booked_mb: int
    total_mb: int | None
    available_mb: int | None

    @classmethod
    def of(
        cls, environment: str, *, slots: int, networks: int, memory: Memory | None, booked: Booked, reserve_mb: int
    ) -> Capacity:
        """Weigh the limits against each other; the arguments are the attributes of the same names."""
        fit = booked.room(memory, reserve_mb) if memory and reserve_mb else None
        limits: list[tuple[int, Literal["slots", "networks", "memory"]]] = [(slots, "slots"), (networks, "networks")]
        if fit is not None:
            limits.append((fit, "memory"))
        stacks, limit = min(limits, key=lambda item: item[0])
        return cls(
            environment=environment, stacks=stacks, limit=limit, slots=slots, networks=networks, memory=fit,
            reserve_mb=reserve_mb, booked_mb=booked.total_mb,
            total_mb=memory.total_mb if memory else None, available_mb=memory.available_mb if memory else None,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data; memory in bytes."""
        return {key.replace("_mb", "_bytes"): _bytes(value) if key.endswith("_mb") else value
                for key, value in self._asdict().items()}  # fmt: skip


def _bytes(megabytes: int | None) -> int | None:
    return None if megabytes is None else megabytes * _MB


def refusal(environment: str, reserve_mb: int, memory: Memory, booked: Booked, ahead: int) -> str | None:
    """
    Say why there is no memory for one more stack; None if there is.

    Args:
        environment: Its environment.
        reserve_mb: What it books, in MB; 0 always fits.
        memory: The host's memory.
        booked: What leases have booked.
        ahead: How many stacks wait before this one.
    """
    if not reserve_mb or booked.room(memory, reserve_mb) > ahead:
        return None
    from stackyard._util.tables import format_size

    waiting = f", requests ahead in the queue: {ahead}" if ahead else ""
    needed, taken, most, free, young = (
        format_size(size * _MB)
        for size in (reserve_mb, booked.total_mb, int(memory.total_mb * SHARE), memory.available_mb, booked.young_mb)
    )
    return (
        f"no memory for another stack of {environment}, which books {needed}: {booked.leases} leases have booked "
        f"{taken} of {most} ({SHARE:.0%} of all), {free} are available, {young} of them for stacks that are starting"
        f"{waiting}. Next: {how(Action.LEASES)} and end some, {how(Action.CLEAN_UP)}, wait (--queue-timeout 5m), "
        "or start it anyway (--force)"
    )


def host_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Memory | None:
    """
    Return the memory of this host, or of the cgroup this process is limited to; None if neither can be read.

    Args:
        proc: Where the kernel lists processes.
        cgroups: Where the tree of control groups (version 2) is.
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        fields = {line.partition(":")[0]: int(line.split()[1]) for line in lines[:3]}
        found = Memory(total_mb=fields["MemTotal"] * 1024 // _MB, available_mb=fields["MemAvailable"] * 1024 // _MB)
    except (OSError, KeyError, ValueError, IndexError):
        return None
    for folder in _groups(proc, cgroups):
        limited = _limited(folder)
        if limited is not None and limited.total_mb < found.total_mb:
            found = Memory(
                total_mb=limited.total_mb, available_mb=max(min(limited.available_mb, found.available_mb), 0)
            )
    return found


def _groups(proc: Path, cgroups: Path) -> list[Path]:
    """Return the folders of this process's cgroup and all above it."""
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = cgroups / own.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent == cgroups or cgroups in parent.parents)]


def _limited(folder: Path) -> Memory | None:
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii").split()
        # the kernel frees file pages that are not in use as soon as a program needs the memory
        idle = int(stat[stat.index("inactive_file") + 1])
    except (OSError, ValueError, IndexError):
        return None
    return Memory(total_mb=limit // _MB, available_mb=(limit - used + idle) // _MB)

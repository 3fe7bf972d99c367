"""What one container uses, from the engine's figures and, where its host is this one, the kernel's own counters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.engine import plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.records import ContainerState, MemoryUse

if TYPE_CHECKING:
    from stackyard.docker.engine import Engine

# where each version of control groups keeps its counters: root of the tree, peak, file and word of the OOM kills
V1: Final = ("memory", "memory.max_usage_in_bytes", "memory.oom_control")
V2: Final = ("", "memory.peak", "memory.events")
NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """
    One container's use of its host.

    Attributes:
        cpu_s: Seconds of CPU time since its start.
        cpus: CPUs it may use at most; None without a limit.
        memory: Bytes in use, page cache that can be dropped left out.
        memory_limit: Its limit in bytes.
        memory_peak: Most bytes ever in use, page cache included; None where the host does not tell.
        pids: Processes and threads.
        pids_limit: Its limit; None without one.
        oom_kills: Processes in it that the kernel has killed because memory ran out, since its start.
    """

    cpu_s: float
    cpus: float | None
    memory: int
    memory_limit: int
    memory_peak: int | None
    pids: int
    pids_limit: int | None
    oom_kills: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """
    How one container is and what it uses.

    Attributes:
        state: How it is.
        usage: What it uses; None while it does not run, or where its host counts no memory.
    """

    state: ContainerState
    usage: Usage | None


def sight(engine: Engine, container: str) -> Sighting | None:
    """
    Look at one container; None when it is gone.

    Raises:
        EngineError: If the engine does not answer, or refuses.
    """
    import docker.errors

    with plain_errors(f"measuring container {container[:80]}"):
        try:
            facts: Any = engine.api.inspect_container(container)
            state = ContainerState.from_inspect(facts)
            if not Part(facts).get("State").whole("Pid", 0):
                return Sighting(state=state, usage=None)
            stats: Any = engine.api.stats(container, stream=False, one_shot=True)
            return Sighting(state=state, usage=_usage(Part(facts), Part(stats), MemoryUse.from_stats(stats)))
        except docker.errors.NotFound:
            return None


def _usage(facts: Part, stats: Part, memory: MemoryUse | None) -> Usage | None:
    if memory is None:
        return None  # it ended between the two questions
    state, host, pids = facts.get("State"), facts.get("HostConfig"), stats.get("pids_stats")
    peak, kills = counters(state.whole("Pid"), facts.text("Id"))
    known_peak = stats.get("memory_stats").whole("max_usage", 0) or None
    return Usage(
        cpu_s=stats.get("cpu_stats").get("cpu_usage").whole("total_usage") / NANO,
        cpus=(host.whole("NanoCpus", 0) / NANO or None) if host.value is not None else None,
        memory=memory.used, memory_limit=memory.limit, memory_peak=peak or known_peak,
        pids=pids.whole("current", 0), pids_limit=_limit(pids.whole("limit", 0)),
        oom_kills=max(kills or 0, int(state.truth("OOMKilled"))),
    )  # fmt: skip


def _limit(value: int | None) -> int | None:
    """Return a limit; the engine writes a missing one as 0 or as the largest number there is."""
    return value if value and value < 2**63 - 1 else None


def counters(
    pid: int, container: str, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> tuple[int | None, int | None]:
    """
    Return the most memory a container's control group ever used, in bytes, and its OOM kills, each None if unknown.

    Args:
        pid: The container's first process, as its engine's host numbers it.
        container: Its id. On another host the same number is some other process, so its group must have this name.
        proc: Where the kernel tells of processes.
        cgroups: Where the control groups are.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None, None
    rows = [line.split(":", 2) for line in lines if container in line]
    # a host may have both; then memory is the old one's
    for name, group in sorted(((row[1], row[2]) for row in rows if row[1] in {"", "memory"}), reverse=True):
        root, peak, events = V1 if name else V2
        below = group.removeprefix(_mounted(proc, cgroups / root) + "/")
        folder = cgroups / root / below.lstrip("/")
        return _number(folder / peak), _number(folder / events, "oom_kill")
    return None, None


def _mounted(proc: Path, folder: Path) -> str:
    """Return which control group is mounted at *folder*: in a container of an old kernel, the container's own."""
    try:
        lines = (proc / "self" / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = [words[3] for line in lines if (words := line.split())[4:5] == [str(folder)]]
    return found[-1].rstrip("/") if found else ""


def _number(file: Path, word: str = "") -> int | None:
    """Return the number after *word* in *file*, or the only one; None if it is not there."""
    try:
        words = file.read_text(encoding="ascii").split()
        return int(words[words.index(word) + 1] if word else words[0])
    except (OSError, ValueError, IndexError):
        return None

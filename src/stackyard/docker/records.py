"""What the engine says of containers, networks and volumes, as records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from stackyard.docker.json_fields import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Kind = Literal["container", "network", "volume"]
SERVICE_LABEL: Final = "com.docker.compose.service"
NUMBER_LABEL: Final = "com.docker.compose.container-number"
PROJECT_LABEL: Final = "com.docker.compose.project"
LEASE_LABEL: Final = "stackyard.lease"
MISSING: Final = "missing"  # the status of a container that should be there
DEPENDS_LABEL: Final = "com.docker.compose.depends_on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """
    One thing the engine holds and stackyard may remove.

    Attributes:
        kind: What it is.
        id: The engine's id; a volume's name.
        name: The name a person knows it by.
        labels: All its labels.
    """

    kind: Kind
    id: str
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """
    How one container is doing.

    Attributes:
        id: The engine's id.
        service: Compose's service name; empty when Compose did not make it.
        status: created, running, paused, restarting, removing, exited or dead; missing for one that should be there.
        exit_code: Of its last run; 0 while it runs.
        oom_killed: True when the kernel killed it because memory ran out.
        error: The engine's own words when it could not be started.
        health: starting, healthy, unhealthy, or none without a health check.
        health_log: Output of the last health checks, oldest first.
        restarts: How often its restart policy started it again.
        started_at: RFC 3339 time of the last start.
    """

    id: str
    service: str
    status: str
    exit_code: int
    oom_killed: bool
    error: str
    health: str
    health_log: tuple[str, ...]
    restarts: int
    started_at: str

    @property
    def well(self) -> bool:
        """True while it runs and its health check, if it has one, has not given up on it."""
        return self.status == "running" and self.health != "unhealthy"

    @property
    def finished(self) -> bool:
        """True when it has done what it had to do: it ended with exit code 0."""
        return self.status == "exited" and self.exit_code == 0

    @property
    def ended(self) -> bool:
        """True when it will not come up by itself."""
        return self.status in {"exited", "dead"}

    @property
    def last_exit(self) -> int | None:
        """Exit code of its last end; None while it runs, and before it has run."""
        return (
            self.exit_code if self.exit_code or self.status not in {"created", "running", "paused", MISSING} else None
        )

    @property
    def words(self) -> str:
        """Status, exit code and health in a few words; without those that it has not."""
        code = [] if self.last_exit is None else [f"exit code {self.last_exit}"]
        return ", ".join([self.status, *code, *([] if self.health == "none" else [f"health {self.health}"])])

    @classmethod
    def missing(cls, service: str) -> ContainerState:
        """Return the state of a container of *service* that is not there."""
        return cls(
            id="", service=service, status=MISSING, exit_code=0, oom_killed=False, error="", health="none",
            health_log=(), restarts=0, started_at="",
        )  # fmt: skip

    @classmethod
    def from_inspect(cls, answer: Mapping[str, Any]) -> ContainerState:
        """
        Read `GET /containers/{id}/json`.

        Raises:
            AnswerError: If a value is missing or of the wrong kind.
        """
        whole = Part(answer)
        state, health = whole.get("State"), whole.get("State").get("Health")
        log = [*health.get("Log").items()] if health.value is not None else []
        return cls(
            id=whole.text("Id"), service=whole.get("Config").get("Labels").texts().get(SERVICE_LABEL, ""),
            status=state.text("Status"), exit_code=state.whole("ExitCode"), oom_killed=state.truth("OOMKilled"),
            error=state.text("Error", ""), restarts=whole.whole("RestartCount", 0), started_at=state.text("StartedAt"),
            health=health.text("Status", "none") if health.value is not None else "none",
            health_log=tuple(entry.text("Output", "").strip() for entry in log),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """
    A container's memory, as its cgroup counts it.

    Attributes:
        used: Bytes in use without the page cache the kernel may drop (usage - inactive_file, as `docker stats` shows).
        anonymous: Bytes of anonymous and shared memory (anon + shmem): what cannot be dropped; tmpfs counts here.
        limit: The container's limit in bytes.
    """

    used: int
    anonymous: int
    limit: int

    @classmethod
    def from_stats(cls, answer: Mapping[str, Any]) -> MemoryUse | None:
        """
        Read `GET /containers/{id}/stats`; None when the container does not run or its host counts no memory.

        Raises:
            AnswerError: If a value is of the wrong kind.
        """
        memory = Part(answer).get("memory_stats")
        if memory.value is None or memory.get("usage").value is None:
            return None
        detail = memory.get("stats") if memory.get("stats").value is not None else Part({})
        # cgroup v1 prefixes the hierarchy's sums with total_ and calls anonymous memory rss; v2 has neither
        inactive = detail.whole("total_inactive_file", detail.whole("inactive_file", 0))
        anonymous = detail.whole("total_rss", detail.whole("anon", 0))
        shared = detail.whole("total_shmem", detail.whole("shmem", 0))
        used = max(0, memory.whole("usage") - inactive)
        return cls(used=used, anonymous=anonymous + shared, limit=memory.whole("limit", 0))


class OfService(Protocol):
    """What is known of one container of a service."""

    @property
    def service(self) -> str: ...  # noqa: D102 - its name


S = TypeVar("S", bound=OfService)


def with_missing(found: Sequence[S], wanted: Mapping[str, int], missing: Callable[[str], S]) -> list[S]:
    """Return the states *found* and one for each of the *wanted* containers that is not there, sorted by service."""
    there = Counter(state.service for state in found)
    absent = [missing(name) for name, number in wanted.items() for _ in range(number - there[name])]
    return sorted([*found, *absent], key=lambda state: state.service)

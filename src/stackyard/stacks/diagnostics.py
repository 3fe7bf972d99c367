"""Why a stack did not start: each service's state, exit code, health and last log lines, without secrets."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, how
from stackyard.docker.logs import split
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stackyard.docker import ContainerState, Engine, Resource

REMOVED: Final = "everything that the start made was removed"
LONGER: Final = "more time: --timeout TIME, or timeout in the configuration"
LOG_LINES: Final = 50
HEALTH_CHECKS: Final = 3
LONGEST: Final = 500  # characters of a line of a log


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvidence:
    """
    What is known about one service.

    Attributes:
        state: Its container's state.
        log: Its last lines, without secrets.
    """

    state: ContainerState
    log: str

    def __str__(self) -> str:
        state = self.state
        facts = [state.words]
        facts += ["out of memory: killed at its limit"] if state.oom_killed else []
        facts += [f"restarted {state.restarts} times"] if state.restarts else []
        facts += [state.error] if state.error else []
        lines = [f"{state.service}: {', '.join(facts)}"]
        lines += [f"  health check: {entry}" for entry in squeeze(filter(None, state.health_log[-HEALTH_CHECKS:]))]
        lines += [f"  | {line}" for line in squeeze(map(_shown, split(self.log)))]
        return "\n".join(lines)


def _shown(line: str) -> str:
    """Return a line of a log as a message shows it: as it was drawn last, and cut if it is long."""
    drawn = line.rpartition("\r")[2]
    return drawn if len(drawn) <= LONGEST else f"{drawn[:LONGEST]}… ({len(drawn) - LONGEST} more characters)"


def collect(engine: Engine, containers: Iterable[Resource], *, secrets: Iterable[str]) -> list[ServiceEvidence]:
    """
    Collect the evidence of *containers*, sorted by service; leave out what cannot be read.

    Args:
        engine: Where the containers are.
        containers: A stack's.
        secrets: Values to remove from every line.
    """
    hidden = sorted((secret for secret in secrets if secret), key=len, reverse=True)
    found = []
    for container in containers:
        try:
            state, log = engine.state(container.id), engine.logs(container.id, tail=LOG_LINES)
        except EngineError:
            continue  # removed in the meantime; the others still have evidence
        found.append(ServiceEvidence(state=state, log=redact(log, hidden)))
    return sorted(found, key=lambda item: item.state.service)


def blame(found: Sequence[ServiceEvidence], reason: str) -> str:
    """
    Return what made a start fail: the first service in trouble and the evidence of all such, or else *reason*.

    Args:
        found: The evidence of all services.
        reason: What the failed step says.
    """
    troubled = [(item, why) for item in found if (why := _trouble(item.state))]
    if not troubled:
        late = [item for item in found if item.state.health == "starting"]
        names = ", ".join(item.state.service for item in late)
        return "\n".join([f"{reason}; {names} did not become healthy" if late else reason, *map(str, late)])
    return "\n".join([troubled[0][1], *(str(item) for item, _ in troubled)])


def plain_error(error: str) -> str:
    """Return what the engine says about a container that it could not start, without the names of its own parts."""
    return error.rpartition("unable to start container process: ")[2].removesuffix(": unknown")


def _trouble(state: ContainerState) -> str:
    """Say why Compose gave up on a container; empty if it did not."""
    if state.ended and not state.finished:
        return f"service {state.service} ended with exit code {state.exit_code}"
    if state.status == "running" and state.health == "unhealthy":
        return f"service {state.service} is unhealthy"
    failed = state.status == "created" and state.error
    return f"service {state.service} cannot start: {plain_error(state.error)}" if failed else ""


def squeeze(lines: Iterable[str]) -> list[str]:
    """Return *lines* with each run of equal lines as one line and its length."""
    runs = [(line, len(list(run))) for line, run in itertools.groupby(lines)]
    return [line if length == 1 else f"{line} ({length} times)" for line, length in runs]


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return *text* with every secret replaced by `***`."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def explain(reason: str, found: Sequence[ServiceEvidence], *, repeat: str, kept: str | None) -> str:
    """
    Return the message of a failed start: the reason, then each service, then what to do next.

    Args:
        reason: One line.
        found: The services' evidence.
        repeat: The command that starts the same again.
        kept: Lease whose containers were kept; None when they were removed.
    """
    ending = standing(kept) if kept else f"{REMOVED}; to keep it for inspection: {repeat}"
    services = [str(item) for item in found] or ["no container was created"]
    return "\n".join([reason, *services, ending])


def standing(lease: str) -> str:
    """Say that the stack of a failed start still stands under *lease*, and what removes it."""
    return f"the stack was kept for you to inspect; when you have seen enough, {how(Action.REMOVE, name=lease)}"

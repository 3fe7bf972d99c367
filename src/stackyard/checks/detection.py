"""
How quickly a fault is detected: services of a throw-away stack are paused, frozen, starved of memory and killed.

The clock starts when the fault has happened and stops when `Stack.status` was last asked and did not show it: how long
causing a fault and asking take depends on the host's load, not on who notices. The engine knows at once what it does
itself and what the kernel reports. If a service only stops answering (SIGSTOP simulates a deadlock), it still runs for
the engine; only the health check shows it, within its own interval.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from stackyard._util.advice import Action, how
from stackyard.checks.records import Check, Spot
from stackyard.docker import container_files
from stackyard.docker.engine import plain_errors
from stackyard.errors import EngineError, NotReadyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from docker.api import APIClient

    from stackyard.docker import ContainerState
    from stackyard.stacks.environments.stack import Stack

Fault = Literal["paused", "frozen", "out of memory", "killed"]

LIMIT_S: Final = 1.0  # for what the engine itself knows: it hears of a container's end at once
PATIENCE_S: Final = 5.0  # beyond a limit, so that a late detection has a figure too
POLL_S: Final = 0.01
HEALTHY_TIMEOUT_S: Final = 30.0  # until the service to be frozen has been healthy once; failures before do not count
HEADROOM: Final = 4 * 2**20  # bytes left before the memory runs out; the smallest service is larger than that
FILL_MEMORY: Final = ("python3", "-c", "held = []\nwhile True: held.append(b'x' * 65536)")
NANO: Final = 1_000_000_000
BUSY: Final = "check the engine's load and log"
# A health check that gives its verdict in seconds; with the environments' own timing it would take more than a minute.
QUICK: Final = {
    "STACKYARD_HEALTH_INTERVAL": "500ms", "STACKYARD_HEALTH_TIMEOUT": "1s", "STACKYARD_HEALTH_RETRIES": "2",
    "STACKYARD_HEALTH_START_INTERVAL": "250ms",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """
    How one fault was seen.

    Attributes:
        fault: What was done to the service.
        seconds: From the fault until the status was last asked and did not show it; None when it never did.
        limit: Seconds it may take.
        shown: What the status said in the end.
    """

    fault: Fault
    service: str
    seconds: float | None
    limit: float
    shown: str

    def __str__(self) -> str:
        took = "not seen" if self.seconds is None else f"seen after {self.seconds:.2f} s"
        return f"{self.service} {self.fault}: {took} (limit {self.limit:.1f} s): {self.shown}"


def detect(
    stack: Stack, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> list[Detection]:
    """
    Cause every fault in *stack*, which is ready, and measure; the stack is of no use afterwards.

    Raises:
        UsageError: If the stack lacks a service for one of the faults.
        EngineError: If the engine does not answer.
        NotReadyError: If the service to be frozen is not healthy to begin with.
    """
    trial = _Trial(stack=stack, clock=clock, sleep=sleep)
    # an earlier fault must not make the next one look detected: the frozen service depends on none, killing comes last
    lease, servers = stack.lease, stack.lease.servers()
    names = [next(iter(lease.speaking(scheme)), "") for scheme in ("postgresql", "redis", "ws")]
    other = next((name for name in lease.speaking("http") if name != servers.get(names[2])), "")
    if not all([*names, other]):
        raise UsageError(
            f"stack {lease.title} needs a PostgreSQL, a Redis, a WebSocket and another HTTP service for this"
        )
    database, store, socket = names
    return [trial.paused(database), trial.frozen(store), trial.starved(servers[socket]), trial.killed(other)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """The faults, one method each, in one stack."""

    stack: Stack
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    def paused(self, service: str) -> Detection:
        api, identity = self._api(service)
        try:
            freeze = partial(container_files.pause, self.stack.engine, identity)
            return self._measure("paused", service, freeze, lambda state: state.status == "paused")
        finally:
            with plain_errors(f"unpausing {service}"):
                api.unpause(identity)

    def frozen(self, service: str) -> Detection:
        api, identity = self._api(service)
        self._await_health(service)
        with plain_errors(f"inspecting {service}"):
            limit = unhealthy_after_s(api.inspect_container(identity)["Config"].get("Healthcheck") or {})
        try:
            return self._measure(
                "frozen", service, lambda: api.kill(identity, "SIGSTOP"), lambda state: state.health == "unhealthy",
                limit=limit,
            )  # fmt: skip
        finally:
            with plain_errors(f"waking {service}"):
                api.kill(identity, "SIGCONT")

    def starved(self, service: str) -> Detection:
        """Leave the service but a little memory, and let another process ask for it: the kernel ends the larger one."""
        api, identity = self._api(service)
        used = self.stack.engine.memory(identity)
        if used is None:
            raise EngineError(f"service {service} does not run or its host counts no memory; {how(Action.CHECK_HOST)}")
        room = used.used + HEADROOM
        with plain_errors(f"limiting the memory of {service}"):
            api.update_container(identity, mem_limit=room, memswap_limit=room, mem_reservation=room // 2)

        def cause() -> None:
            # it ends with the container, which the engine may tell as an error
            with contextlib.suppress(EngineError), plain_errors(f"filling the memory of {service}"):
                api.exec_start(api.exec_create(identity, list(FILL_MEMORY))["Id"])

        return self._measure("out of memory", service, cause, lambda state: state.oom_killed and state.ended)

    def killed(self, service: str) -> Detection:
        api, identity = self._api(service)
        return self._measure("killed", service, lambda: api.kill(identity, "SIGKILL"), lambda state: state.ended)

    def _api(self, service: str) -> tuple[APIClient, str]:
        return self.stack.engine.api, self.stack.container(service).id

    def _measure(
        self,
        fault: Fault,
        service: str,
        cause: Callable[[], object],
        shows: Callable[[ContainerState], bool],
        *,
        limit: float = LIMIT_S,
    ) -> Detection:
        with plain_errors(f"having {service} {fault}"):
            cause()
        happened, unseen = self.clock(), 0.0
        while True:
            asked = self.clock() - happened
            state = self._state(service)
            seen = state is not None and shows(state)
            if seen or asked > limit + PATIENCE_S:
                return Detection(
                    fault=fault, service=service, seconds=unseen if seen else None, limit=limit, shown=_words(state)
                )  # fmt: skip
            unseen = asked
            self.sleep(POLL_S)

    def _state(self, service: str) -> ContainerState | None:
        return next((state for state in self.stack.status() if state.service == service), None)

    def _await_health(self, service: str) -> None:
        end = self.clock() + HEALTHY_TIMEOUT_S
        while (state := self._state(service)) is None or state.health != "healthy":
            if self.clock() > end:
                raise NotReadyError(f"service {service} is not healthy after {HEALTHY_TIMEOUT_S:g} s: {_words(state)}")
            self.sleep(POLL_S)


def unhealthy_after_s(healthcheck: Mapping[str, Any]) -> float:
    """
    Return the seconds within which a health check marks a hanging service unhealthy, with the engine's settings.

    The service may freeze right after a check; then each try waits for its timeout, and between two lies an interval.
    """
    interval, timeout = healthcheck.get("Interval", 30 * NANO) / NANO, healthcheck.get("Timeout", 30 * NANO) / NANO
    retries = healthcheck.get("Retries") or 3
    return float(retries * (interval + timeout) + LIMIT_S)


def _words(state: ContainerState | None) -> str:
    if state is None:
        return "no container"
    oom = ", out of memory" if state.oom_killed else ""
    return f"{state.words}{oom}"


def _too_slow(found: Sequence[Detection], fault: Fault) -> Iterator[Spot]:
    for each in found:
        if each.fault == fault and (each.seconds is None or each.seconds > each.limit):
            yield Spot(found=str(each))
    if all(each.fault != fault for each in found):
        yield Spot(found=f"no service was {fault}: nothing was measured")


def _shows(
    fault: Fault, identity: str, title: str, why: str, *, fix: str = BUSY, action: Action | None = Action.CHECK_HOST
) -> Check[Sequence[Detection]]:
    return Check(
        id=identity, title=title, severity="error", why=why, advice=fix, action=action,
        look=lambda found: _too_slow(found, fault),
    )  # fmt: skip


CHECKS: Final = (
    _shows(
        "paused", "detection-paused", "a paused service shows within 1 s",
        "Its ports still accept connections, so a test would wait until its own timeout.",
    ),
    _shows(
        "frozen", "detection-frozen", "a frozen service becomes unhealthy within the time its health check allows",
        "Its process exists and its port accepts connections; only a check that waits for an answer notices.",
        fix="give the service a health check that asks the service itself", action=None,
    ),
    _shows(
        "out of memory", "detection-memory", "a service that runs out of memory shows within 1 s, with the reason",
        "Exit code 137 alone could be any kill. Only the reason tells which limit to raise.",
        fix="check that the engine's host counts memory, with docker info",
    ),
    _shows(
        "killed", "detection-killed", "a killed service shows within 1 s",
        "A run that continues without the service fails late and for the wrong reason.",
    ),
)  # fmt: skip

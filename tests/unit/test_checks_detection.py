from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from stackyard.checks import detection
from stackyard.checks.records import examine
from stackyard.docker import ContainerState, MemoryUse, Resource
from stackyard.errors import EngineError, NotReadyError, UsageError

if TYPE_CHECKING:
    from stackyard.stacks.environments.stack import Stack

WELL = ContainerState(
    id="x", service="", status="running", exit_code=0, oom_killed=False, error="", health="healthy", health_log=(),
    restarts=0, started_at="",
)  # fmt: skip
HEALTH = {"Interval": 500_000_000, "Timeout": 1_000_000_000, "Retries": 2}
CAUSED = {
    "pause postgres": {"status": "paused"},
    "SIGSTOP redis": {"health": "unhealthy"},
    "exec backend": {"status": "exited", "exit_code": 137, "oom_killed": True},
    "SIGKILL auth": {"status": "exited", "exit_code": 137},
}


URLS = {
    "postgres": "postgresql://h:1", "redis": "redis://h:2", "backend": "http://h:3", "auth": "http://h:4",
    "websocket": "ws://h:3",
}  # fmt: skip


@dataclass
class FakeYard:
    """
    A stack, its engine and its engine's API in one; what is done to a service shows *delay* seconds later.

    `blind` faults never show. On a slow host, each request takes *request* seconds.
    """

    delay: float = 0.1
    request: float = 0.0
    blind: tuple[str, ...] = ()
    health: str = "healthy"
    memory_use: MemoryUse | None = field(default_factory=lambda: MemoryUse(used=30 << 20, anonymous=0, limit=192 << 20))
    now: float = 100.0
    done: dict[str, float] = field(default_factory=dict)

    @property
    def engine(self) -> FakeYard:
        return self

    @property
    def api(self) -> FakeYard:
        return self

    @property
    def lease(self) -> FakeYard:
        return self

    title = "mine (cafe0001)"

    def speaking(self, scheme: str) -> dict[str, str]:
        return {name: url for name, url in URLS.items() if url.startswith(f"{scheme}:")}

    def servers(self) -> dict[str, str]:
        return {**{name: name for name in URLS}, "websocket": "backend"}

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def container(self, service: str) -> Resource:
        return Resource(kind="container", id=service, name=service, labels={})

    def memory(self, _identity: str) -> MemoryUse | None:
        return self.memory_use

    def inspect_container(self, _identity: str) -> dict[str, Any]:
        return {"Config": {"Healthcheck": HEALTH}}

    def note(self, what: str) -> None:
        self.now += self.request
        self.done[what] = self.now

    def pause(self, identity: str) -> None:
        self.note(f"pause {identity}")

    def unpause(self, identity: str) -> None:
        self.note(f"unpause {identity}")

    def kill(self, identity: str, signal: str) -> None:
        self.note(f"{signal} {identity}")

    def update_container(self, identity: str, **limits: int) -> None:
        self.note(f"limit {identity} {limits['mem_limit'] >> 20}")

    def exec_create(self, identity: str, _words: list[str]) -> dict[str, str]:
        return {"Id": identity}

    def exec_start(self, identity: str) -> None:
        self.note(f"exec {identity}")

    def status(self) -> list[ContainerState]:
        services = {service: replace(WELL, service=service, health=self.health) for service in ("postgres", "redis")}
        services |= {service: replace(WELL, service=service) for service in ("backend", "auth")}
        for what, change in CAUSED.items():
            service = what.split()[1]
            if what in self.done and what not in self.blind and self.now >= self.done[what] + self.delay:
                services[service] = replace(services[service], **cast("Any", change))
        self.now += self.request
        return list(services.values())


def detect(yard: FakeYard) -> list[detection.Detection]:
    return detection.detect(cast("Stack", yard), clock=yard.clock, sleep=yard.sleep)


def found(seen: list[detection.Detection]) -> list[tuple[str, str]]:
    return [(item.check, item.found) for out in examine(detection.CHECKS, seen, "x") for item in out.findings]


def test_every_fault_is_caused_undone_where_it_can_be_and_timed() -> None:
    yard = FakeYard()

    seen = detect(yard)

    assert [(each.service, each.fault) for each in seen] == [
        ("postgres", "paused"), ("redis", "frozen"), ("backend", "out of memory"), ("auth", "killed"),
    ]  # fmt: skip
    assert [each.seconds for each in seen] == pytest.approx([0.1] * 4, abs=0.02)
    assert [each.limit for each in seen] == [1.0, 4.0, 1.0, 1.0]
    assert {"unpause postgres", "SIGCONT redis", "limit backend 34"} <= set(yard.done)
    assert found(seen) == []


@pytest.mark.parametrize("missing", ["postgres", "redis", "websocket", "auth"])
def test_a_stack_without_one_of_the_kinds_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delitem(URLS, missing)

    with pytest.raises(UsageError, match=r"^stack mine \(cafe0001\) needs a PostgreSQL, a Redis, a WebSocket and"):
        detect(FakeYard())


def test_what_shows_too_late_is_found_with_its_figure() -> None:
    assert {check for check, _ in found(detect(FakeYard(delay=1.5)))} == {
        "detection-paused", "detection-memory", "detection-killed",
    }  # fmt: skip
    shown = "redis frozen: seen after 4.49 s (limit 4.0 s): running, health unhealthy"
    assert ("detection-frozen", shown) in found(detect(FakeYard(delay=4.495)))


def test_a_slow_host_is_not_taken_for_a_late_detection() -> None:
    assert found(detect(FakeYard(request=0.9, delay=0.95))) == []
    assert {check for check, _ in found(detect(FakeYard(request=0.9, delay=2.0)))} >= {"detection-killed"}


@pytest.mark.parametrize(
    ("blind", "check", "words"),
    [
        ("pause postgres", "detection-paused", "postgres paused: not seen (limit 1.0 s)"),
        ("SIGSTOP redis", "detection-frozen", "redis frozen: not seen (limit 4.0 s)"),
        ("exec backend", "detection-memory", "backend out of memory: not seen (limit 1.0 s)"),
        ("SIGKILL auth", "detection-killed", "auth killed: not seen (limit 1.0 s)"),
    ],
)
def test_a_fault_that_never_shows_is_found_by_its_check_alone(blind: str, check: str, words: str) -> None:
    yard = FakeYard(blind=(blind,))

    seen = detect(yard)

    assert found(seen) == [(check, f"{words}: running, health healthy")]
    assert {"unpause postgres", "SIGCONT redis"} <= set(yard.done)


def test_a_container_that_is_gone_is_not_a_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    yard = FakeYard()
    monkeypatch.setattr(yard, "status", lambda: [replace(WELL, service="redis", health="healthy")])

    assert detect(yard)[0].shown == "no container"


def test_what_was_not_measured_is_an_error_not_a_pass() -> None:
    assert [check for check, _ in found([])] == [
        "detection-paused", "detection-frozen", "detection-memory", "detection-killed",
    ]  # fmt: skip


def test_a_service_that_is_not_well_to_begin_with_cannot_be_frozen() -> None:
    with pytest.raises(NotReadyError, match="service redis is not healthy after 30 s: running, health starting"):
        detect(FakeYard(health="starting"))


def test_a_host_that_counts_no_memory_cannot_starve_a_service() -> None:
    with pytest.raises(EngineError, match="service backend does not run or its host counts no memory"):
        detect(FakeYard(memory_use=None))


def test_a_health_check_without_settings_has_the_engines_own() -> None:
    assert detection.unhealthy_after_s({}) == 181.0
    assert detection.unhealthy_after_s({"Interval": 5e9, "Timeout": 3e9, "Retries": 10}) == 81.0

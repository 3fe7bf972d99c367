"""The probes against real containers, started here in a lease of their own and removed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from stackyard._util import process
from stackyard.docker import Engine
from stackyard.docker.in_use import strangers
from stackyard.docker.lease_book import open_book
from stackyard.errors import NotReadyError
from stackyard.leases.directory import credentials
from stackyard.probes import probe_for, wait_until_ready
from stackyard.project.environments import Environment
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.probes import Probe

PROBES = ("postgres", "redis", "auth", "backend", "websocket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started platform: its Compose command, its URLs, its passwords."""

    command: tuple[str, ...]
    urls: dict[str, str]
    passwords: tuple[str, ...]

    def compose(self, *arguments: str) -> str:
        done = process.run([*self.command, *arguments], deadline=280)
        return done.stdout + done.stderr

    def probes(self, *services: str) -> list[Probe]:
        return [probe_for(service, self.urls[service]) for service in services or self.urls]


@pytest.fixture(scope="module")
def running(images: dict[str, str]) -> Iterator[Running]:
    """A platform in a lease of its own, not started yet; plain Compose drives it."""
    environment = Environment.load("test")
    with Engine() as engine:
        book = open_book(None, engine)
        # Compose waits for health checks, and a lease's own begin after most runs are over
        soon = {"STACKYARD_HEALTH_START_INTERVAL": "250ms"}
        lease = book.acquire(environment, variables=images | soon, strangers=lambda: strangers(engine))
        stack = Stack(environment, lease, book, engine)
        keys = credentials.read(lease.secrets_dir, ["postgres_password", "redis_password"])
        try:
            yield Running(
                command=tuple(stack.compose.command()), urls={name: lease.url(name) for name in PROBES},
                passwords=tuple(keys.values()),
            )  # fmt: skip
        finally:
            assert stack.down().left == []


async def test_what_the_probes_call_ready_answers_every_request_after(running: Running) -> None:
    with pytest.raises(NotReadyError, match="postgres: connection refused"):
        await wait_until_ready(running.probes(), deadline=1)

    running.compose("up", "--detach", "--no-build")
    readiness = await wait_until_ready(running.probes(), deadline=280)
    for _ in range(20):
        for probe in running.probes():
            await probe.check()

    assert list(readiness.seconds) == ["postgres", "redis", "auth", "backend", "websocket"]


@pytest.mark.parametrize(
    ("service", "seen"), [("postgres", 'password authentication failed for user "app"'), ("redis", "WRONGPASS")]
)
async def test_a_wrong_password_is_not_ready(running: Running, service: str, seen: str) -> None:
    running.compose("up", "--detach", "--no-build", "--wait")
    right = running.passwords[service == "redis"]

    with pytest.raises(NotReadyError, match=seen) as caught:
        await probe_for(service, running.urls[service].replace(right, "wrong-password")).check()

    assert "wrong-password" not in str(caught.value)


@pytest.mark.parametrize("service", ["postgres", "redis"])
async def test_a_service_that_stops_is_not_ready_until_it_is_back(running: Running, service: str) -> None:
    running.compose("up", "--detach", "--no-build", "--wait")
    running.compose("stop", "--timeout", "2", service)
    with pytest.raises(NotReadyError, match=f"s: {service}"):
        await wait_until_ready(running.probes(service), deadline=0.2)

    running.compose("start", service)

    assert (await wait_until_ready(running.probes(), deadline=280)).seconds


async def test_probing_leaves_no_connection_and_no_complaint_in_the_logs(running: Running) -> None:
    running.compose("up", "--detach", "--no-build", "--wait")
    for _ in range(30):
        for probe in running.probes("postgres", "redis"):
            await probe.check()

    logs = running.compose("logs", "--no-color", "--tail", "60", "postgres", "redis")

    assert not any(password in logs for password in running.passwords)
    assert "unexpected EOF" not in logs
    assert "Connection reset" not in logs

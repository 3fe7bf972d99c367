"""The probes against real containers, started here under a project name of their own and removed again."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from stackyard import credentials, process
from stackyard.environments import Environment
from stackyard.errors import CommandError, NotReadyError
from stackyard.probes import probe_for, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackyard.probes import Probe

SERVICES = ("postgres", "redis", "auth", "backend")
SUBNET = "10.213.254.240/28"  # outside the fixed blocks and the pool of leases


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started platform: its Compose command, its URLs, its passwords."""

    command: tuple[str, ...]
    urls: dict[str, str]
    passwords: tuple[str, ...]

    def compose(self, *arguments: str) -> str:
        done = process.run([*self.command, *arguments], deadline=120)
        return done.stdout + done.stderr

    def probes(self, *services: str) -> list[Probe]:
        return [probe_for(service, self.urls[service]) for service in services or self.urls]


def free_ports(count: int) -> list[int]:
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    environment = Environment.load("test")
    for service in SERVICES:
        image = environment.variables[f"STACKYARD_IMAGE_{service.upper()}"]
        try:
            process.run(["docker", "image", "inspect", image], deadline=30)
        except CommandError:
            pytest.skip(f"needs the image {image}: invoke images.build")
    platform = prepare(environment, tmp_path_factory.mktemp("platform"))
    try:
        yield platform
    finally:
        platform.compose("down", "--volumes", "--timeout", "0")
    assert platform.compose("ps", "--all", "--quiet").strip() == ""


def prepare(environment: Environment, directory: Path) -> Running:
    """Write an env file and secrets as a lease has them; start nothing yet."""
    keys = credentials.ensure(directory / "secrets")
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    project = f"stackyard-probes-{secrets.token_hex(4)}"
    variables = dict(environment.variables) | {
        "COMPOSE_PROJECT_NAME": project,
        "STACKYARD_SUBNET": SUBNET,
        "STACKYARD_SECRETS_DIR": str(directory / "secrets"),
        **{f"STACKYARD_{service.upper()}_PORT": str(port) for service, port in ports.items()},
    }
    env_file = directory / "env"
    env_file.write_text("".join(f"{key}={value}\n" for key, value in variables.items()))
    command = ("docker", "compose", "-f", str(environment.compose_file), "--env-file", str(env_file), "-p", project)
    urls = {
        "postgres": f"postgresql://app:{keys.postgres_password}@127.0.0.1:{ports['postgres']}/app",
        "redis": f"redis://app:{keys.redis_password}@127.0.0.1:{ports['redis']}/0",
        "auth": f"http://127.0.0.1:{ports['auth']}",
        "backend": f"http://127.0.0.1:{ports['backend']}",
        "websocket": f"ws://127.0.0.1:{ports['backend']}/ws",
    }
    return Running(command=command, urls=urls, passwords=(keys.postgres_password, keys.redis_password))


async def test_what_the_probes_call_ready_answers_every_request_after(running: Running) -> None:
    with pytest.raises(NotReadyError, match="postgres: connection refused"):
        await wait_until_ready(running.probes(), deadline=0.05)

    running.compose("up", "--detach", "--no-build")
    readiness = await wait_until_ready(running.probes(), deadline=60)
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

    assert (await wait_until_ready(running.probes(), deadline=60)).seconds


async def test_probing_leaves_no_connection_and_no_complaint_in_the_logs(running: Running) -> None:
    running.compose("up", "--detach", "--no-build", "--wait")
    for _ in range(30):
        for probe in running.probes("postgres", "redis"):
            await probe.check()

    logs = running.compose("logs", "--no-color", "--tail", "60", "postgres", "redis")

    assert not any(password in logs for password in running.passwords)
    assert "unexpected EOF" not in logs
    assert "Connection reset" not in logs

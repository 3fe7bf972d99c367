"""The images as containers, each started the way the Compose file does: uid 10001, read-only root, no capabilities."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg  # type: ignore[import-untyped]
import pytest
import redis

from stackyard import images
from stackyard._util.process import run
from stackyard.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(1800)  # the first test of a flavour builds its images where they are missing

PASSWORD = "correct-horse_42"
HARDENED = ("--user=10001:10001", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
LIMITS_MB = {
    ("postgres", "alpine"): 70, ("redis", "alpine"): 20, ("auth", "alpine"): 60, ("backend", "alpine"): 60,
    ("postgres", "debian"): 140, ("redis", "debian"): 40, ("auth", "debian"): 60, ("backend", "debian"): 60,
}  # fmt: skip
TMPFS = (
    "--mount=type=tmpfs,dst=/var/lib/postgresql",
    "--tmpfs=/tmp:size=16m,mode=1777,noexec",
    "--env=POSTGRES_DURABLE=off",
)


@pytest.fixture(scope="module", params=["debian", "alpine"])
def built(request: pytest.FixtureRequest) -> dict[str, str]:
    return images.ensure(request.param)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    file.chmod(0o444)
    return file


def replace(secret: Path, text: str) -> None:
    secret.chmod(0o644)
    secret.write_text(text)
    secret.chmod(0o444)


def docker(*words: str, check: bool = True) -> str:
    done = run(["docker", *words], deadline=60, check=check)
    return (done.stdout + done.stderr).strip()


@contextlib.contextmanager
def container(*words: str) -> Iterator[str]:
    name = f"stackyard-imagetest-{uuid.uuid4().hex[:8]}"
    try:
        docker("run", "--detach", "--name", name, *words)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def port(name: str, inner: int) -> int:
    return int(docker("port", name, str(inner)).rsplit(":", 1)[1])


def postgres(image: str, secret: Path, *words: str) -> contextlib.AbstractContextManager[str]:
    return container(
        *HARDENED, "--publish=127.0.0.1::5432", f"--volume={secret}:/run/secret:ro", "--shm-size=32m",
        "--env=POSTGRES_PASSWORD_FILE=/run/secret", *words, image,
    )  # fmt: skip


async def connect(
    name: str, *, user: str = "app", password: str = PASSWORD, patience: float = 20
) -> asyncpg.Connection:
    """Log in over the published port, as soon as the server is there."""
    until = time.monotonic() + patience
    while True:
        try:
            return await asyncpg.connect(
                host="127.0.0.1", port=port(name, 5432), user=user, password=password, database="app", timeout=5
            )
        except (OSError, asyncpg.CannotConnectNowError):
            if time.monotonic() > until:
                raise AssertionError(docker("logs", name)) from None
            await asyncio.sleep(0.02)


async def test_the_application_may_log_in_and_the_superuser_may_not(built: dict[str, str], secret: Path) -> None:
    with postgres(built["postgres"], secret, *TMPFS) as name:
        connection = await connect(name)
        settings = {row: await connection.fetchval(f"SHOW {row}") for row in ("fsync", "jit", "password_encryption")}
        await connection.execute("CREATE DATABASE mine TEMPLATE app_template")
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(name, password="wrong", patience=0)
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no pg_hba"):
            await connect(name, user="postgres")
        health = docker("exec", name, "/usr/local/bin/healthcheck", check=False)
        process = docker("exec", name, "cat", "/proc/1/cmdline")
        log = docker("logs", name)

    assert settings == {"fsync": "off", "jit": "off", "password_encryption": "scram-sha-256"}
    assert tables >= 4
    assert health == ""
    assert process.startswith("postgres")
    assert PASSWORD not in log + process


async def test_data_on_a_volume_outlives_the_container(built: dict[str, str], secret: Path) -> None:
    volume = f"stackyard-imagetest-{uuid.uuid4().hex[:8]}"
    mount = (f"--mount=type=volume,src={volume},dst=/var/lib/postgresql", "--tmpfs=/tmp:mode=1777")
    docker("volume", "create", volume)
    try:
        with postgres(built["postgres"], secret, *mount) as name:
            connection = await connect(name)
            await connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
            await connection.close()
            docker("kill", name)  # no clean shutdown: the next start has to recover
        replace(secret, "another-one")
        with postgres(built["postgres"], secret, *mount) as name:
            connection = await connect(name, password="another-one")
            seven = await connection.fetchval("SELECT seven FROM kept")
            fsync = await connection.fetchval("SHOW fsync")
            await connection.close()
    finally:
        docker("volume", "rm", volume)

    assert (seven, fsync) == (7, "on")


async def test_a_kept_database_without_the_role_is_said_and_the_server_ends(
    built: dict[str, str], secret: Path
) -> None:
    volume = f"stackyard-imagetest-{uuid.uuid4().hex[:8]}"
    mount = (f"--mount=type=volume,src={volume},dst=/var/lib/postgresql", "--tmpfs=/tmp:mode=1777")
    docker("volume", "create", volume)
    try:
        with postgres(built["postgres"], secret, *mount) as name:
            await (await connect(name)).close()
            docker("exec", name, "psql", "-U", "postgres", "-d", "app", "-c", "ALTER ROLE app RENAME TO other")
        with postgres(built["postgres"], secret, *mount) as name:
            docker("wait", name)
            log = docker("logs", name)
    finally:
        docker("volume", "rm", volume)

    assert 'FATAL:  role "app" does not exist' in log
    assert "could not set the password of role app" in log
    assert PASSWORD not in log


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param(
            ("--mount=type=volume,dst=/var/lib/postgresql", "--tmpfs=/tmp", "--env=POSTGRES_DURABLE=off"),
            "POSTGRES_DURABLE=off needs a tmpfs on /var/lib/postgresql", id="fast-on-a-disk",
        ),
        pytest.param(("--env=POSTGRES_DURABLE=maybe",), "must be on or off, got 'maybe'", id="unknown-word"),
        pytest.param(("--env=POSTGRES_PASSWORD_FILE=/none",), "must name a file uid 10001 can read", id="no-password"),
        pytest.param(("--tmpfs=/tmp",), "is /var/lib/postgresql a tmpfs or a volume", id="nowhere-to-write"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_start_says_why_in_one_line(
    built: dict[str, str], secret: Path, words: tuple[str, ...], text: str
) -> None:
    with postgres(built["postgres"], secret, *words) as name:
        code = docker("wait", name)
        log = docker("logs", name)

    assert code == "1"
    assert text in log.splitlines()[-1]


def test_a_password_that_could_end_the_statement_is_refused(built: dict[str, str], secret: Path) -> None:
    replace(secret, "x'; DROP ROLE app; --")
    with postgres(built["postgres"], secret, *TMPFS) as name:
        docker("wait", name)
        log = docker("logs", name)

    assert "holds a quote or a backslash" in log
    assert "DROP ROLE" not in log


def test_redis_knows_one_user_and_keeps_the_dangerous_from_it(built: dict[str, str], secret: Path) -> None:
    with container(
        *HARDENED, "--publish=127.0.0.1::6379", f"--volume={secret}:/run/secret:ro", "--tmpfs=/data:size=64m,mode=1777",
        "--env=REDIS_PASSWORD_FILE=/run/secret", built["redis"],
    ) as name:  # fmt: skip
        client: Any = redis.Redis(
            host="127.0.0.1", port=port(name, 6379), username="app", password=PASSWORD,
            retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100),
        )  # fmt: skip
        with client:
            assert client.set("a", "1")
            assert client.get("a") == b"1"
            assert client.flushdb()
            for command in ("CONFIG GET maxmemory", "ACL LIST", "SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "SAVE"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command.split())
        refused: tuple[dict[str, Any], ...] = ({}, {"username": "app", "password": "wrong"}, {"password": PASSWORD})
        once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        for credentials in refused:
            stranger = redis.Redis(host="127.0.0.1", port=port(name, 6379), retry=once, **credentials)
            with stranger, pytest.raises(redis.exceptions.AuthenticationError):
                stranger.ping()
        health = docker("exec", name, "/usr/local/bin/healthcheck", check=False)
        shown = docker("logs", name) + docker("exec", name, "cat", "/proc/1/cmdline", "/data/users.acl")

    assert health == ""
    assert PASSWORD not in shown


def test_every_image_is_small_has_its_labels_and_runs_as_10001(built: dict[str, str]) -> None:
    for service, reference in built.items():
        facts = json.loads(docker("image", "inspect", reference))[0]
        labels = facts["Config"]["Labels"]
        flavour = labels["stackyard.flavour"]
        assert facts["Config"]["User"] == "10001:10001"
        assert labels["stackyard.image"] == service
        assert reference == f"stackyard/{service}:{flavour}-{labels['stackyard.content'][:12]}"
        assert facts["Size"] <= LIMITS_MB[service, flavour] * 1_000_000, (reference, facts["Size"])
        assert facts["Config"]["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize("service", ["auth", "backend"])
def test_a_service_imports_all_it_needs_and_carries_no_build_tools(built: dict[str, str], service: str) -> None:
    needed = f"{service}_service.app, platform_common.server, platform_common.health"
    code = f"import {needed}; print('ok')"

    out = docker("run", "--rm", *HARDENED, built[service], "python3", "-c", code)

    assert out == "ok"
    for tool in ("pip", "gcc", "make", "apt-get"):
        with pytest.raises(CommandError):
            docker("run", "--rm", *HARDENED, "--entrypoint", tool, built[service], "--version")


def test_what_is_there_is_found_in_a_tenth_of_a_second(built: dict[str, str]) -> None:
    flavour = next(iter(built.values())).split(":")[1].split("-")[0]
    samples = []
    for _ in range(5):
        started = time.monotonic()
        assert images.ensure(flavour) == built
        samples.append(time.monotonic() - started)

    assert min(samples) < 0.1

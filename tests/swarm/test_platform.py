"""The platform of this repository on the Swarm, and its own tests against it."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.projects.expected import BARE
from tests.swarm.test_copies import left

from stackyard._util import process
from stackyard.project.environments import Environment
from stackyard.running import running
from stackyard.stacks.environments.launch import prepare_images

if TYPE_CHECKING:
    from tests.swarm.nodes import Node

    from stackyard.docker.swarm import Swarm
    from stackyard.running import Stack

ROOT: Final = Path(__file__).parents[2]
ORIGIN: Final = "http://app.example.test"
# a Swarm gives a restarted container another port, and the containers of a flavour are looked at by this host's engine
OF_ONE_ENGINE: Final = ("test_restarts.py", "test_flavour.py")


@pytest.fixture(scope="module")
def images(machines: list[Node]) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DOCKER_HOST", raising=False)
        told = prepare_images(Environment.load("alpine-test"), print)
    found = {name: value for name, value in told.items() if name.startswith("STACKYARD_IMAGE_")}
    for node in machines:
        node.load(sorted(set(found.values())))
    return found


@pytest.mark.core
@pytest.mark.timeout(600)
def test_the_platform_s_own_tests_pass_on_the_swarm(
    images: dict[str, str], tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    keys = {name: secrets.token_hex(24) for name in ("postgres_password", "redis_password", "jwt_key")}
    for name, value in keys.items():
        (tmp_path / name).write_text(value)
    variables = BARE | images | {"STACKYARD_SECRETS_DIR": str(tmp_path), "STACKYARD_LEASE": "on-the-swarm"}
    files = [ROOT / "compose" / "docker-compose.unified.yml"]
    with running(
        folder=ROOT, files=files, env_files=[ROOT / "envs" / ".env.alpine-test"], variables=variables, site="swarm",
        timeout=120,
    ) as stack:  # fmt: skip
        tests = [str(path) for path in sorted((ROOT / "tests/platform").glob("test_*.py"))]
        words = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
        chosen = [path for path in tests if Path(path).name not in OF_ONE_ENGINE]
        done = process.run(
            [*words, *chosen], deadline=400, check=False, cwd=ROOT,
            env={**os.environ, **where(stack, keys)},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert left(site, machines) == []


def where(stack: Stack, keys: dict[str, str]) -> dict[str, str]:
    """Return what docs/platform.md lists for the tests."""
    postgres, redis, backend = (stack.address(name).where for name in ("postgres", "redis", "backend"))
    return {
        "STACKYARD_POSTGRES_URL": f"postgresql://app:{keys['postgres_password']}@{postgres}/app",
        "STACKYARD_REDIS_URL": f"redis://app:{keys['redis_password']}@{redis}/0",
        "STACKYARD_AUTH_URL": stack.url("auth", scheme="http"),
        "STACKYARD_BACKEND_URL": stack.url("backend", scheme="http"),
        "STACKYARD_WEBSOCKET_URL": f"ws://{backend}/ws",
        "STACKYARD_JWT_KEY": keys["jwt_key"],
        "STACKYARD_JWT_ISSUER": "stackyard-auth",
        "STACKYARD_JWT_AUDIENCE": "on-the-swarm",
        "STACKYARD_ALLOWED_ORIGIN": ORIGIN,
    }

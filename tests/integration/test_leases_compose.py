"""What `docker compose` reads from a lease's env file is what was written there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackyard._util import process
from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

AWKWARD = {
    "STACKYARD_A": 'a b;$HOME ${HOME} `id` "q" #x \\ \\n',
    "STACKYARD_B": "",
    "STACKYARD_C": "é=*?[~]!&|<>(){}",
    "STACKYARD_D": " leading and trailing ",
    "STACKYARD_E": "#not-a-comment",
}
NAMES = sorted([*AWKWARD, "STACKYARD_POSTGRES_URL", "STACKYARD_PORTS", "STACKYARD_OWNER", "STACKYARD_JWT_KEY"])


@pytest.fixture
def book(tmp_path: Path) -> LeaseBook:
    return LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "11600-11699"}))


def test_compose_reads_every_value_byte_for_byte(book: LeaseBook, tmp_path: Path) -> None:
    environment = replace(Environment.load("test"), variables=AWKWARD)
    lease = book.acquire(environment, ttl=60)
    lines = [f"      {name}: ${{{name}}}" for name in NAMES]
    file = tmp_path / "compose.yml"
    file.write_text("\n".join(["services:", "  one:", "    image: none", "    environment:", *lines, ""]))
    words = ["docker", "compose", "--file", str(file), "--env-file", str(lease.env_file), "config", "--format", "json"]

    model = json.loads(process.run(words, deadline=280).stdout)

    seen = model["services"]["one"]["environment"]
    expected = {name: lease.variables()[name] for name in NAMES}
    # Compose doubles each dollar sign again when it prints a model, so that the model can be read back.
    assert {name: seen[name].replace("$$", "$") for name in NAMES} == expected
    assert model["name"] == lease.project
    assert AWKWARD.items() <= expected.items()


def test_the_compose_file_of_the_platform_takes_everything_from_the_lease(book: LeaseBook) -> None:
    environment = Environment.load("test")
    lease = book.acquire(environment, ttl=60)
    words = ["docker", "compose", "--file", str(environment.compose_file), "--env-file", str(lease.env_file), "config"]

    model = json.loads(process.run([*words, "--format", "json"], deadline=280).stdout)

    services = model["services"]
    published = {name: [port["published"] for port in part["ports"]] for name, part in services.items()}
    assert published == {name: [str(port)] for name, port in lease.ports.items() if name != "websocket"}
    assert model["networks"]["platform"]["ipam"]["config"] == [{"subnet": lease.subnet}]
    assert model["name"] == lease.project
    assert {secret["file"] for secret in model["secrets"].values()} == {
        str(path) for path in lease.secrets_dir.iterdir()
    }
    labels = {json.dumps(service["labels"], sort_keys=True) for service in model["services"].values()}
    assert len(labels) == 1
    assert lease.owner.label() in labels.pop()

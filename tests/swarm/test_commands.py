from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.projects.expected import BARE
from tests.swarm.test_copies import left

if TYPE_CHECKING:
    from pathlib import Path

    from tests.swarm.nodes import Node

    from stackyard.docker.swarm import Swarm

pytestmark = pytest.mark.timeout(180)
ASK = "import os, urllib.request as u; print(u.urlopen(os.environ['STACKYARD_WEB_URL']).read().decode()); exit(3)"


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "stackyard", words[0], "--site", "swarm", *words[1:]]
    kept = {name: os.environ[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG") if name in os.environ}
    env = BARE | kept | {"STACKYARD_STATE_DIR": str(folder / "state")}
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 - ours


def test_a_command_runs_beside_a_copy_and_gets_its_addresses(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": {"image": box, "ports": ["80"]}}}))

    done = typed(tmp_path, "run", "--", sys.executable, "-c", ASK)

    assert (done.returncode, done.stdout) == (3, "box\n"), done.stderr
    assert left(site, machines) == []


def test_a_copy_that_is_up_is_no_place_for_a_run_and_tells_its_variables(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": {"image": box, "ports": ["80"]}}}))
    up = typed(tmp_path, "up", "--name", "mine")
    refused = typed(tmp_path, "run", "--name", "mine", "--", "true")
    env = json.loads(typed(tmp_path, "env", "--name", "mine", "--json").stdout)

    assert (up.returncode, refused.returncode) == (0, 2), up.stderr
    assert refused.stderr.endswith("copy mine is up already; run the command with another --name, or without\n")
    assert env["STACKYARD_WEB_URL"] == f"http://{env['STACKYARD_WEB_ADDRESS']}"
    assert typed(tmp_path, "down", "--name", "mine").returncode == 0
    assert left(site, machines) == []

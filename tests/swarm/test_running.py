"""Programs and tests that use a copy on the Swarm as they would use one on one engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from tests.projects.expected import BARE
from tests.swarm.test_commands import typed
from tests.swarm.test_copies import answers, left

from stackyard.errors import UsageError
from stackyard.running import running
from stackyard.sites.swarm.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.swarm.nodes import Node

    from stackyard.docker.swarm import Swarm

pytestmark = pytest.mark.timeout(240)
INI: Final = """
[pytest]
addopts = -p stackyard.pytest_plugin -p no:docker -p no:cacheprovider
asyncio_default_fixture_loop_scope = function
"""
# what the authors of these projects could have written; nothing in it knows of a Swarm
SUITES: Final = {
    "five-services": """
        import os, urllib.request, pytest

        @pytest.mark.parametrize("service", ["web", "db", "cache"])
        def test_it_answers(stack, service):
            assert urllib.request.urlopen(stack.url(service, scheme="http")).read() == b"box"
            assert stack.env[f"STACKYARD_{service.upper()}_PORT"] == str(stack.port(service))

        def test_all_are_there(stack):
            assert stack.services == ["cache", "db", "migrate", "web", "worker"]

        def test_another_one_is_separate(stack, stack_per_test):
            assert stack.address("web").where != stack_per_test.address("web").where
    """,
    "replicas": """
        import urllib.request, pytest

        @pytest.mark.parametrize("number", [1, 2, 3])
        def test_each_worker_answers(stack, number):
            assert urllib.request.urlopen(f"http://{stack.address('worker', 80, number=number).where}").read() == b"box"
    """,
    "secrets-and-configs": """
        def test_the_service_can_read_its_files(stack):
            (service,) = stack.services
            assert "/run/secrets" in stack.exec(service, "sh", "-c", "ls -d /run/secrets").stdout
            assert stack.logs(service) == stack.logs(service, tail=100)
    """,
}


def pytest_in(folder: Path, suite: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_it.py").write_text("\n".join(line.removeprefix("        ") for line in suite.splitlines()))
    kept = {name: os.environ[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG") if name in os.environ}
    env = BARE | kept | {"STACKYARD_STATE_DIR": str(folder / "state"), "LEDGER_KEY": "k", "TMPDIR": str(folder)}
    argv = [sys.executable, "-m", "pytest", "-q", "--no-header", *words]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=200)  # noqa: S603 - ours


@pytest.mark.usefixtures("contexts")
@pytest.mark.parametrize(("name", "passed"), [("five-services", 5), ("replicas", 3), ("secrets-and-configs", 1)])
def test_a_foreign_project_s_tests_run_unchanged(
    name: str, passed: int, project: Callable[[str], Path], site: Swarm, machines: list[Node]
) -> None:
    folder = project(name)

    done = pytest_in(folder, SUITES[name], "-n", "2", "--stackyard-site", "swarm", "--stackyard-timeout", "90s")

    assert f"{passed} passed" in done.stdout, done.stdout + done.stderr
    assert left(site, machines) == []
    assert list(folder.glob("stackyard-run-*")) == []


FAILING: Final = """
def test_fails(stack):
    assert not stack.url("web")

def test_resets(clean_stack):
    pass

def test_is_at_one_address(docker_services, docker_ip):
    assert docker_services.stack.address("web").host == docker_ip
    assert docker_services.port_for("web", 80)
"""


def test_a_failed_test_shows_the_services_logs_and_a_reset_is_refused(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node]
) -> None:
    web = {"image": box, "ports": ["80"], "command": ["sh", "-c", "echo so it begins; exec httpd"]}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))
    options = ("--stackyard-site", "swarm", "-p", "stackyard.pytest_plugin.docker", "--junit-xml=report.xml")

    done = pytest_in(tmp_path, FAILING, *options)

    assert "1 failed, 1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "web: running\n  | so it begins\n" in done.stdout
    assert "stackyard: clean_stack: copies on a Swarm cannot be reset; use stack_per_test" in done.stdout
    assert (
        f'stackyard web 80/tcp" value="http://{machines[0].address.rpartition(".")[0]}.'
        in (tmp_path / "report.xml").read_text()
    )
    assert left(site, machines) == []


def test_a_block_of_a_program_has_a_copy_and_the_setting_names_the_site(
    box: str, tmp_path: Path, site: Swarm, machines: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": {"image": box, "ports": ["80"]}}}))
    monkeypatch.setenv("STACKYARD_SITE", "swarm")

    with running(folder=tmp_path) as stack:
        (lease,) = Leases(site).leases()
        assert answers(stack.url("web"))
        assert (stack.lease.title, stack.services) == (f"{lease.name} ({lease.id})", ["web"])
        for refused in (stack.status, stack.containers, stack.reset):
            with pytest.raises(UsageError, match="copies on a Swarm do not have this"):
                refused()
        with pytest.raises(UsageError, match="was started without --graceful"):
            stack.down(graceful=True)
    assert left(site, machines) == []


@pytest.mark.usefixtures("site", "contexts")
def test_a_command_runs_inside_a_service_on_whatever_node(box: str, tmp_path: Path) -> None:
    services = {f"web{number}": {"image": box} for number in (1, 2, 3)}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": services}))
    up = typed(tmp_path, "up", "--name", "mine")
    ps = json.loads(typed(tmp_path, "ps", "mine", "--json").stdout)

    said = [typed(tmp_path, "exec", name, "--", "sh", "-c", "echo $HOSTNAME; exit 7") for name in services]
    which = typed(tmp_path, "exec", "--", "true")
    typed(tmp_path, "down", "mine")

    assert {one["node"] for one in ps["services"]} == {"n1", "n2", "n3"}, up.stderr
    assert [one.returncode for one in said] == [7, 7, 7], said
    assert len({one.stdout for one in said}) == 3
    assert which.returncode == 2
    assert re.fullmatch(r"which service\? mine \([\w-]+\) has: web1, web2, web3\n", which.stderr)


@pytest.mark.usefixtures("site")
def test_a_node_whose_engine_nothing_reaches_is_named(box: str, tmp_path: Path, machines: list[Node]) -> None:
    web = {"image": box, "deploy": {"placement": {"constraints": ["node.hostname == n3"]}}}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": web}}))
    typed(tmp_path, "up", "--name", "mine")
    refused = typed(tmp_path, "exec", "web", "--", "true")
    unknown = typed(tmp_path, "exec", "wbe", "--", "true")
    typed(tmp_path, "down", "mine")

    assert refused.returncode == 2
    assert refused.stderr == (
        "service web runs on node n3, whose engine is reached through a Docker context named n3 only; "
        f"'docker context create n3 --docker host=tcp://{machines[2].address}:2376,ca=…' makes one\n"
    )
    assert (unknown.returncode, unknown.stderr) == (2, "copy mine has no service wbe; its services: web\n")

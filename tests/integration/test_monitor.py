from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from stackyard._util import process
from stackyard.checks import detection
from stackyard.docker import Resource
from stackyard.docker.container_commands import output
from stackyard.monitor import Watcher, exports
from stackyard.monitor.metrics import StackCollector
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.stacks.environments.stack import Stack

ALERTS = project_root() / "monitoring"


@pytest.fixture(scope="session")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prometheus's own checker: the one on PATH, else out of Debian's package, which is not installed for it."""
    found = shutil.which("promtool")
    if found:
        return found
    folder = tmp_path_factory.mktemp("promtool")
    folder.chmod(0o755)  # apt fetches as a user of its own
    process.run(["apt-get", "--quiet", "download", "prometheus"], deadline=280, cwd=folder)
    process.run(["dpkg-deb", "--extract", *map(str, folder.glob("*.deb")), str(folder)], deadline=280)
    return str(folder / "usr/bin/promtool")


def test_the_alert_rules_are_sound_and_each_fires_on_its_fault_alone(promtool: str) -> None:
    checked = process.run([promtool, "check", "rules", str(ALERTS / "alerts.yml")], deadline=280)
    tested = process.run([promtool, "test", "rules", str(ALERTS / "alerts_test.yml")], deadline=280)

    assert "SUCCESS: 10 rules found" in checked.stdout
    assert "SUCCESS" in tested.stdout


def test_a_rule_that_cannot_fire_fails_its_test(promtool: str, tmp_path: Path) -> None:
    for name in ("alerts.yml", "alerts_test.yml"):
        text = (ALERTS / name).read_text()
        (tmp_path / name).write_text(text.replace("stackyard_lease_stale == 1", "stackyard_lease_stale == 2"))

    tested = process.run([promtool, "test", "rules", str(tmp_path / "alerts_test.yml")], deadline=280, check=False)

    assert tested.returncode == 1
    assert "StackyardStaleLease" in tested.stdout + tested.stderr


def value(watcher: Watcher, name: str, service: str) -> float | None:
    families = parse(exports.text(StackCollector(watcher)))
    samples = [each for family in families for each in family.samples if each.name == name]
    return next((each.value for each in samples if each.labels["service"] == service), None)


def test_metrics_of_a_real_stack_pass_prometheus_own_check_and_show_what_happens_to_it(
    new_stack: Callable[[], Stack], promtool: str
) -> None:
    stack = new_stack()
    stack.up()
    watcher = Watcher(stack.book, stack.engine, stack.lease)

    text = exports.text(StackCollector(watcher))
    checked = process.run([promtool, "check", "metrics"], deadline=280, stdin=text, check=False)
    trial = detection._Trial(stack=stack, clock=time.monotonic, sleep=time.sleep)
    seen = [trial.starved("backend"), trial.killed("auth")]
    used = {each.service: each.seen.usage for each in watcher.look().services if each.seen}

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert f'stackyard_service_up{{environment="test",lease="{stack.lease.id}",service="redis"}} 1.0' in text
    assert [secret for secret in stack.lease.secrets() if secret in text] == []
    assert [each for each in seen if each.seconds is None] == []
    assert value(watcher, "stackyard_container_oom_kills_total", "backend") == 1
    assert value(watcher, "stackyard_service_running", "auth") == 0
    postgres = used["postgres"]
    assert postgres is not None
    assert 0 < postgres.memory <= (postgres.memory_peak or 0) <= postgres.memory_limit

    stack.engine.remove(Resource(kind="container", id=stack.container("redis").id, name="redis", labels={}))
    assert {each.service: each.seen for each in watcher.look().services}["redis"] is None


def test_processes_the_kernel_ended_in_a_container_that_goes_on_are_counted(new_stack: Callable[[], Stack]) -> None:
    stack = new_stack()
    stack.up()
    watcher = Watcher(stack.book, stack.engine, stack.lease)

    codes = [output(stack.engine, stack.container("auth").id, *detection.FILL_MEMORY)[0] for _ in range(2)]

    assert codes == [137, 137]
    assert value(watcher, "stackyard_container_oom_kills_total", "auth") == 2
    assert value(watcher, "stackyard_service_running", "auth") == 1

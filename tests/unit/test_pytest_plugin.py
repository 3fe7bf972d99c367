"""The pytest plugin without an engine: it is not noticed where no test uses it, and says in one line what is wrong."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, cast
from xml.etree import ElementTree as ET

import pytest
from fake_install import INI, install

from stackyard._util import process
from stackyard.project.environments import project_root
from stackyard.pytest_plugin.docker import Services

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard._util.process import Completed
    from stackyard.running import Stack

HEAVY = "docker stackyard.running stackyard.docker stackyard.leases stackyard.project msgspec requests sqlite3"
SUITE = "def test_one(stack): pass\ndef test_two(stack): pass\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["stackyard.pytest_plugin"]\n')
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "test_mine.py").write_text(SUITE)
    return tmp_path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Make somebody else's project, in which the plugin is what pip install makes of it."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    install(tmp_path / "installed")
    (folder / "compose.yaml").write_text("services: {web: {image: web, ports: ['80']}}\n")
    (folder / "pytest.ini").write_text(INI)
    return folder


def run(suite: Path, *words: str, root: Path | None = None, own: bool = False, **variables: str) -> Completed:
    env = {
        "STACKYARD_STATE_DIR": str(suite / "state"), "STACKYARD_REAPER": "off", "TMPDIR": str(suite.parent / "tmp"),
        "DOCKER_HOST": f"unix://{suite}/no.sock", "PATH": os.environ["PATH"], **variables,
    }  # fmt: skip
    if own:
        env["PYTHONPATH"] = str(suite.parent / "installed")
    else:
        env |= {"STACKYARD_ROOT": str(root or project_root()), "TMPDIR": str(suite)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return process.run(command, deadline=240, env=env, cwd=suite, check=False)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "--stack-environment=tset",
            "argument --stackyard-environment/--stack-environment: unknown environment 'tset'; did you mean 'test'? ",
        ),
        (
            "--stack-wait=soon",
            "argument --stackyard-wait/--stack-wait: the value must be a time such as 30s, 5m or 1h30m, ",
        ),
    ],
)
def test_a_wrong_option_ends_pytest_before_any_test(suite: Path, word: str, message: str) -> None:
    done = run(suite, word)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wait", ["600", "5m"])
def test_a_stack_that_cannot_start_fails_each_test_in_one_line(suite: Path, wait: str) -> None:
    done = run(suite, f"--stack-wait={wait}")

    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 errors" in done.stdout
    assert "ERROR test_mine.py::test_two - Failed: stackyard: " in done.stdout
    assert "site-packages" not in done.stdout
    assert "def stack(" not in done.stdout


def test_a_missing_project_is_one_line_too(suite: Path) -> None:
    done = run(suite, root=suite / "nowhere")

    assert f"stackyard: STACKYARD_ROOT is '{suite}/nowhere'" in done.stdout
    assert "def stack(" not in done.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_suite_that_uses_no_stack_does_not_notice_the_plugin(shop: Path, workers: str) -> None:
    (shop / "test_mine.py").write_text(
        f"import sys\ndef test_light(): assert [name for name in {HEAVY!r}.split() if name in sys.modules] == []\n"
    )

    done = run(shop, "-n", workers, own=True)

    assert "1 passed" in done.stdout, done.stdout
    assert not (shop / "state").exists()
    assert [*(shop.parent / "tmp").glob("stackyard*")] == []


def test_a_stranger_s_project_gets_no_fixture_with_a_name_that_others_may_use(shop: Path) -> None:
    (shop / "test_mine.py").write_text("def test_mine(database): pass\n")

    done = run(shop, own=True)

    assert "fixture 'database' not found" in done.stdout
    assert " stack, " in done.stdout
    assert "docker_services" not in done.stdout


@pytest.mark.parametrize("named", ["option", "conftest"])
def test_the_plugin_may_be_named_twice(shop: Path, named: str) -> None:
    (shop / "test_mine.py").write_text("def test_mine(): pass\n")
    if named == "conftest":
        (shop / "conftest.py").write_text('pytest_plugins = ["stackyard.pytest_plugin"]\n')

    done = run(shop, *(["-p", "stackyard.pytest_plugin"] if named == "option" else []), own=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_can_be_switched_off(shop: Path) -> None:
    (shop / "test_mine.py").write_text(SUITE)

    done = run(shop, "-p", "no:stackyard.pytest_plugin", own=True)

    assert "fixture 'stack' not found" in done.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("scope", ["run", "worker", "test"])
def test_a_stack_that_cannot_start_fails_each_test_in_one_line_in_each_scope(
    shop: Path, scope: str, workers: str
) -> None:
    (shop / "test_mine.py").write_text(SUITE)

    done = run(shop, f"--stackyard-scope={scope}", "-n", workers, own=True)

    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 errors" in done.stdout
    assert "ERROR test_mine.py::test_two - Failed: stackyard: " in done.stdout
    assert "site-packages" not in done.stdout
    assert [*(shop.parent / "tmp").glob("stackyard*")] == []


@pytest.mark.parametrize(
    ("ini", "scope"), [("", "session"), ("stackyard_scope = worker", "session"), ("stackyard_scope = test", "function")]
)
def test_the_configuration_says_whose_the_stack_is(shop: Path, ini: str, scope: str) -> None:
    (shop / "pytest.ini").write_text(f"{INI}{ini}\n")
    (shop / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef stack_per_test(): return 1\n"
        "@pytest.fixture(scope='session')\ndef mine(stack): pass\n"
    )
    (shop / "test_mine.py").write_text("def test_mine(mine): pass\n")

    done = run(shop, own=True)

    mismatch = "ScopeMismatch: You tried to access the function scoped fixture stack"
    assert (mismatch in done.stdout) is (scope == "function")


@pytest.mark.parametrize(
    ("ini", "said"),
    [
        ("stackyard_scope = session", "stackyard_scope must be one of run, worker, test, got 'session'"),
        ("stackyard_timeout = soon", "stackyard_timeout: the value must be a time such as 30s, 5m or 1h30m, "),
    ],
)
def test_a_wrong_configuration_ends_pytest_in_one_line(shop: Path, ini: str, said: str) -> None:
    (shop / "pytest.ini").write_text(f"{INI}{ini}\n")

    done = run(shop, own=True)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {said}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_scope_is_refused_with_the_right_ones(shop: Path) -> None:
    done = run(shop, "--stackyard-scope=session", own=True)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "argument --stackyard-scope: invalid choice: 'session' (choose from" in done.stderr


def test_a_folder_without_a_compose_file_is_named(shop: Path) -> None:
    (shop / "compose.yaml").unlink()
    (shop / "test_mine.py").write_text(SUITE)

    done = run(shop, own=True)

    assert f"stackyard: {shop}: no Compose file here or above; " in done.stdout


def test_a_reset_of_a_stack_that_other_workers_use_is_refused(suite: Path) -> None:
    (suite / "conftest.py").write_text(
        'import pytest\npytest_plugins = ["stackyard.pytest_plugin"]\n'
        "@pytest.fixture(scope='session')\ndef stack(): return 1\n"
    )
    (suite / "test_mine.py").write_text("def test_mine(clean_stack): pass\n")

    done = run(suite, "-n", "1", "--stackyard-scope", "run")

    assert "clean_stack deletes data that tests of other workers use; choose --stackyard-scope worker" in done.stdout


def test_the_fixtures_of_pytest_docker_are_there_for_those_who_ask(shop: Path) -> None:
    (shop / "pytest.ini").write_text(INI.replace("-p no:docker", "-p stackyard.pytest_plugin.docker -p no:docker"))
    (shop / "test_mine.py").write_text(
        "def test_one(docker_ip, docker_compose_file):\n"
        "    assert (docker_ip, docker_compose_file) == ('127.0.0.1', [])\n"
        "def test_two(docker_services): pass\n"
    )

    done = run(shop, own=True)

    assert "1 passed, 1 error" in done.stdout, done.stdout
    assert "ERROR test_mine.py::test_two - Failed: stackyard: " in done.stdout


def test_they_are_not_mixed_with_those_of_pytest_docker(shop: Path) -> None:
    (shop / "pytest.ini").write_text(INI.replace("-p no:docker", "-p stackyard.pytest_plugin.docker"))

    done = run(shop, own=True)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "have fixtures of the same names; add '-p no:docker' to addopts" in done.stderr


FAKE = """
import contextlib
from types import SimpleNamespace
import pytest
from stackyard.plan import Address
from stackyard.running.stack import Stack
from stackyard.running.stack_description import StackDescription
from stackyard.stacks import diagnostics

class Fake(Stack):
    lease = SimpleNamespace(id="l1", title="mine (l1)")
    engine = None
    addresses = [Address(service="web", target=80, protocol="tcp", host="127.0.0.1", port=9500, scheme="http",
                         login="me:secret"),
                 Address(service="db", target=53, protocol="udp", host="127.0.0.1", port=9501)]
    def __init__(self): pass
    def containers(self): return []

@contextlib.contextmanager
def run(self, progress):
    progress("waiting for a turn")
    yield Fake()

StackDescription.run = run
diagnostics.collect = lambda *_, **__: ["web: running", "db: exited, exit code 3"]
"""


def test_reports_have_the_addresses_of_each_test_and_the_logs_at_the_first_failure(shop: Path) -> None:
    (shop / "conftest.py").write_text(FAKE)
    (shop / "test_mine.py").write_text(
        "def test_plain(): pass\ndef test_passes(stack): pass\n"
        "def test_fails(stack): assert 0\ndef test_fails_too(stack): assert 0\n"
        "def test_mine(stack_per_test): assert 0\n"
    )

    done = run(shop, "--junit-xml=report.xml", "-o", "junit_logging=system-out", own=True)

    cases = {case.get("name"): case for case in ET.parse(shop / "report.xml").iter("testcase")}  # noqa: S314
    found = {name: [(item.get("name"), item.get("value")) for item in case.iter("property")]
             for name, case in cases.items()}  # fmt: skip
    expected = [("stackyard lease", "l1"), ("stackyard web 80/tcp", "http://127.0.0.1:9500"),
                ("stackyard db 53/udp", "127.0.0.1:9501")]  # fmt: skip
    assert found == {name: [] if name == "test_plain" else expected for name in cases}
    assert len(found) == 5
    assert "secret" not in (shop / "report.xml").read_text()
    with_logs = [name for name, case in cases.items() if "exit code 3" in (case.findtext("system-out") or "")]
    assert with_logs == ["test_fails", "test_mine"]
    assert done.stdout.count("Captured stdout of the services of stack mine (l1)") == 2
    assert "stackyard: waiting for a turn" in done.stdout


def test_an_engine_that_has_gone_spoils_no_report(shop: Path) -> None:
    (shop / "conftest.py").write_text(
        f"{FAKE}\nfrom stackyard.errors import EngineError\n"
        "def collect(*_, **__): raise EngineError('no answer')\ndiagnostics.collect = collect\n"
    )
    (shop / "test_mine.py").write_text("def test_fails(stack): assert 0\n")

    done = run(shop, own=True)

    assert "the services could not be asked: no answer" in done.stdout
    assert "1 failed" in done.stdout


def test_services_answer_as_those_of_pytest_docker_do(shop: Path) -> None:
    (shop / "conftest.py").write_text(FAKE)
    (shop / "pytest.ini").write_text(INI.replace("-p no:docker", "-p stackyard.pytest_plugin.docker -p no:docker"))
    (shop / "test_mine.py").write_text(
        "def test_mine(docker_services):\n    assert docker_services.port_for('web', 80) == 9500\n    assert 0\n"
    )

    done = run(shop, own=True)

    assert "exit code 3" in done.stdout  # the logs of the stack behind it
    assert "    assert 0" in done.stdout


def test_a_check_is_repeated_until_it_succeeds_or_its_time_is_over() -> None:
    answers, times = iter([False, None, 1]), iter(range(100))
    services = Services(cast("Stack", None))

    services.wait_until_responsive(lambda: next(answers), timeout=5, pause=0, clock=lambda: next(times))

    assert list(answers) == []
    with pytest.raises(TimeoutError, match=r"the check of wait_until_responsive did not succeed in 1\.5 s"):
        services.wait_until_responsive(lambda: 0, timeout=1.5, pause=0, clock=lambda: next(times))


def test_the_evidence_of_a_failed_start_is_shown_once(shop: Path) -> None:
    (shop / "conftest.py").write_text(
        "from stackyard.errors import NotReadyError\nfrom stackyard.running.stack_description import StackDescription\n"
        "def run(*_): raise NotReadyError('shop did not start\\ndb: exited, exit code 3\\n  | no such table')\n"
        "StackDescription.run = run\n"
    )
    (shop / "test_mine.py").write_text(SUITE)

    done = run(shop, "-n0", own=True)

    assert "2 errors" in done.stdout
    assert "During handling of the above exception" not in done.stdout
    assert done.stdout.count("stackyard: shop did not start") == 4  # each test's error, and its line in the summary
    assert done.stdout.count("| no such table") == 1
    assert "Captured stdout of the start of the stack: setup" in done.stdout


STARTS = """
import contextlib, os
from pathlib import Path
from types import SimpleNamespace
from stackyard import errors
from stackyard.running.stack_description import StackDescription

ENDS = iter(os.environ["ENDS"].split())

@contextlib.contextmanager
def run(self, progress):
    with Path("starts").open("a") as starts:
        starts.write("x")
    if (end := next(ENDS)) != "ready":
        raise getattr(errors, end)(f"{end} of shop\\nevidence of {end}")
    yield SimpleNamespace(lease=SimpleNamespace(id="l1", title="l1", ports={}))

StackDescription.run = run
"""
FOUR = "import pytest\n@pytest.mark.parametrize('number', range(4))\ndef test_mine({fixture}, number): pass\n"


@pytest.mark.parametrize(
    ("fixture", "ends", "starts", "outcome"),
    [
        ("stack", "NotReadyError", 1, "4 errors"),
        ("stack_per_test", "NotReadyError", 1, "4 errors"),
        ("docker_services", "ImageError", 1, "4 errors"),
        ("stack", "PoolExhaustedError PoolExhaustedError", 2, "4 errors"),
        ("stack", "PoolExhaustedError ready ready ready", 4, "3 passed, 1 error"),
        ("stack_per_test", "EngineError UsageError", 2, "4 errors"),
        ("stack", "ready NotReadyError ready NotReadyError", 4, "2 passed, 2 errors"),
        ("docker_services", "ready NotReadyError NotReadyError", 3, "1 passed, 3 errors"),
    ],
)
def test_a_project_that_cannot_start_is_not_started_for_each_test_again(
    shop: Path, fixture: str, ends: str, starts: int, outcome: str
) -> None:
    (shop / "pytest.ini").write_text(INI.replace("-p no:docker", "-p stackyard.pytest_plugin.docker -p no:docker"))
    (shop / "conftest.py").write_text(STARTS)
    (shop / "test_mine.py").write_text(FOUR.format(fixture=fixture))
    done = run(shop, "--stackyard-scope=test", own=True, ENDS=ends)

    assert f"{outcome} in" in done.stdout, done.stdout
    assert (shop / "starts").read_text() == "x" * starts
    failed = [end for end in ends.split() if end != "ready"]
    lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR test_mine.py::")]
    assert all(line.endswith(" of shop") for line in lines)
    assert lines[-1].endswith(f" - Failed: stackyard: {failed[-1]} of shop")
    assert done.stdout.count("evidence of ") == len(failed)

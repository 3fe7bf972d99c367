from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fake_host import BOOKWORM, VERSION, answering, put_file, put_program
from invoke.context import Context
from invoke.exceptions import Exit

from stackyard.checks import host as checks
from stackyard.cleanup import removal
from stackyard.cleanup.outcome import Removal
from stackyard.cli import doctor
from stackyard.docker.endpoint import Endpoint, PingResult
from stackyard.docker.ownership import Build
from stackyard.errors import EngineError
from stackyard.host import engine_setup
from stackyard.host.machine import Machine
from stackyard.leases import LeaseBook, owners
from stackyard.leases.grants import host_ports
from stackyard.project.environments import load_all
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

DOCKER = """
case "$*" in
  *Client*) echo 28.2.2;;
  *Server*) echo 27.0.1;;
  "compose version --short") echo v2.26.1;;
  "buildx version") echo github.com/docker/buildx 0.13.1+ds1 hash;;
esac
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(host_ports, "can_bind", lambda _: True)
    put_program(tmp_path, "docker", DOCKER)
    for name in ("apt-get", "dpkg", "gpgv", "perl", "tar", "newuidmap"):
        put_program(tmp_path, name)
    put_file(tmp_path, "proc/meminfo", "MemAvailable: 4096000 kB\n")
    return Machine(base=tmp_path, uid=0)


LIST = "/v1.44/images/json"


def answers(**changes: Any) -> dict[str, Any]:
    info = {
        "DockerRootDir": "/",
        "MemoryLimit": True,
        "PidsLimit": True,
        "CgroupDriver": "systemd",
        "CgroupVersion": "2",
    }
    info["SystemTime"] = datetime.now(UTC).isoformat()
    lists: dict[str, Any] = {
        "/containers/json": [],
        "/networks": [],
        "/_ping": "OK",
        LIST: [],
        "/v1.44/containers/json": [],
    }
    return {"/version": VERSION, "/info": info | changes, "/_ping": "OK"} | lists


def examine(host: Machine, served: dict[str, Any] | None) -> dict[str, checks.HostFinding]:
    if served is None:
        return {finding.id: finding for finding in checks.examine(host)}
    with answering(host.base / "docker.sock", served):
        return {finding.id: finding for finding in checks.examine(host)}


def test_host_that_has_everything_needs_no_fix(host: Machine) -> None:
    found = examine(host, answers())

    assert {finding.status for finding in found.values()} == {"ok"}
    assert {finding.fix for finding in found.values()} == {""}
    assert found["client"].found == f"28.2.2 at {host.base}/bin/docker"
    assert found["compose"].found == "v2.26.1"
    assert found["buildx"].found == "0.13.1+ds1"
    assert found["memory"].found == "4000 MiB"
    assert found["cgroup"].found == "v2, systemd"
    assert found["heartbeat"].found == "the engine manages no Swarm"


@pytest.mark.parametrize(("seconds", "status"), [(3, "ok"), (5, "warn")])
def test_the_heartbeat_of_a_swarm_is_shown_and_a_slow_one_warns(host: Machine, seconds: int, status: str) -> None:
    swarm = {"Spec": {"Dispatcher": {"HeartbeatPeriod": seconds * 10**9}}}

    finding = examine(host, answers(Swarm={"ControlAvailable": True}) | {"/v1.44/swarm": swarm})["heartbeat"]

    assert (finding.status, finding.fix != "") == (status, status == "warn")
    assert finding.found.startswith(f"heartbeat {seconds} s: a lost machine is noticed within {3 * seconds} s, and ")


def test_missing_engine_fails_once_and_warns_of_nothing_it_cannot_know(host: Machine) -> None:
    found = examine(host, None)

    bad = [finding for finding in found.values() if finding.status != "ok"]
    assert [(finding.id, finding.status) for finding in bad] == [
        ("socket", "fail"), ("engine", "fail"), ("engine-version", "unknown"), ("cgroup", "unknown"),
        ("clock", "unknown"), ("heartbeat", "unknown"), ("leftovers", "unknown"), ("images", "unknown"),
    ]  # fmt: skip
    assert {finding.fix for finding in bad} == {found["engine"].fix, ""}
    assert found["engine"].found == (
        f"missing at unix://{host.base}/docker.sock (from DOCKER_HOST): there is no such socket"
    )
    assert found["engine"].fix == "start it, or unset DOCKER_HOST to use this host's own engine"


def test_engine_that_does_not_describe_itself_is_silent(host: Machine) -> None:
    found = examine(host, {"/version": VERSION})

    assert found["engine"].found.startswith("silent")


def test_missing_client_fails_three_checks(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin-that-is-not")

    found = examine(host, answers())

    assert [name for name, finding in found.items() if finding.status == "fail"] == [
        "client", "compose", "buildx",
    ]  # fmt: skip
    assert found["client"].found == "not installed"


def test_what_building_images_lacks_is_a_warning_that_names_the_packages(
    host: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{host.base}/bin")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    put_file(host.base, "etc/os-release", BOOKWORM)
    for name in ("perl", "newuidmap"):
        (host.base / "bin" / name).unlink()

    finding = examine(host, answers())["building"]
    monkeypatch.setenv("STACKYARD_IMAGE_SOURCE", "registry")

    assert (finding.status, finding.found) == ("warn", "perl, newuidmap missing")
    assert "apt-get install perl-base uidmap" in finding.fix
    assert examine(host, answers())["building"].found == "not needed with STACKYARD_IMAGE_SOURCE=registry"


def test_old_compose_is_refused(host: Machine) -> None:
    put_program(host.base, "docker", "echo 2.20.1")

    assert examine(host, answers())["compose"].status == "fail"


def test_socket_that_may_not_be_used_names_the_group(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)

    finding = examine(host, answers())["socket"]

    assert finding.status == "fail"
    assert "usermod -aG docker" in finding.fix


def test_an_engine_that_may_not_be_asked_is_not_to_be_installed_again(
    host: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ping = PingResult(state="forbidden", detail="Permission denied")
    monkeypatch.setattr(Endpoint, "ping", lambda *_, **__: ping)

    finding = examine(host, None)["engine"]

    assert finding.fix.startswith(f"run `sudo usermod -aG docker {host.user}` and log in again")


def test_an_engine_that_ssh_does_not_reach_has_the_reason(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://build")
    (host.base / "bin" / "ssh").write_text("#!/bin/sh\necho no route to build >&2; exit 255\n")
    (host.base / "bin" / "ssh").chmod(0o755)

    found = examine(host, None)

    assert found["engine"].found.startswith("unreachable at ssh://build (from DOCKER_HOST): ssh://build no route to bu")
    assert found["socket"].found == "not needed for ssh://build"
    assert found["disk"].found == "/var/lib/docker is not on this machine"


@pytest.mark.parametrize(
    ("changes", "name", "shown"),
    [
        ({"MemoryLimit": False}, "cgroup", "v2, systemd, limits missing"),
        ({"SystemTime": (datetime.now(UTC) + timedelta(days=365)).isoformat()}, "clock", "+31"),
        ({"SystemTime": "soon"}, "", ""),
    ],
)
def test_weak_engine_is_a_warning(host: Machine, changes: dict[str, Any], name: str, shown: str) -> None:
    found = examine(host, answers(**changes))

    assert [finding.id for finding in found.values() if finding.status == "warn"] == ([name] if name else [])
    assert not name or found[name].found.startswith(shown)


def test_an_equal_clock_has_no_minus(host: Machine) -> None:
    now = (datetime.now(UTC) - timedelta(milliseconds=20)).isoformat()

    assert "-0.0" not in examine(host, answers(SystemTime=now))["clock"].found


def test_full_disk_fails(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DISK_MB", 10**12)
    monkeypatch.setattr(checks, "STATE_MB", 10**12)

    found = examine(host, answers())
    assert (found["disk"].status, found["state"].status) == ("fail", "fail")
    assert "STACKYARD_STATE_DIR" in found["state"].fix


def test_taken_port_names_its_environment_and_its_holder(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    port = load_all()["test"].ports["postgres"]
    monkeypatch.setattr(host_ports, "can_bind", lambda wanted: wanted != port)
    monkeypatch.setattr(host_ports, "port_holders", lambda _: {port: "pid 7 (postgres)"})

    finding = examine(host, answers())["ports"]

    assert (finding.status, finding.found) == ("warn", f"{port} (test): pid 7 postgres")


def test_a_project_without_environments_has_no_fixed_ports(
    host: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_ports, "can_bind", lambda _: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compose.yaml").touch()

    finding = examine(host, answers())["ports"]

    assert (finding.status, finding.found, finding.fix) == ("ok", "none needed here", "")


def test_a_port_of_our_own_stack_is_no_warning(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = load_all()["dev"]
    lease = LeaseBook(Settings.load()).acquire(environment, fixed="only", ttl=math.inf)
    monkeypatch.setattr(host_ports, "can_bind", lambda wanted: wanted not in environment.ports.values())

    finding = examine(host, answers())["ports"]

    assert (finding.status, finding.fix) == ("ok", "")
    assert finding.found.endswith(f"free except those of our own {lease.title}")


def test_a_process_is_named_by_its_program() -> None:
    for line, said in (
        ("/work/.venv/bin/python -m pytest -q", "pytest"), ("/usr/bin/docker-proxy -proto tcp", "docker-proxy"),
        ("python3.11 -c import-x", "python3.11"), ("/usr/bin/python3 /x/bin/nox -s test", "nox"), ("", "unknown"),
    ):  # fmt: skip
        assert owners.short(f"pid 7 ({line})") == f"pid 7 {said}"
    assert owners.short("another user's program") == "another user's program"


def test_what_no_lease_accounts_for_is_counted(host: Machine) -> None:
    mine = {"stackyard.host": Settings.load().host, "stackyard.lease": "gone"}
    served = answers() | {
        "/containers/json": [{"Labels": mine}, {"Labels": {"stackyard.host": "other", "stackyard.lease": "x"}}],
        "/networks": [{"Labels": mine}, {"Labels": None}],
    }

    finding = examine(host, served)["leftovers"]

    assert (finding.status, finding.found) == ("warn", "0 stale leases, 2 containers and networks")


def test_images_that_no_copy_needs_are_counted(host: Machine) -> None:
    build = Build(host=Settings.load().host, project="shop-1", service="web")
    row = {"Id": "sha256:1", "RepoTags": [build.earlier("1")], "Labels": build.labels, "Size": 1, "Created": 1}

    finding = examine(host, answers() | {LIST: [row]})["images"]

    assert (finding.status, finding.found, finding.fix) == ("warn", "1 that no copy needs", "invoke cleanup.images")


def test_stale_lease_is_counted(host: Machine) -> None:
    now = [0.0]
    book = LeaseBook(Settings.load(), clock=lambda: now[0])
    book.acquire(load_all()["test"], ttl=1.0)

    assert examine(host, answers())["leftovers"].found.startswith("1 stale leases")


def test_check_that_fails_itself_is_a_finding(host: Machine) -> None:
    def look(_: checks.HostFacts) -> checks.CheckResult:
        raise EngineError("first line\nsecond line")

    check = checks.HostCheck(id="x", title="x", needed="y", fix="z", look=look)

    with answering(host.base / "docker.sock", answers()):
        (finding,) = checks.examine(host, [check])

    assert (finding.status, finding.found, finding.fix) == ("fail", "cannot be checked: first line", "z")


@pytest.mark.parametrize("name", ["ports", "leftovers"])
def test_a_state_directory_that_is_refused_is_fixed_by_another_one(
    host: Machine, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o700)
    (foreign / "letter.txt").write_text("mine")
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(foreign))

    found = examine(host, answers())[name]

    assert "neither empty nor stackyard's" in found.found
    assert "STACKYARD_STATE_DIR" in found.fix
    assert "invoke" not in found.fix


def finding(name: str, status: checks.Status, fix: str = "") -> checks.HostFinding:
    return checks.HostFinding(id=name, title=name, status=status, found="this", needed="that", fix=fix)


def examined(monkeypatch: pytest.MonkeyPatch, *rounds: list[checks.HostFinding]) -> None:
    left = list(rounds)
    monkeypatch.setattr(checks, "examine", lambda: left.pop(0))


def test_doctor_prints_a_table_and_the_fixes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(monkeypatch, [finding("python", "ok"), finding("memory", "warn", "buy some")])

    doctor.doctor(Context())

    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["check", "found", "needed"]
    assert shown.endswith("\n\nmemory: buy some\n")


def test_doctor_fails_with_the_engine_s_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(monkeypatch, [finding("engine", "fail", "start it")])

    with pytest.raises(Exit, match="not usable yet: engine") as caught:
        doctor.doctor(Context(), json=True)

    assert caught.value.code == EngineError.exit_code
    assert json.loads(capsys.readouterr().out)[0]["fix"] == "start it"


@pytest.mark.usefixtures("capsys")
def test_doctor_fixes_what_it_can_and_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(engine_setup, "ensure_engine", lambda **_: done.append("engine"))

    def remove_stale() -> Removal:
        done.append("stale")
        return Removal()

    monkeypatch.setattr(removal, "remove_stale", remove_stale)
    examined(monkeypatch, [finding("engine", "fail"), finding("leftovers", "warn")], [finding("engine", "ok")])

    doctor.doctor(Context(), fix=True)

    assert done == ["engine", "stale"]


@pytest.mark.usefixtures("capsys")
def test_doctor_leaves_alone_what_only_a_person_can_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    examined(monkeypatch, [finding("disk", "fail")])

    with pytest.raises(Exit):
        doctor.doctor(Context(), fix=True)

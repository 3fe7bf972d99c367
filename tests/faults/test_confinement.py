"""What a running stack shows and may do: listeners, secrets, privileges."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.faults.fault_host import finish

from stackyard.project.environments import Environment, load_services
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from tests.faults.fault_host import Yard

    from stackyard.leases import Lease

pytestmark = pytest.mark.core


@pytest.fixture
def control(yard: Yard) -> Lease:
    """The lease of the stack that runs during all the faults; these tests only look at it."""
    (identity,) = yard.spared
    return yard.book.find(identity)


def inspected(yard: Yard, lease: Lease) -> dict[str, Any]:
    """Return what the engine tells of each service's container."""
    found = yard.engine.containers([f"stackyard.lease={lease.id}"])
    facts = [yard.engine.api.inspect_container(item.id) for item in found]
    return {fact["Config"]["Labels"]["com.docker.compose.service"]: fact for fact in facts}


def test_every_listener_is_on_loopback_alone(control: Lease) -> None:
    wanted = {port for service, port in control.ports.items() if service in load_services().published}
    listening = psutil.net_connections("tcp")

    found = {
        tuple(entry.laddr)
        for entry in listening
        if entry.status == psutil.CONN_LISTEN and tuple(entry.laddr)[1] in wanted
    }

    assert found == {("127.0.0.1", port) for port in wanted}


def test_no_container_has_a_privilege(yard: Yard, control: Lease) -> None:
    for service, facts in inspected(yard, control).items():
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{facts['State']['Pid']}/status").read_text().splitlines()
        )

        assert {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == dict.fromkeys(
            ("CapEff", "CapPrm", "CapBnd", "CapAmb"), 0
        ), service
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), service
        assert status["Uid"].split() == ["10001"] * 4, service
        assert status["Gid"].split() == ["10001"] * 4, service
        assert facts["HostConfig"]["Binds"] is None or "docker.sock" not in json.dumps(facts["Mounts"]), service


def test_no_container_can_write_its_own_system(yard: Yard, control: Lease) -> None:
    for service, facts in inspected(yard, control).items():
        root = Path(f"/proc/{facts['State']['Pid']}/root")
        mounts = Path(f"/proc/{facts['State']['Pid']}/mounts").read_text().splitlines()
        options = next(line.split()[3].split(",") for line in mounts if line.split()[1] == "/")

        assert "ro" in options, service
        with pytest.raises(OSError, match="Read-only file system"):
            root.joinpath("x").write_text("x")


def test_no_secret_is_seen_from_outside(yard: Yard, control: Lease) -> None:
    secrets = control.secrets()
    assert len(secrets) >= 3
    began = int(time.time()) - 600
    stack = Stack(Environment.load("test"), control, yard.book, yard.engine)
    stack.exec_output(
        "redis", "id"
    )  # the engine remembers its last 256 events; on a busy host those of the start are gone
    environment = [f"{name}={value}" for name, value in control.variables().items()]
    events = list(yard.engine.api.events(since=began, until=int(time.time()) + 1, decode=True))
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    shown = {
        "inspect": json.dumps(inspected(yard, control)),
        "network": json.dumps(yard.engine.api.inspect_network(f"{control.project}_platform")),
        "events": json.dumps(events, default=str),
        "command lines": "\n".join(commands),
        "logs": "\n".join(
            yard.engine.logs(stack.container(service).id, tail=10_000) for service in load_services().published
        ),
        "model": json.dumps(stack.compose.model()),
    }

    assert any(secret in line for secret in secrets for line in environment), "the premise: these are in use"
    assert control.id in shown["events"]
    assert {name for name, text in shown.items() if any(secret in text for secret in secrets)} == set()


def test_no_secret_is_in_what_a_run_prints_or_reports(yard: Yard) -> None:
    yard.suite("import shutil; shutil.copy(os.environ['STACKYARD_SECRETS_DIR'] + '/../env', 'copied'); assert False")

    code, out = finish(yard.flow())

    copied = (yard.root / "copied").read_text()
    secrets = [line.split("=", 1)[1] for line in copied.splitlines() if line.startswith("STACKYARD_JWT_KEY=")]
    secrets += [line.split(":")[2].split("@")[0] for line in copied.splitlines() if "_URL=" in line and "@" in line]
    reports = "".join(path.read_text() for path in (yard.root / "reports").glob("*test*") if path.suffix == ".json")
    assert code == 1
    assert len(secrets) == 3
    assert [secret for secret in secrets if secret in out + reports] == []

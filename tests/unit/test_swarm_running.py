"""A stack on a Swarm as programs and tests use it; no engine is asked."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_swarm_leases import FakeSwarm, task

from stackyard.cli import log_following
from stackyard.docker.swarm import SERVICE_LABEL, Node, Task
from stackyard.errors import LeaseNotFoundError, NotReadyError, RefusedError, UsageError
from stackyard.leases.owners import Owner
from stackyard.running import stack_description
from stackyard.running.swarm_stack import SwarmStack
from stackyard.sites.swarm import container_commands, removal
from stackyard.sites.swarm.copies import Copy
from stackyard.sites.swarm.leases import LEASE_LABEL, Leases
from stackyard.sites.swarm.removal import GRACE_LABEL, NEEDS_LABEL
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.docker.swarm import Swarm

PORT = {"service": "web", "target": 80, "protocol": "tcp", "variables": ["WEB_PORT"]}


@dataclass
class FakeSite(FakeSwarm):
    """One that has an engine and logs."""

    engine: Any = field(default_factory=lambda: SimpleNamespace(node="n"))

    def logs(self, service: str, **_: object) -> list[str]:
        if service == "db-id":
            raise RefusedError("no such log")
        return [f"from {service}", "again", "again"]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> FakeSite:
    made = FakeSite(
        members=[
            Node(id="n", name="n1", address="192.0.2.1", state="ready", availability="active"),
            Node(id="other", name="n2", address="192.0.2.2", state="ready", availability="active"),
        ],
        running=[task("running", ports={(80, "tcp"): 30001}), task("running", service="db", node="other")],
    )
    for module in ("container_commands", "copies"):
        monkeypatch.setattr(f"stackyard.sites.swarm.{module}.Swarm", lambda _: made, raising=False)
    monkeypatch.setattr(container_commands, "member", lambda engine: engine.node)
    return made


@pytest.fixture
def stack(site: FakeSite) -> SwarmStack:
    lease = Leases(cast("Swarm", site)).acquire("shop-0a1b2c", "mine", {"ports": [PORT]})
    assert lease
    for name in ("web", "db"):
        site.add("service", f"{name}-id", {LEASE_LABEL: lease.id, SERVICE_LABEL: name})
    return SwarmStack(Copy(lease, cast("Swarm", site), Startup(seconds=2.5, by="swarm")))


def test_a_stack_answers_at_its_nodes(stack: SwarmStack) -> None:
    assert stack.url("web") == "http://192.0.2.1:30001"
    assert (stack.port("web", 80), stack.services, stack.seconds) == (30001, ["db", "web"], 2.5)
    assert stack.env["STACKYARD_WEB_ADDRESS"] == "192.0.2.1:30001"
    assert (stack.env["WEB_PORT"], stack.env["COMPOSE_PROJECT_NAME"]) == ("30001", stack.lease.id)
    assert stack.project == stack.lease.id
    with pytest.raises(UsageError, match="service db publishes no port"):
        stack.url("db")
    with pytest.raises(UsageError, match="did you mean 'web'"):
        stack.url("wbe")


def test_a_service_whose_container_is_gone_says_where_and_why(stack: SwarmStack, site: FakeSite) -> None:
    site.members[0] = replace(site.members[0], availability="drain")
    site.running[0] = task("shutdown", desired="shutdown")

    with pytest.raises(NotReadyError, match=r"^service web answers nowhere now: shutdown on node n1 .availability dra"):
        stack.url("web")
    site.running.clear()
    assert "WEB_PORT" not in stack.env
    with pytest.raises(NotReadyError, match="it has no container"):
        stack.url("web")


def test_addresses_are_kept_in_the_lease_for_nodes_that_do_not_tell_them_again(
    stack: SwarmStack, site: FakeSite
) -> None:
    before = stack.addresses
    leases = Leases(cast("Swarm", site))
    leases.settle(leases.get("mine"), 60, ports=stack._there.open_ports())
    site.running[0] = replace(site.running[0], ports={})
    site.kept.clear()

    assert Copy.of(cast("Engine", site.engine), "mine").addresses == before


def test_another_process_of_the_run_gets_the_same_stack_with_its_passwords(site: FakeSite, stack: SwarmStack) -> None:
    stack._there.logins = {("web", 80, "tcp"): "me:secret"}

    told = json.loads(json.dumps(stack.described()))
    other = SwarmStack.attached(cast("Engine", site.engine), told)

    assert (other.lease.id, other.seconds, other.addresses) == (stack.lease.id, 2.5, stack.addresses)
    assert other.addresses[0].login == "me:secret"


def test_logs_are_those_of_one_service_or_of_all_under_their_names(stack: SwarmStack, site: FakeSite) -> None:
    assert stack.logs("web") == "from web-id\nagain\nagain\n"
    site.remove(site.items["db-id"])
    assert stack.logs() == "web | from web-id\nweb | again\nweb | again\n"
    with pytest.raises(UsageError, match="copy mine has no service db; its services: web"):
        stack.logs("db")


DETAILS = "com.docker.swarm.node.id=n1,com.docker.swarm.task.id="


def test_lines_of_all_services_come_in_order_of_time(
    stack: SwarmStack, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {
        "web-id": [f"2026-11-28T10:00:02Z {DETAILS}t1 third line", f"2026-11-28T10:00:00Z {DETAILS}t2 first"],
        "db-id": [f"2026-11-28T10:00:01Z {DETAILS}t3 second"],
    }
    monkeypatch.setattr(site, "logs", lambda service, **_: written[service])
    copy = stack._there

    assert [(line.service, line.text, line.source) for line in copy.lines([], tail=5)] == [
        ("web", "first", "t2"), ("db", "second", "t3"), ("web", "third line", "t1"),
    ]  # fmt: skip
    assert [line.text for line in copy.lines(["db"], tail=5)] == ["second"]
    with pytest.raises(UsageError, match="copy mine has no service wbe"):
        copy.lines(["wbe"], tail=5)


def test_evidence_has_states_and_logs_that_can_be_read(stack: SwarmStack) -> None:
    assert stack.evidence().splitlines() == [
        "db: running", "  its log cannot be read: no such log", "web: running", "  | from web-id",
        "  | again (2 times)",
    ]  # fmt: skip


def test_a_command_runs_through_the_engine_of_the_container_s_node(
    stack: SwarmStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = stack._there
    assert container_commands.command(copy, "web", ["ls", "/"], "--tty") == ["docker", "exec", "--tty", "c", "ls", "/"]

    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(UsageError, match=r"db runs on node n2, .* a Docker context named n2 only; 'docker context cre"):
        container_commands.command(copy, "db", ["ls"])

    monkeypatch.setattr(
        container_commands, "Endpoint", SimpleNamespace(find=lambda _: SimpleNamespace(context="n2", url="x"))
    )
    monkeypatch.setattr(container_commands, "Engine", lambda **_: nullcontext(SimpleNamespace(node="other")))
    assert container_commands.command(copy, "db", ["ls"]) == ["docker", "--context", "n2", "exec", "c", "ls"]
    monkeypatch.setattr(container_commands, "Engine", lambda **_: nullcontext(SimpleNamespace(node="third")))
    with pytest.raises(UsageError, match="the Docker context n2 reaches another engine; correct it"):
        container_commands.command(copy, "db", ["ls"])


def test_a_service_that_does_not_run_takes_no_command(stack: SwarmStack, site: FakeSite) -> None:
    site.running.clear()

    with pytest.raises(UsageError, match="service web of copy mine has no running container"):
        stack.exec("web", "ls")
    with pytest.raises(UsageError, match="which command"):
        stack.exec("web")


def test_what_a_command_says_is_returned(stack: SwarmStack, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, "-c", "print('inside'); exit(3)"]
    monkeypatch.setattr(container_commands, "command", lambda *_: words)

    done = stack.exec("web", "ls")

    assert (done.returncode, done.stdout) == (3, "inside\n")


@pytest.mark.parametrize("what", ["reset", "status", "containers"])
def test_what_a_copy_on_a_swarm_cannot_do_is_said(stack: SwarmStack, what: str) -> None:
    with pytest.raises(UsageError, match=rf"stack\.{what}\(.*: copies on a Swarm do not have this"):
        getattr(stack, what)()
    with pytest.raises(UsageError, match=r"stack\.database\("):
        stack.database("db")


def test_a_graceful_end_is_had_only_by_a_copy_that_was_started_so(
    stack: SwarmStack, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="copy mine was started without --graceful, so the Swarm ends its services at"):
        stack.down(graceful=True)
    label = {LEASE_LABEL: stack.lease.id}
    for name, needs in (("web", "cache,db"), ("db", ""), ("cache", "db")):
        site.add("service", f"{name}-id", label | {SERVICE_LABEL: name, GRACE_LABEL: "20", NEEDS_LABEL: needs})
    monkeypatch.setattr(removal, "REMOVAL_TIMEOUT_S", 0.0)
    monkeypatch.setattr(removal, "TICK", 0.01)
    left = {"web": 3, "cache": 2, "db": 1}  # looks until the container of a service that was removed has ended

    def tasks(_label: str) -> list[Task]:
        there = {item.labels[SERVICE_LABEL] for item in site.items.values() if SERVICE_LABEL in item.labels}
        for name in left.keys() - there:
            left[name] -= 1
        return [task("running", service=name) for name, looks in left.items() if looks > 0]

    monkeypatch.setattr(site, "tasks", tasks)
    before = [*site.removed]

    assert stack._there.grace == {"web": 20, "db": 20, "cache": 20}
    assert stack.down(graceful=True).removed == ["service cache-id", "service db-id", "service web-id"]
    assert site.removed[len(before) :][:3] == ["web-id", "cache-id", "db-id"]


def test_the_end_of_a_stack_removes_all_of_it(stack: SwarmStack, site: FakeSite) -> None:
    site.running.clear()
    done = stack.down().check()

    assert (done.removed, done.leases) == (["service db-id", "service web-id"], [stack.lease.id])
    assert site.items == {}


def test_a_copy_that_another_command_made_under_the_name_is_left_as_it_is(stack: SwarmStack, site: FakeSite) -> None:
    leases = Leases(cast("Swarm", site))
    leases.end(leases.get("mine"))
    other = leases.acquire("shop-0a1b2c", "mine", {})
    assert other

    with pytest.raises(LeaseNotFoundError, match="was ended by another command"):
        stack.down()

    assert leases.renew(leases.get("mine"), 60).id == other.id
    assert "ending" not in str(site.items)


def test_a_process_releases_what_it_owns_and_nothing_else(stack: SwarmStack, site: FakeSite) -> None:
    site.running.clear()
    leases = Leases(cast("Swarm", site))
    other = leases.acquire("shop-0a1b2c", "other", {})
    assert other
    leases.renew(other, 60, owner=Owner.detached().label())

    removal.release_own(cast("Swarm", site))

    assert [lease.name for lease in leases.leases()] == ["other"]
    assert stack.lease.id not in str(site.items)


def test_what_killed_workers_left_on_a_swarm_is_removed(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKYARD_SITE", "swarm")
    monkeypatch.setattr("stackyard.docker.swarm.Swarm", lambda _: site)
    site.running.clear()
    site.add("network", "lost", {LEASE_LABEL: "lost"})

    assert stack_description.remove_stale_stacks() == []
    assert site.items == {}


def test_what_killed_workers_left_and_no_node_gives_up_keeps_no_run_from_its_start(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKYARD_SITE", "swarm")
    monkeypatch.setattr("stackyard.docker.swarm.Swarm", lambda _: site)
    monkeypatch.setattr(removal, "REMOVAL_TIMEOUT_S", 0.1)
    site.add("network", "lost", {LEASE_LABEL: "lost"})

    assert stack_description.remove_stale_stacks() == ["copy lost: container c, container c left after 0.1 s"]


def test_what_another_container_of_the_service_wrote_a_moment_earlier_is_followed_too(
    stack: SwarmStack, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(second: int, task: str) -> str:
        return f"2026-11-28T10:00:0{second}Z {DETAILS}{task} {task} at {second}"

    shown = {"web-id": [line(1, "a"), line(5, "b")], "db-id": []}
    monkeypatch.setattr(site, "logs", lambda service, **_: shown[service])
    copy = stack._there
    following = log_following.OfCopy(copy, ["web"], copy.lines(["web"], tail=1))
    monkeypatch.setattr(following, "_stream", lambda *_: iter([line(1, "a"), line(4, "a"), line(5, "b"), line(6, "b")]))
    monkeypatch.setattr(log_following, "RESTART", 0.0)

    assert [one.text for one in following.lines()] == ["a at 4", "b at 6"]

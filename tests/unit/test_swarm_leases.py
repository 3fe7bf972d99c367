"""Leases, removal and readiness against a Swarm of this process's memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from stackyard.docker.swarm import KINDS, Item, Node, Task
from stackyard.errors import EngineError, LeaseNotFoundError, RefusedError, StillStartingError, UsageError
from stackyard.leases.owners import Owner
from stackyard.probes.readiness_rules import Rule
from stackyard.sites.swarm import keeper, removal
from stackyard.sites.swarm.copies import Copy
from stackyard.sites.swarm.leases import ADDRESSES, DEADLINE, LABEL, LEASE_LABEL, OWNER, Leases
from stackyard.sites.swarm.progress import FailedError, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.docker.swarm import Kind, Swarm

DEAD = Owner(kind="process", boot=Owner.current().boot, pid=1 << 22, ticks=1, namespace=Owner.current().namespace)

WEB = b'{"ports": [{"service": "web", "target": 80, "protocol": "tcp"}]}'


@dataclass
class FakeSwarm:
    """A Swarm that keeps configs and other things in memory, each change with a new version."""

    items: dict[str, Item] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    versions: Any = field(default_factory=lambda: itertools.count(1))
    later: timedelta = timedelta()
    members: list[Node] = field(default_factory=list)
    running: list[Task] = field(default_factory=list)
    kept: dict[str, Mapping[tuple[int, str], int]] = field(default_factory=dict)

    def now(self) -> str:
        return (datetime.now(UTC) + self.later).isoformat()

    def create_config(self, name: str, content: bytes, labels: Mapping[str, str]) -> str | None:
        if name in self.items:
            return None
        self.add("config", name, labels)
        self.contents[name] = content
        return name

    def add(self, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        self.items[name] = Item(kind=kind, id=name, name=name, labels=labels, version=next(self.versions))

    def content(self, name: str) -> tuple[Item, bytes]:
        if name not in self.items:
            raise RefusedError(f"config {name} not found")
        return self.items[name], self.contents[name]

    def relabel(self, item: Item, labels: Mapping[str, str]) -> bool:
        if self.items.get(item.name) != item:
            return False
        self.items[item.name] = replace(item, labels=labels, version=next(self.versions))
        return True

    def labelled(self, kind: Kind, label: str) -> list[Item]:
        key, _, value = label.partition("=")
        found = (item for item in self.items.values() if item.kind == kind and key in item.labels)
        return [item for item in found if not value or item.labels[key] == value]

    def everything(self, label: str) -> list[Item]:
        return [item for kind in KINDS for item in self.labelled(kind, label)]

    def remove(self, item: Item) -> None:
        self.items.pop(item.name, None)
        self.removed.append(item.name)

    def nodes(self) -> list[Node]:
        return self.members

    def tasks(self, _label: str) -> list[Task]:
        return [task if task.ports else replace(task, ports=self.kept.get(task.container, {})) for task in self.running]

    def remember(self, ports: Mapping[str, Mapping[tuple[int, str], int]]) -> None:
        self.kept |= ports


@pytest.fixture
def fake() -> FakeSwarm:
    return FakeSwarm()


@pytest.fixture
def leases(fake: FakeSwarm) -> Leases:
    return Leases(cast("Swarm", fake))


def test_a_name_is_had_by_one_copy(leases: Leases) -> None:
    made = leases.acquire("shop-0a1b2c", "mine", {"ports": []})

    assert made is not None
    assert (made.name, made.state, made.data, made.id[:5]) == ("mine", "starting", {"ports": []}, "shop-")
    with pytest.raises(StillStartingError, match="copy mine is starting in another process"):
        leases.acquire("shop-0a1b2c", "mine", {})
    with pytest.raises(UsageError, match="the name mine belongs to a copy of shop-0a1b2c"):
        leases.acquire("other-0a1b2c", "mine", {})
    leases.settle(made, 60, addresses="{}")
    assert leases.acquire("shop-0a1b2c", "mine", {}) is None


def test_a_name_that_cannot_be_one_is_refused(leases: Leases) -> None:
    with pytest.raises(UsageError, match="a name must be"):
        leases.acquire("shop-0a1b2c", "Not This", {})


def test_copies_without_a_name_get_different_ones(leases: Leases) -> None:
    found = [leases.acquire("shop-0a1b2c", None, {}) for _ in range(20)]

    assert len({lease.name for lease in found if lease}) == 20
    assert len(leases.leases()) == 20


def test_a_renewed_lease_cannot_be_taken_by_who_read_it_before(leases: Leases) -> None:
    before = leases.acquire("shop-0a1b2c", "mine", {})
    assert before is not None
    after = leases.renew(before, 100)

    assert not leases.take(before)
    assert leases.take(after)
    with pytest.raises(LeaseNotFoundError, match="copy mine was ended by another command"):
        leases.renew(after, 100)


def test_what_is_gone_is_not_found(leases: Leases) -> None:
    with pytest.raises(LeaseNotFoundError, match="no copy on the Swarm has the name mine"):
        leases.get("mine")


@pytest.mark.parametrize("labels", [{}, {LABEL: "1"}, {LABEL: "1", LEASE_LABEL: ""}, {LEASE_LABEL: "shop-1"}])
def test_a_config_that_is_not_stackyard_s_is_no_lease_whatever_its_name(
    leases: Leases, fake: FakeSwarm, labels: dict[str, str]
) -> None:
    fake.create_config("stackyard-lease-mine", b"user=root", labels)

    with pytest.raises(UsageError, match=r"^config stackyard-lease-mine of the Swarm is not stackyard's; choose"):
        leases.get("mine")
    with pytest.raises(UsageError, match="is not stackyard's"):
        leases.acquire("shop-ab12cd", "mine", {})
    assert leases.leases() == []
    assert (removal.sweep(cast("Swarm", fake)), fake.removed) == ([], [])


@pytest.mark.parametrize(("deadline", "content"), [("soon", b"{"), ("nan", b"[]"), ("", b"\xff"), ("-1e300", b"")])
def test_a_damaged_lease_stays_until_a_command_names_it(
    leases: Leases, fake: FakeSwarm, deadline: str, content: bytes
) -> None:
    fake.create_config(
        "stackyard-lease-mine", content, {LABEL: "1", LEASE_LABEL: "shop-1", DEADLINE: deadline, OWNER: "x"}
    )

    assert removal.sweep(cast("Swarm", fake)) == []
    assert (found := leases.get("mine")).data == {}
    assert leases.take(found)
    removal.remove(cast("Swarm", fake), leases.get("mine"))
    assert leases.leases() == []


@pytest.mark.parametrize(
    ("content", "spoken"),
    [
        (b'{"ports": [1]}', "{}"), (b'{"ports": 5}', "{}"), (b'{"ports": [{}]}', "{}"), (WEB, "{"), (WEB, "[]"),
        (WEB, '{"web/80/tcp": 1}'),
    ],
)  # fmt: skip
def test_a_damaged_lease_shows_what_is_left_of_its_addresses(fake: FakeSwarm, content: bytes, spoken: str) -> None:
    fake.create_config("stackyard-lease-mine", content, {LABEL: "1", LEASE_LABEL: "shop-1", ADDRESSES: spoken})
    fake.members = [Node(id="n", name="one", address="10.0.0.1", state="ready", availability="active")]
    fake.running = [task("running", ports={(80, "tcp"): 30001})]
    copy = Copy(Leases(cast("Swarm", fake)).get("mine"), cast("Swarm", fake))

    assert [one.where for one in copy.addresses] == (["10.0.0.1:30001"] if content == WEB else [])


def test_a_container_of_a_lost_node_has_no_address_and_says_so(fake: FakeSwarm) -> None:
    fake.create_config("stackyard-lease-mine", WEB, {LABEL: "1", LEASE_LABEL: "shop-1"})
    fake.members = [Node(id="n", name="n3", address="10.0.0.1", state="down", availability="active")]
    fake.running = [task("running", ports={(80, "tcp"): 30001}), task("complete", slot=2)]
    copy = Copy(Leases(cast("Swarm", fake)).get("mine"), cast("Swarm", fake))

    assert copy.addresses == []
    assert copy.said("web") == "lost (node n3 is down) on node n3; complete on node n3"


@pytest.mark.parametrize(("state", "shown"), [("running", "lost"), ("complete", "complete"), ("failed", "failed")])
def test_a_container_of_a_node_that_has_left_the_swarm_has_no_address_and_says_so(
    fake: FakeSwarm, state: str, shown: str
) -> None:
    fake.create_config("stackyard-lease-mine", WEB, {LABEL: "1", LEASE_LABEL: "shop-1"})
    fake.running = [task(state, ports={(80, "tcp"): 30001})]
    copy = Copy(Leases(cast("Swarm", fake)).get("mine"), cast("Swarm", fake))

    assert (copy.addresses, [one.state for one in copy.tasks()]) == ([], [shown])


def test_a_lease_is_stale_after_its_deadline_or_when_its_process_here_has_ended(leases: Leases) -> None:
    made = leases.acquire("shop-0a1b2c", "mine", {})
    assert made is not None
    now = leases.now()

    assert not made.is_stale(now)
    assert made.is_stale(now + 61)
    assert replace(made, owner=DEAD).is_stale(now)
    elsewhere = replace(DEAD, boot="another-boot")
    assert not replace(made, owner=elsewhere).is_stale(now)
    in_another_container = replace(DEAD, namespace=DEAD.namespace + 1)
    assert not replace(made, owner=in_another_container).is_stale(now)


def test_a_lease_that_another_copy_has_under_the_name_is_not_renewed(leases: Leases, fake: FakeSwarm) -> None:
    before = leases.acquire("shop-0a1b2c", "mine", {})
    assert before is not None
    leases.end(before)
    other = leases.acquire("shop-0a1b2c", "mine", {})
    assert other is not None

    with pytest.raises(LeaseNotFoundError, match="copy mine was ended by another command"):
        leases.renew(before, 100)

    assert fake.items == {other.item.name: other.item}


class Renewed(FakeSwarm):
    """One whose leases are renewed by others between a look and a change."""

    def relabel(self, item: Item, labels: Mapping[str, str]) -> bool:
        del item, labels
        return False


@pytest.mark.parametrize("owner", [DEAD, Owner.current()])
def test_a_copy_that_is_renewed_while_it_is_swept_or_released_stays(owner: Owner) -> None:
    fake = Renewed()
    made = Leases(cast("Swarm", fake)).acquire("shop-0a1b2c", "mine", {})
    assert made is not None
    fake.items[made.item.name] = replace(made.item, labels={**made.item.labels, OWNER: owner.label()})
    fake.add("service", "mine-service", {LEASE_LABEL: made.id})
    fake.add("network", "half", {LEASE_LABEL: ""})

    assert removal.sweep(cast("Swarm", fake)) == []
    removal.release_own(cast("Swarm", fake))

    assert fake.removed == []


def test_a_sweep_removes_dead_copies_and_what_has_no_lease_and_nothing_else(leases: Leases, fake: FakeSwarm) -> None:
    for name in ("alive", "dead"):
        made = leases.acquire("shop-0a1b2c", name, {})
        assert made is not None
        for kind in KINDS:
            fake.add(kind, f"{name}-{kind}", {LEASE_LABEL: made.id})
    dead = leases.get("dead")
    fake.relabel(dead.item, {**dead.item.labels, OWNER: DEAD.label()})
    fake.add("network", "lost", {LEASE_LABEL: "nobodys"})

    assert removal.sweep(cast("Swarm", fake)) == ["dead", "nobodys"]
    assert sorted(fake.items) == [
        "alive-config", "alive-network", "alive-secret", "alive-service", "stackyard-lease-alive",
    ]  # fmt: skip
    assert fake.removed.index("dead-service") < fake.removed.index("dead-network")
    assert fake.removed.index("dead-network") < fake.removed.index("stackyard-lease-dead")


def test_the_lease_of_a_process_is_renewed_again_after_a_silence_until_it_is_another_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "WITHOUT_OWNER", 0.04)
    answers = iter([EngineError("away"), UsageError("config stackyard-lease-mine is not stackyard's")])

    def renew(*_: object) -> None:
        raise next(answers)

    made = keeper.Keeper(cast("Leases", SimpleNamespace(renew=renew)), cast("Any", None))
    made._thread.join(10)

    assert (made._thread.is_alive(), next(answers, None)) == (False, None)


def task(state: str, **more: Any) -> Task:
    values: dict[str, Any] = {
        "service": "web", "slot": 1, "state": state, "desired": "running", "reason": "", "exit_code": 0, "node": "n",
        "container": "c", "created": "2026-01-01T00:00:00Z", "ports": {},
    }  # fmt: skip
    return Task(**values | more)


def looked(rule: Rule, tasks: list[Task], *, count: int = 1, retries: bool = False) -> Progress:
    found = Progress(rule, count, "id", retries)
    found.look(cast("Swarm", FakeSwarm()), tasks, {"n": "127.0.0.1"}, {"n": "n1", "gone": "n2"})
    return found


HEALTH = Rule(service="web", kind="health check", why="")


def test_a_service_is_ready_when_each_of_its_containers_passed_its_check() -> None:
    assert looked(HEALTH, [task("running")]).how
    assert not looked(HEALTH, [task("starting")]).how
    assert not looked(HEALTH, [task("running")], count=2).how
    assert not looked(HEALTH, [task("running"), task("starting", slot=2)], count=2).how


def test_a_one_shot_is_ready_when_it_has_ended_well() -> None:
    job = Rule(service="web", kind="exit 0", why="", may_end=True)

    assert looked(job, [task("complete")]).how == "ended with exit code 0"
    assert not looked(job, [task("running")]).how


def test_a_container_that_the_swarm_ended_is_a_failure_only_if_no_other_one_follows() -> None:
    drained = [task("running", desired="shutdown")]
    with pytest.raises(FailedError, match="web: the Swarm ended its container on node n1, and 'restart: no' keeps"):
        looked(HEALTH, drained)
    moving = looked(HEALTH, drained, retries=True)
    assert (moving.how, moving.last) == ("", "the Swarm ends its container, to start another one")
    with pytest.raises(FailedError, match=r"web failed .out of memory. on node n1"):
        looked(HEALTH, [task("failed", desired="shutdown", reason="out of memory")])


def test_a_service_that_only_has_to_run_runs_for_a_moment_after_the_swarm_has_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([10.0, 10.0, 10.4, 10.6, 10.6, 11.0, 11.2])
    monkeypatch.setattr("stackyard.sites.swarm.progress.time.monotonic", lambda: next(times))
    found = Progress(Rule(service="web", kind="running", why="", seconds=0.5), 1, "id", retries=True)

    def look(container: str) -> str:
        found.look(cast("Swarm", FakeSwarm()), [task("running", container=container)], {"n": "127.0.0.1"}, {})
        return found.how

    assert [look(container) for container in ("a", "a", "b", "b", "b")] == ["", "", "", "", "has run for 0.5 s"]


@pytest.mark.parametrize(("made", "wait"), [(2.0, 2.0), (-90.0, 3.0)])
def test_a_slow_swarm_gets_longer_for_the_news_of_an_end(
    made: float, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [10.0]
    monkeypatch.setattr("stackyard.sites.swarm.progress.time.monotonic", lambda: now[0])
    found = Progress(Rule(service="web", kind="running", why="", seconds=0.5), 1, "id", retries=True, made=made)

    shown = []
    for now[0] in (10.0, 10.0 + wait - 0.1, 10.0 + wait):
        found.look(cast("Swarm", FakeSwarm()), [task("running")], {"n": "127.0.0.1"}, {})
        shown.append(found.how)

    assert shown == ["", "", f"has run for {wait} s"]


def test_a_failure_is_final_where_the_file_wants_no_restart() -> None:
    failed = task("failed", reason="task: non-zero exit (7)", exit_code=7)

    with pytest.raises(FailedError, match=r"web failed with exit code 7 \(task: non-zero exit \(7\)\) on node n1"):
        looked(HEALTH, [failed])
    assert not looked(HEALTH, [failed], retries=True).how
    with pytest.raises(FailedError, match="web failed with exit code 7"):
        looked(HEALTH, [failed] * 3, retries=True)


def test_a_lost_node_ends_only_what_cannot_move() -> None:
    lost = task("running", node="gone")

    with pytest.raises(FailedError, match="web: node n2 was lost, and 'restart: no' keeps"):
        looked(HEALTH, [lost])
    assert not looked(HEALTH, [lost, task("pending", reason="no suitable node", node="")], retries=True).how


def test_what_waits_for_a_node_says_the_scheduler_s_reason() -> None:
    found = looked(HEALTH, [task("pending", reason="no suitable node (insufficient resources on 3 nodes)", node="")])

    assert found.pending == "no suitable node (insufficient resources on 3 nodes)"

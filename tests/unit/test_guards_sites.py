"""What is removed from a Swarm, and whose lease may be: a quick test for each guard in front of a loss."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_swarm_leases import FakeSwarm, task

from stackyard.docker.swarm import SERVICE_LABEL, Item, Node
from stackyard.errors import EngineError, LeftoversError, NotReadyError, RefusedError
from stackyard.leases.owners import Owner
from stackyard.probes.readiness_rules import Rule
from stackyard.sites.swarm import copies, removal
from stackyard.sites.swarm.leases import (
    ADDRESSES,
    DEADLINE,
    FOLDER,
    FURTHEST,
    LABEL,
    LEASE_LABEL,
    OWNER,
    PROJECT,
    STATE,
    WITHOUT_OWNER,
    Lease,
    Leases,
)
from stackyard.sites.swarm.standing import Expected
from stackyard.stacks.readiness.waiting import ServiceReady, StackReady
from stackyard.stacks.starts.times import STANDING, Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackyard.docker.swarm import Kind, Swarm, Task

REMOVAL_TIMEOUT_S = removal.REMOVAL_TIMEOUT_S


@dataclass
class Guarded(FakeSwarm):
    """A Swarm whose containers carry the label of their copy, and which answers the first removals with *errors*."""

    errors: list[Exception] = field(default_factory=list)
    containers: dict[str, list[Task]] = field(default_factory=dict)

    def tasks(self, label: str) -> list[Task]:
        return self.containers.get(label, [])

    def remove(self, item: Item) -> None:
        if self.errors:
            raise self.errors.pop(0)
        super().remove(item)


@dataclass
class Clock:
    """Time that passes only while somebody sleeps, or *step* seconds with each look."""

    step: float = 0.0
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        self.now += self.step
        return self.now - self.step

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(removal, "time", made)
    return made


@pytest.fixture
def fake() -> Guarded:
    return Guarded(members=[node("here"), node("gone", state="down")])


@pytest.fixture
def leases(fake: Guarded) -> Leases:
    return Leases(cast("Swarm", fake))


@pytest.fixture
def lease(leases: Leases, fake: Guarded) -> Lease:
    made = leases.acquire("shop-0a1b2c", "mine", {})
    assert made
    add(fake, made, "service", "web")
    add(fake, made, "network", "net")
    return made


def node(identity: str, state: str = "ready") -> Node:
    return Node(id=identity, name=identity, address="192.0.2.1", state=state, availability="active")


def add(fake: FakeSwarm, lease: Lease, kind: Kind, name: str) -> None:
    fake.add(kind, name, {LEASE_LABEL: lease.id})


def swarm(fake: FakeSwarm) -> Swarm:
    return cast("Swarm", fake)


# removal


def test_a_removal_says_what_it_removed_and_how_long_it_took(lease: Lease, fake: Guarded, clock: Clock) -> None:
    clock.now = 5.0

    done = removal.remove(swarm(fake), lease)

    assert (done.removed, done.leases, done.seconds) == (["network net", "service web"], [lease.id], clock.now - 5.0)
    assert clock.slept == [removal.TICK] * 2
    assert fake.removed == ["web", "net", lease.item.name]


def test_what_the_swarm_will_not_give_up_is_named_and_the_lease_stays(
    lease: Lease, leases: Leases, fake: Guarded, clock: Clock
) -> None:
    clock.step = 30.0
    fake.errors = [RefusedError("in use")] * 9
    fake.containers = {lease.label: [task("running", node="here", container="0123456789abcdef")]}
    add(fake, lease, "service", "db")

    with pytest.raises(
        LeftoversError, match=r"^copy mine keeps its lease: service web, service db, container 0123456789ab left after"
    ):
        removal.remove(swarm(fake), lease)

    assert leases.get("mine").id == lease.id


def test_what_is_left_without_a_lease_is_named_by_its_id(fake: Guarded, clock: Clock) -> None:
    clock.step = 30.0
    fake.errors = [RefusedError("in use")] * 9
    fake.add("network", "net", {LEASE_LABEL: "lost-1"})

    with pytest.raises(LeftoversError, match=r"^copy lost-1: network net left after 40 s"):
        removal.sweep(swarm(fake))


def test_a_refusal_is_tried_again_until_the_time_is_over_and_not_a_moment_less(
    lease: Lease, fake: Guarded, clock: Clock
) -> None:
    clock.step = REMOVAL_TIMEOUT_S
    fake.items.pop("net")
    fake.errors = [RefusedError("in use")]

    with pytest.raises(LeftoversError):
        removal.remove(swarm(fake), lease)
    clock.now = 0.0
    clock.step = REMOVAL_TIMEOUT_S  # one look at its last moment
    removal.remove(swarm(fake), lease)

    assert fake.items == {}


@pytest.mark.usefixtures("clock")
def test_another_error_ends_a_removal_at_once_and_the_lease_stays(lease: Lease, leases: Leases, fake: Guarded) -> None:
    fake.errors = [EngineError("it is away")]

    with pytest.raises(EngineError, match="it is away"):
        removal.remove(swarm(fake), lease)

    assert leases.get("mine").id == lease.id
    assert fake.removed == []


@pytest.mark.parametrize(("where", "waits"), [("here", True), ("gone", False)])
def test_a_lease_ends_once_no_node_that_can_be_asked_has_a_container_of_its_copy(
    lease: Lease, leases: Leases, fake: Guarded, clock: Clock, where: str, waits: bool
) -> None:
    fake.items = {name: item for name, item in fake.items.items() if item.kind == "config"}
    fake.containers = {lease.label: [task("running", node=where)], "other": [task("running", node="here")]}

    if waits:
        with pytest.raises(LeftoversError, match="copy mine keeps its lease: container c left after 40 s"):
            removal.remove(swarm(fake), lease)
        assert sum(clock.slept) >= REMOVAL_TIMEOUT_S
        assert leases.get("mine").id == lease.id
        fake.containers.clear()
        clock.slept.clear()
    removal.remove(swarm(fake), lease)

    assert (fake.items, clock.slept) == ({}, [])


@pytest.mark.usefixtures("clock")
def test_what_has_no_lease_s_label_is_never_swept(lease: Lease, fake: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Item(kind="network", id="odd", name="odd", labels={}, version=1)
    every = fake.everything
    monkeypatch.setattr(fake, "everything", lambda label: [odd, *every(label)])
    fake.add("network", "XXXX", {LEASE_LABEL: ""})

    assert removal.sweep(swarm(fake)) == []
    assert fake.removed == []
    assert lease.item.name in fake.items


@pytest.mark.usefixtures("clock")
def test_a_process_releases_its_own_leases_alone(lease: Lease, leases: Leases, fake: Guarded) -> None:
    other = leases.acquire("shop-0a1b2c", "other", {})
    assert other
    leases.renew(other, 60, owner=Owner.detached().label())

    removal.release_own(swarm(fake))

    assert [one.name for one in leases.leases()] == ["other"]
    assert fake.removed == ["web", "net", lease.item.name]


# leases


def test_a_lease_without_labels_says_nothing_and_never_ends() -> None:
    found = Lease.read(Item(kind="config", id="1", name="stackyard-lease-mine", labels={}, version=1))

    assert (found.name, found.id, found.project, found.checkout) == ("mine", "", "", "")
    assert (found.owner, found.state) == (None, "ending")
    assert not found.is_stale(1e300)


@pytest.mark.parametrize(("after", "stale"), [(-0.01, False), (0.0, True), (0.01, True)])
def test_a_lease_ends_at_its_deadline(lease: Lease, after: float, stale: bool) -> None:
    assert replace(lease, deadline=1000.0).is_stale(1000.0 + after) is stale


@pytest.mark.parametrize("text", [str(FURTHEST), str(-FURTHEST), "inf", "nan", "soon"])
def test_a_deadline_that_no_calendar_names_is_none(lease: Lease, text: str) -> None:
    found = Lease.read(replace(lease.item, labels={**lease.item.labels, DEADLINE: text}))

    assert not found.is_stale(1e300)


@pytest.mark.parametrize(
    ("project", "start"),
    [
        ("shop-0a1b2c", "shop"), ("shop-abcdef", "shop"), ("shop", "shop"), ("shop-0a1b2", "shop-0a1b2"),
        ("a" * 21, "a" * 20), ("-_.shop._--0a1b2c", "shop"), ("Xshop", "Xshop"), (" shop", " shop"),
    ],
)  # fmt: skip
def test_a_lease_is_called_by_its_project_and_eight_random_digits(leases: Leases, project: str, start: str) -> None:
    made = leases.acquire(project, None, {})

    assert made
    assert re.fullmatch(re.escape(start) + "-[0-9a-f]{8}", made.id)
    assert re.fullmatch("[0-9a-f]{8}", made.name)
    assert {**made.item.labels, DEADLINE: ""} == {
        LABEL: "1", LEASE_LABEL: made.id, PROJECT: project, OWNER: Owner.current().label(), STATE: "starting",
        DEADLINE: "", FOLDER: "",
    }  # fmt: skip
    assert made.deadline - leases.now() == pytest.approx(WITHOUT_OWNER, abs=20)


def test_every_list_of_leases_says_which_folder_a_copy_is_of(leases: Leases) -> None:
    leases.acquire("shop-0a1b2c", "mine", {"folder": "/srv/shop"})

    assert [found.checkout for found in leases.leases()] == ["/srv/shop"]


def test_what_a_lease_holds_is_words_by_name_or_nothing(lease: Lease, leases: Leases, fake: Guarded) -> None:
    for content, data in ((b"[1]", {}), (b"{", {}), (b'{"a": 1}', {"a": 1})):
        fake.contents[lease.item.name] = content
        assert leases.get("mine").data == data


def test_a_renewal_moves_the_deadline_and_nothing_else(lease: Lease, leases: Leases) -> None:
    found = leases.renew(lease, 5000)

    assert found.deadline - leases.now() == pytest.approx(5000, abs=20)
    assert found.item.labels.keys() == lease.item.labels.keys()
    assert {**found.item.labels, DEADLINE: ""} == {**lease.item.labels, DEADLINE: ""}


@pytest.mark.parametrize(("ttl", "lasts"), [(None, WITHOUT_OWNER), (7200.0, 7200.0)])
def test_a_ready_copy_is_kept_by_its_process_or_until_its_time_is_over(
    lease: Lease, leases: Leases, ttl: float | None, lasts: float
) -> None:
    found = leases.settle(lease, ttl, addresses="{}")

    assert (found.state, found.item.labels[ADDRESSES]) == ("ready", "{}")
    assert found.owner == (Owner.current() if ttl is None else Owner.detached())
    assert found.deadline - leases.now() == pytest.approx(lasts, abs=20)


def test_a_lease_that_is_taken_says_so(lease: Lease, leases: Leases) -> None:
    assert leases.take(lease)

    taken = {STATE: "ending", OWNER: Owner.current().label(), DEADLINE: ""}
    found = leases.get("mine")
    assert {**found.item.labels, DEADLINE: ""} == {**lease.item.labels, **taken}
    assert found.deadline - leases.now() == pytest.approx(WITHOUT_OWNER, abs=20)


@pytest.mark.usefixtures("clock")
def test_a_removal_whose_process_was_killed_goes_on_with_the_next_command(
    lease: Lease, leases: Leases, fake: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = leases.renew(lease, 7200, owner=Owner.detached().label())
    killed = replace(Owner.current(), pid=1 << 22, ticks=1)
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "current", lambda: killed)
        assert leases.take(held)

    assert removal.sweep(swarm(fake)) == ["mine"]
    assert fake.items == {}


@pytest.mark.usefixtures("clock")
def test_a_removal_that_goes_on_elsewhere_is_left_alone(lease: Lease, leases: Leases, fake: Guarded) -> None:
    assert leases.take(lease)

    assert removal.sweep(swarm(fake)) == []
    assert lease.item.name in fake.items


def test_a_name_that_is_free_by_the_time_of_the_second_look_is_taken(fake: Guarded, leases: Leases) -> None:
    class Ended(Guarded):
        """One where the lease of the name ends right after it has kept another from the name."""

        def create_config(self, name: str, content: bytes, labels: Mapping[str, str]) -> str | None:
            made = super().create_config(name, content, labels)
            if made is None:
                self.items.pop(name)
            return made

    ended = Ended()
    first, second = (Leases(swarm(ended)).acquire("shop-0a1b2c", "mine", {}) for _ in range(2))

    assert first
    assert second
    assert first.id != second.id
    assert (leases.leases(), fake.items) == ([], {})


# starts


@dataclass
class Prepared:
    """A start that makes a service, and then fails or not."""

    swarm: Guarded
    error: BaseException | None = None
    deadlines: list[float] = field(default_factory=list)
    startup: Startup = STANDING
    made_from: str = "one state"
    while_starting: Callable[[copies.Copy], object] = lambda _copy: None

    def ports(self) -> list[Any]:
        return []

    def digest(self) -> str:
        return self.made_from

    def said(self, _copy: object) -> dict[str, Any]:
        return {}

    def start(self, copy: copies.Copy, deadline: float, _progress: object, *, graceful: bool) -> None:
        assert not graceful
        self.deadlines.append(deadline)
        copy.startup = self.startup
        copy.expected = {"web": Expected(containers=1)}
        add(self.swarm, copy.lease, "service", "web")
        self.swarm.containers[copy.lease.label] = [task("running", node="here")]
        self.while_starting(copy)
        if self.error:
            self.swarm.containers.clear()
            raise self.error


@pytest.fixture
def prepared(fake: Guarded, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    del clock  # in place
    made = Prepared(fake)
    monkeypatch.setattr(copies, "Swarm", lambda _engine: fake)
    monkeypatch.setattr(copies, "refuse_missing_files", lambda _project: None)
    monkeypatch.setattr(
        copies, "CopiedProject", SimpleNamespace(of=lambda _project: SimpleNamespace(name="shop-0a1b2c", root="/shop"))
    )
    monkeypatch.setattr(copies, "Prepared", SimpleNamespace(of=lambda *_: made))
    return made


def started(**words: Any) -> copies.Copy:
    project: Any = SimpleNamespace(
        name="shop", model=dict, template={}, profiles=(), unset=[], configuration=SimpleNamespace(timeout=None)
    )
    return copies.start(project, cast("Any", None), name="mine", **words)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NotReadyError("web failed"), r"^shop did not start: web failed\n"), (EngineError("it is away"), "it is away"),
        (KeyboardInterrupt("stop"), "stop"),
    ],
)  # fmt: skip
def test_a_start_that_fails_leaves_nothing_of_its_own(
    prepared: Prepared, fake: Guarded, error: BaseException, says: str
) -> None:
    fake.add("service", "theirs", {})
    prepared.error = error

    with pytest.raises(type(error), match=says):
        started()

    assert sorted(fake.items) == ["theirs"]


@pytest.mark.parametrize("error", [NotReadyError("web failed"), EngineError("it is away"), KeyboardInterrupt("stop")])
def test_why_a_start_failed_is_said_also_when_what_it_made_cannot_be_removed(
    prepared: Prepared, fake: Guarded, error: BaseException
) -> None:
    prepared.error, said = error, list[str]()
    fake.errors = [EngineError("it went away")]

    with pytest.raises(type(error), match=str(error)) as caught:
        started(progress=said.append)

    assert "what the start made could not be removed: it went away" in f"{caught.value} {said}"


def test_what_a_start_makes_after_another_command_ended_its_copy_is_removed(
    prepared: Prepared, fake: Guarded, leases: Leases
) -> None:
    def end(copy: copies.Copy) -> None:
        leases.end(leases.get("mine"))
        add(fake, copy.lease, "network", "late")

    prepared.while_starting, prepared.error = end, EngineError("the network is gone")

    with pytest.raises(EngineError, match="the network is gone"):
        started()

    assert fake.items == {}


def test_a_copy_of_others_that_cannot_be_removed_keeps_no_start(
    prepared: Prepared, fake: Guarded, leases: Leases, clock: Clock
) -> None:
    del prepared
    other, said = leases.acquire("other-0a1b2c", "theirs", {}), list[str]()
    assert other
    leases.renew(other, -1)
    fake.containers = {other.label: [task("running", node="here")]}

    copy = started(ttl=600.0, progress=said.append)

    assert (copy.lease.state, sum(clock.slept) >= REMOVAL_TIMEOUT_S) == ("ready", True)
    (line,) = said
    assert line.startswith(
        "warning: copy theirs keeps its lease: container c left after 40 s; then remove stale stacks"
    )


@pytest.mark.parametrize(
    ("tasks", "says"),
    [([], r"web \(missing\)"), ([task("failed", exit_code=3, node="here")], r"web \(failed, exit code 3\)"),
     ([task("running", node="gone")], r"web \(lost \(node gone is down\)\)")],
)  # fmt: skip
@pytest.mark.usefixtures("prepared")
def test_a_copy_that_has_lost_a_service_is_not_returned_as_if_it_ran(
    fake: Guarded, tasks: list[Task], says: str
) -> None:
    first = started(ttl=600.0)
    fake.containers[first.lease.label] = tasks

    with pytest.raises(
        NotReadyError, match=rf"is up, but not every service of it runs: {says}; end the copy .* and start"
    ):
        started(ttl=600.0)


@pytest.mark.parametrize(("state", "lines"), [("one state", 0), ("another", 1)])
def test_a_copy_of_an_earlier_state_of_its_project_is_a_warning(prepared: Prepared, state: str, lines: int) -> None:
    said = list[str]()
    started(ttl=600.0)
    prepared.made_from = state

    started(ttl=600.0, progress=said.append)

    assert [line.startswith("warning: the project has changed since") for line in said] == [True] * lines


@pytest.mark.parametrize(("ttl", "kept"), [(None, True), (600.0, False)])
def test_a_copy_is_renewed_by_its_process_unless_it_has_a_time_of_its_own(
    prepared: Prepared, ttl: float | None, kept: bool
) -> None:
    copy = started(ttl=ttl, deadline=20.0, wait=3.0)

    assert (copy.keeper is not None, copy.lease.state, prepared.deadlines) == (kept, "ready", [23.0])
    prepared.swarm.containers.clear()
    copy.down()


def test_a_proof_that_is_not_whole_is_a_warning_of_the_start(prepared: Prepared) -> None:
    rule, said = Rule(service="web", kind="tcp", why=""), list[str]()
    services = (
        ServiceReady(service="web", rule=rule, seconds=1.0, how="listens", warning="web: port 81 does not"),
        ServiceReady(service="db", rule=rule, seconds=1.0, how="listens"),
    )
    prepared.startup = Startup(seconds=1.0, ready=StackReady(services=services, seconds=1.0))

    started(ttl=600.0, progress=said.append)

    assert said == ["warning: web: port 81 does not"]


@pytest.mark.parametrize("ttl", [None, 600.0])
def test_a_copy_that_stands_already_is_returned_as_it_is(
    prepared: Prepared, fake: Guarded, leases: Leases, ttl: float | None
) -> None:
    first = started(ttl=7200.0)
    names, until = sorted(fake.items), first.lease.deadline
    prepared.error = NotReadyError("a second start")

    again = started(ttl=ttl)

    assert (again.lease.id, sorted(fake.items)) == (first.lease.id, names)
    assert (leases.get("mine").deadline == until) is (ttl is None)


def service(name: str, *, called: str = "", **labels: str) -> Item:
    own = {SERVICE_LABEL: called} if called else {}
    return Item(kind="service", id=f"{name}-id", name=name, labels=own | labels, version=1)


def test_a_service_stays_while_one_that_needs_it_is_there_or_still_ends() -> None:
    web = service("shop_web", called="web", **{removal.NEEDS_LABEL: "db,cache"})
    cache = service("shop_cache", called="cache", **{removal.NEEDS_LABEL: "plain"})
    db, plain = service("shop_db", called="db"), service("plain")
    net = Item(kind="network", id="net-id", name="net", labels={}, version=0)
    needs: dict[str, set[str]] = {}

    assert removal._unneeded([web, db, cache, plain, net], set(), needs) == [web, net]
    assert removal._unneeded([db, cache, plain], {"web"}, needs) == []
    assert removal._unneeded([db, cache, plain], set(), needs) == [db, cache]
    assert removal._unneeded([plain], set(), needs) == [plain]


@pytest.mark.usefixtures("clock")
def test_what_a_service_needs_stays_while_a_container_of_its_copy_still_ends(leases: Leases, fake: Guarded) -> None:
    made = leases.acquire("shop-0a1b2c", "mine", {})
    assert made
    own = {LEASE_LABEL: made.id}
    fake.add("service", "web", own | {SERVICE_LABEL: "web", removal.NEEDS_LABEL: "db"})
    fake.add("service", "db", own | {SERVICE_LABEL: "db"})
    fake.containers = {made.label: [task("running", service="web", node="here")]}

    with pytest.raises(LeftoversError, match="service db"):
        removal.remove(swarm(fake), made)
    fake.containers.clear()
    removal.remove(swarm(fake), made)

    assert fake.items == {}


def test_the_time_to_end_is_of_the_service_or_of_what_it_is_called() -> None:
    found = [
        service("shop_web", called="web", **{removal.GRACE_LABEL: "20"}),
        service("plain", **{removal.GRACE_LABEL: "5"}),
        service("shop_db", called="db"), service("shop_odd", called="odd", **{removal.GRACE_LABEL: "long"}),
    ]  # fmt: skip
    held: Any = SimpleNamespace(labelled=lambda _kind, _label: found)

    assert removal.grace(held, "l") == {"web": 20, "plain": 5}

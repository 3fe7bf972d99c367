"""Made-up worlds on one engine: what is ours is planned and removed, what is not is neither."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackyard.cleanup import removal
from stackyard.cleanup.plan import plan
from stackyard.docker import ownership
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.ownership import Holdings
from stackyard.docker.records import Resource
from stackyard.errors import UsageError
from stackyard.leases import Lease, LeaseBook, Owner, Survivor
from stackyard.leases.port_format import ports_text
from stackyard.project.environments import Environment, project_root
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Kind = Literal["container", "network", "volume"]
# whose a thing is: a lease of this book, a lease this book has lost, or none of ours
OURS = ("labelled", "renamed", "unlabelled in our project", "lease label alone in our project")
LOST = ("lost", "lost data")
FOREIGN = (
    "without labels", "another book's", "another book's in our project", "lease label alone", "book label alone",
    "another lease's in our project", "no lease's id", "plain compose's", "made again under the same name",
)  # fmt: skip


@dataclass
class World:
    """An engine of a few lists; a removal is believed."""

    things: list[Resource]
    endpoint: ClassVar = Endpoint(url="tcp://127.0.0.1:1")

    def everything(self, labels: Sequence[str]) -> list[Resource]:
        order: tuple[Kind, ...] = ("container", "network", "volume")
        return [item for kind in order for item in self._of(kind, labels)]

    def containers(self, labels: Sequence[str]) -> list[Resource]:
        return self._of("container", labels)

    def networks(self, labels: Sequence[str]) -> list[Resource]:
        return self._of("network", labels)

    def volumes(self, labels: Sequence[str]) -> list[Resource]:
        return self._of("volume", labels)

    def remove(self, item: Resource) -> None:
        self.things = [each for each in self.things if (each.kind, each.id) != (item.kind, item.id)]

    def _of(self, kind: Kind, labels: Sequence[str]) -> list[Resource]:
        return [
            item
            for item in self.things
            if item.kind == kind and {*item.labels, *(f"{k}={v}" for k, v in item.labels.items())}.issuperset(labels)
        ]


def labels_of(case: str, lease: Lease, host: str) -> dict[str, str]:
    both = {"stackyard.host": host, "stackyard.lease": lease.id, "stackyard.environment": lease.environment}
    project = {"com.docker.compose.project": lease.project}
    another = {"stackyard.host": "0ther", "stackyard.lease": lease.id}
    return {
        "labelled": both | project,
        "renamed": both,
        "unlabelled in our project": project,
        "lease label alone in our project": project | {"stackyard.lease": lease.id},
        "lost": both | {"stackyard.lease": "0badcafe", "com.docker.compose.project": "stackyard-test-0badcafe"},
        "lost data": both | {"stackyard.lease": "dev-0badca", "com.docker.compose.project": "stackyard-dev-0badca"},
        "without labels": {},
        "another book's": another,
        "another book's in our project": another | project,
        "lease label alone": {"stackyard.lease": lease.id},
        "book label alone": {"stackyard.host": host},
        "another lease's in our project": project | {"stackyard.lease": "ffffffff"},
        "no lease's id": {"stackyard.host": host, "stackyard.lease": "../../etc"},
        "plain compose's": {"stackyard.host": "plain", "stackyard.lease": "plain",
                            "com.docker.compose.project": f"stackyard-{lease.environment}"},
        "made again under the same name": {"com.docker.compose.project": f"stackyard-{lease.environment}"},
    }[case]  # fmt: skip


CASES = st.sampled_from((*OURS, *LOST, *FOREIGN))
KINDS: st.SearchStrategy[Kind] = st.sampled_from(("container", "network", "volume"))
THINGS = st.lists(st.tuples(st.integers(0, 3), CASES, KINDS), max_size=14)


@pytest.fixture
def book(tmp_path: Path) -> LeaseBook:
    return LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))


def leases_of(book: LeaseBook) -> list[Lease]:
    """Return a living and a stale lease, and the same of an environment that keeps its data."""
    for old in book.leases():
        book.release(old.id)
    test, dev = Environment.load("test"), Environment.load("dev")
    made = [book.acquire(test, ttl=600, force=True), book.acquire(test, ttl=600, force=True)]
    made.append(book.acquire(dev, ttl=600, force=True))
    expired = made[1]
    book.transact(lambda db: db.execute("UPDATE leases SET deadline=1 WHERE id=?", (expired.id,)))
    return [book.find(lease.id) for lease in made]


def expected(case: str, lease: Lease, kind: Kind, *, everything: bool, keep_volumes: bool) -> bool:
    """Say, without the code under test, whether a thing goes."""
    kept = kind == "volume" and (keep_volumes or lease.keeps_data)
    if case in OURS:
        return (everything or lease.deadline == 1) and not kept
    if case == "lost":
        return not (kind == "volume" and keep_volumes)
    return case == "lost data" and kind != "volume"


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(things=THINGS, everything=st.booleans(), keep_volumes=st.booleans())
def test_a_clean_up_removes_what_the_plan_lists_and_nothing_that_is_not_ours(
    book: LeaseBook, things: list[tuple[int, str, Kind]], everything: bool, keep_volumes: bool
) -> None:
    leases = leases_of(book)
    numbers = itertools.count()
    world = World([])
    going: set[str] = set()
    staying: set[str] = set()
    for which, case, kind in things:
        lease = leases[which % len(leases)]
        name = f"thing-{next(numbers)}"
        world.things.append(Resource(kind=kind, id=name, name=name, labels=labels_of(case, lease, book.host)))
        if expected(case, lease, kind, everything=everything, keep_volumes=keep_volumes):
            going.add(f"{kind} {name}")
        if case == "another book's in our project" and kind != "volume":
            staying.add(lease.id)
    before = {f"{item.kind} {item.name}" for item in world.things}

    planned = plan(book, world, everything=everything, keep_volumes=keep_volumes)  # type: ignore[arg-type]
    outcome = removal.sweep(book, world, everything=everything, keep_volumes=keep_volumes)  # type: ignore[arg-type]

    assert {f"{item.kind} {item.name}" for item in planned if item.kind != "lease"} == going
    assert set(outcome.removed) == going
    assert len(outcome.removed) == len(going)
    assert {f"{item.kind} {item.name}" for item in world.things} == before - going
    assert set(outcome.leases) == {item.lease for item in planned if item.kind == "lease"} - staying
    assert {lease.id for lease in book.leases()} == {lease.id for lease in leases} - set(outcome.leases)


def test_a_lease_renewed_after_the_plan_keeps_its_stack(book: LeaseBook) -> None:
    _, stale, _ = leases_of(book)
    world = World([Resource(kind="container", id="c", name="c", labels=labels_of("labelled", stale, book.host))])
    planned = plan(book, world)  # type: ignore[arg-type]
    book.renew(stale.id, 600)

    outcome = removal.apply(book, world, [x for x in planned if x.command == "stale"])  # type: ignore[arg-type]

    assert (outcome.removed, outcome.leases, len(world.things)) == ([], [], 1)


def test_a_lost_lease_that_is_leased_again_after_the_plan_keeps_its_stack(book: LeaseBook) -> None:
    dev = Environment.load("dev")
    lease = book.acquire(dev, ttl=60)
    world = World([Resource(kind="container", id="c", name="c", labels=labels_of("labelled", lease, book.host))])
    book.release(lease)
    planned = plan(book, world)  # type: ignore[arg-type]
    assert [item.why for item in planned] == ["the book has no such lease"]
    book.acquire(dev, ttl=60)

    assert removal.apply(book, world, planned).removed == []  # type: ignore[arg-type]
    assert len(world.things) == 1


def standing(lease: Lease, host: str) -> World:
    """Return an engine that holds a container of *lease* with all its labels."""
    labels = labels_of("labelled", lease, host) | {
        "stackyard.owner": lease.owner.label(), "stackyard.created": f"{lease.created:.3f}",
        "stackyard.ports": ports_text(lease.ports, lease.spare), "stackyard.subnet": lease.subnet,
    }  # fmt: skip
    return World([Resource(kind="container", id="c", name="c", labels=labels)])


def put_back(book: LeaseBook, change: Callable[[], Lease]) -> Lease:
    """Make a backup of the book, *change* it, and put the backup in its place."""
    backup = book.directory.parent.with_name("backup")
    book.leases()
    shutil.copytree(book.directory.parent, backup)
    lease = change()
    shutil.rmtree(book.directory.parent)
    backup.rename(book.directory.parent)
    return lease


@pytest.mark.parametrize("everything", [False, True])
def test_a_book_from_a_backup_takes_a_running_stack_for_no_leftover(book: LeaseBook, everything: bool) -> None:
    test = Environment.load("test")
    book.acquire(test, parallel_id="before", ttl=600, force=True)
    lease = put_back(book, lambda: book.acquire(test, ttl=600, force=True))
    world = standing(lease, book.host)

    outcome = removal.sweep(book, world, everything=everything)  # type: ignore[arg-type]

    assert (outcome.removed == ["container c"]) is everything
    assert (lease.id in {known.id for known in book.leases()}) is not everything


def test_a_running_stack_stays_though_the_book_from_a_backup_gave_its_place_to_another(tmp_path: Path) -> None:
    place = {"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "29500-29509"}  # one stack's ports
    book, test = LeaseBook(Settings.load(place)), Environment.load("test")
    earlier = book.acquire(test, ttl=600, force=True)

    def change() -> Lease:
        book.release(earlier)
        return book.acquire(test, ttl=600, force=True)

    lease = put_back(book, change)
    world = standing(lease, book.host)

    assert removal.sweep(book, world).removed == []  # type: ignore[arg-type]
    assert removal.sweep(book, world, everything=True).removed == ["container c"]  # type: ignore[arg-type]


def test_what_appears_under_a_released_lease_is_a_leftover(book: LeaseBook) -> None:
    lease = book.acquire(Environment.load("test"), ttl=600, force=True)
    book.release(lease)

    assert removal.sweep(book, standing(lease, book.host)).removed == ["container c"]  # type: ignore[arg-type]


def test_a_stack_that_a_moved_book_cannot_reach_keeps_its_lease(tmp_path: Path, book: LeaseBook) -> None:
    lease = book.acquire(Environment.load("test"), ttl=600, force=True)
    world = standing(lease, book.host)
    moved = LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "moved")}))
    book.directory.parent.rename(tmp_path / "moved")

    outcome = removal.remove_lease(moved, world, moved.find(lease.id))  # type: ignore[arg-type]

    assert [item.name for item in outcome.left] == ["c"]
    assert f"belongs to lease book {book.host}" in outcome.left[0].reason
    assert [known.id for known in moved.leases()] == [lease.id]
    assert len(world.things) == 1


def test_a_volume_made_again_under_the_same_name_while_its_stack_ends_stays(book: LeaseBook) -> None:
    lease, _, _ = leases_of(book)
    labels = labels_of("labelled", lease, book.host)
    world = World([Resource(kind=kind, id="x", name="x", labels=labels) for kind in ("container", "volume")])
    remove = world.remove

    def meddle(item: Resource) -> None:
        remove(item)
        if item.kind == "container":
            world.things = [Resource(kind="volume", id="x", name="x", labels={})]

    world.remove = meddle  # type: ignore[method-assign]
    outcome = removal.remove_lease(book, world, lease)  # type: ignore[arg-type]

    assert [item.labels for item in world.things] == [{}]
    assert outcome.left == []


def test_only_the_removal_that_names_it_takes_data(book: LeaseBook) -> None:
    *_, dev = leases_of(book)
    mine = Resource(kind="volume", id="data", name="data", labels=labels_of("labelled", dev, book.host))
    other = replace(mine, id="other", name="other", labels=dict(mine.labels) | {"stackyard.lease": "dev-ffffff"})
    world = World([mine, other])

    removal.sweep(book, world, everything=True, keep_volumes=False)  # type: ignore[arg-type]
    assert world.things == [mine, other]

    outcome = removal.remove_data(book, world, Environment.load("dev"))  # type: ignore[arg-type]
    assert (outcome.removed, world.things) == (["volume data"], [other])
    with pytest.raises(UsageError, match="test keeps no data"):
        removal.remove_data(book, world, Environment.load("test"))  # type: ignore[arg-type]


def test_data_goes_with_the_stack_that_is_up(book: LeaseBook) -> None:
    *_, dev = leases_of(book)
    labels = labels_of("labelled", dev, book.host)
    world = World([Resource(kind=kind, id="x", name="x", labels=labels) for kind in ("container", "volume")])

    outcome = removal.remove_data(book, world, Environment.load("dev"))  # type: ignore[arg-type]

    assert (outcome.removed, outcome.leases, world.things) == (["container x", "volume x"], [dev.id], [])


@pytest.mark.parametrize("environment", ["test", "dev"])
def test_a_name_that_others_can_have_makes_nothing_ours(environment: str) -> None:
    held = Holdings.named("h1", environment, environment)

    assert not held.holds({"com.docker.compose.project": f"stackyard-{environment}"})
    assert held.holds({"stackyard.host": "h1", "stackyard.lease": environment})


@pytest.mark.parametrize(
    ("lease", "environment", "kept"),
    [("1f0c9b3e", "test", False), ("dev-3fa92c", "dev", True), ("dev", "dev", True), ("dev-3fa92c", "", True)],
)
def test_data_is_known_by_the_lease_whatever_other_labels_say(lease: str, environment: str, kept: bool) -> None:
    assert Holdings.named("h1", environment, lease).keeps_data is kept


def test_containers_are_reported_with_their_lease(book: LeaseBook) -> None:
    lease, *_ = leases_of(book)
    world = World(
        [
            Resource(kind="container", id=case, name=case, labels=labels_of(case, lease, book.host))
            for case in (*OURS, *LOST, *FOREIGN)
        ]
    )

    found = ownership.owned_containers(world, book.host, book.leases(), lost=True)  # type: ignore[arg-type]
    own = ownership.owned_containers(world, book.host, [lease], lost=False)  # type: ignore[arg-type]

    assert {item.thing.id: item.lease for item in own} == dict.fromkeys(OURS, lease.id)
    assert {item.thing.id for item in found} == {*OURS, *LOST}


@pytest.mark.parametrize(("name", "found"), [("mine", "mine"), ("", None), ("../x", None)])
def test_a_lost_lease_is_found_again_with_its_name_and_booked_memory(name: str, found: str | None) -> None:
    labels = {
        "stackyard.host": "h1", "stackyard.lease": "1f0c9b3e", "stackyard.environment": "test",
        "stackyard.owner": Owner.detached().label(), "stackyard.created": "1", "stackyard.subnet": "10.213.0.0/28",
        "stackyard.ports": "postgres:9500,redis:9501,backend:9502,auth:9503", "stackyard.name": name,
        "stackyard.memory_mb": "410", "com.docker.compose.project": "somebody-elses",
    }  # fmt: skip

    survivor = Survivor.from_labels(labels, host="h1")

    assert survivor is not None
    assert (survivor.parallel_id, survivor.memory_mb) == (found, 410)
    assert survivor.project == "stackyard-test-1f0c9b3e"


def test_the_compose_file_labels_what_a_lost_book_is_made_again_from() -> None:
    text = (project_root() / "compose" / "docker-compose.unified.yml").read_text()

    for word in ("name: ${STACKYARD_PARALLEL_ID", "memory_mb: ${STACKYARD_MEMORY_MB", "checkout: ${STACKYARD_CHECKOUT"):
        assert f"stackyard.{word}" in text

"""What a clean-up may take, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from stackyard.cleanup import graceful as graceful_end
from stackyard.cleanup import removal
from stackyard.cleanup.outcome import Leftover, Removal
from stackyard.cleanup.plan import plan
from stackyard.docker import lease_engine, remote_claims
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.ownership import Holdings
from stackyard.errors import EngineError, LeftoversError, UsageError
from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.cleanup.plan import Candidate
    from stackyard.docker import Engine
    from stackyard.leases import Lease


@pytest.fixture
def book(tmp_path: Path, fake_engine: FakeEngine) -> LeaseBook:
    made = LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))
    fake_engine.host = made.host
    return made


def expired(book: LeaseBook, name: str = "test") -> Lease:
    lease = book.acquire(Environment.load(name), ttl=60, force=True)
    book.transact(lambda db: db.execute("UPDATE leases SET deadline=1 WHERE id=?", (lease.id,)))
    return book.find(lease.id)


@pytest.mark.parametrize("call", [removal.remove_stale, removal.remove_all])
@pytest.mark.parametrize("words", [{}, {"keep_volumes": False}, {"keep_volumes": True}])
def test_only_the_removal_of_everything_takes_everything_and_volumes_go_only_if_asked(
    monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine, call: Any, words: dict[str, bool]
) -> None:
    del fake_engine  # DOCKER_HOST names it
    settings, opened = Settings.load({}), SimpleNamespace()
    given: list[tuple[object, ...]] = []
    engines: list[object] = []

    def open_book(wanted: object, engine: object) -> object:
        engines.append(engine)
        return opened if wanted is settings else None

    def sweep(book: object, engine: object, *, everything: bool, keep_volumes: bool) -> Removal:
        given.append((book, engine, everything, keep_volumes))
        return Removal()

    monkeypatch.setattr("stackyard.docker.lease_book.open_book", open_book)
    monkeypatch.setattr(removal, "sweep", sweep)
    call(settings, **words)

    assert given == [(opened, engines[0], call is removal.remove_all, words.get("keep_volumes", True))]
    assert engines[0] is not None


@pytest.mark.parametrize(
    ("words", "everything", "keep"),
    [({}, False, True), ({"everything": True}, True, True), ({"keep_volumes": False}, False, False)],
)
def test_a_sweep_spares_the_living_and_volumes_unless_asked_otherwise(
    book: LeaseBook,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    words: dict[str, bool],
    everything: bool,
    keep: bool,
) -> None:
    given: list[tuple[object, ...]] = []

    def planned(*things: object, everything: bool, keep_volumes: bool) -> list[Candidate]:
        given.append((*things, everything, keep_volumes))
        return []

    def apply(*things: object, keep_volumes: bool) -> Removal:
        given.append((*things, keep_volumes))
        return Removal()

    monkeypatch.setattr(removal, "plan", planned)
    monkeypatch.setattr(removal, "apply", apply)
    removal.sweep(book, engine, **words)

    assert given == [(book, engine, everything, keep), (book, engine, [], keep)]


@pytest.mark.parametrize(
    ("environment", "keep", "left"),
    [("test", False, False), ("test", True, True), ("dev", False, True), ("dev", True, True)],
)
def test_the_data_of_a_swept_lease_goes_only_if_it_is_not_kept_and_volumes_are_asked_for(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, environment: str, keep: bool, left: bool
) -> None:
    lease = expired(book, environment)
    fake_engine.volume("data", lease.id)
    fake_engine.container("redis", lease.id)

    outcome = removal.sweep(book, engine, keep_volumes=keep)

    assert (bool(fake_engine.volumes), outcome.leases, book.leases()) == (left, [lease.id], [])
    assert fake_engine.containers == {}


@pytest.mark.parametrize(
    ("lease", "keep", "left"),
    [("aaaaaaaa", False, False), ("aaaaaaaa", True, True), ("dev-3fa92c", False, True), ("dev-3fa92c", True, True)],
)
def test_the_data_of_a_lost_lease_goes_only_if_it_is_not_kept_and_volumes_are_asked_for(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, lease: str, keep: bool, left: bool
) -> None:
    environment = "dev" if "-" in lease else "test"
    fake_engine.container("redis", lease)
    fake_engine.volume("data", lease)
    fake_engine.container("redis", "bbbbbbbb")

    outcome = removal._remove_lost(book, engine, lease, environment, keep_volumes=keep)

    assert f"container redis-{lease}" in outcome.removed
    assert (bool(fake_engine.volumes), list(fake_engine.containers)) == (left, ["redis-bbbbbbbb"])


def test_what_was_added_to_a_lost_stack_without_labels_goes_with_it(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine
) -> None:
    fake_engine.container("added", "aaaaaaaa")["labels"] = {"com.docker.compose.project": "stackyard-test-aaaaaaaa"}
    fake_engine.container("other", "bbbbbbbb")["labels"] = {"com.docker.compose.project": "stackyard-dev-aaaaaaaa"}

    outcome = removal._remove_lost(book, engine, "aaaaaaaa", "test", keep_volumes=True)

    assert (outcome.removed, list(fake_engine.containers)) == (["container added-aaaaaaaa"], ["other-bbbbbbbb"])


def test_what_the_book_knows_by_now_is_not_lost(book: LeaseBook, engine: Engine, fake_engine: FakeEngine) -> None:
    lease, other = expired(book), expired(book)
    fake_engine.container("redis", lease.id)

    assert removal._remove_lost(book, engine, lease.id, "test", keep_volumes=False) == Removal()
    book.release(other)
    assert removal._remove_lost(book, engine, lease.id, "test", keep_volumes=False) == Removal()
    assert len(fake_engine.containers) == 1


def test_a_lease_is_kept_while_something_may_still_come(
    book: LeaseBook, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = expired(book)
    coming = SimpleNamespace(kind="container", name="late")
    answers: list[Sequence[object]] = [[coming], []]
    monkeypatch.setattr("stackyard.docker.unanswered_requests.settle", lambda *_, **__: answers.pop(0))
    reason = "the engine was asked for it and has not answered, so it may still appear"

    first = removal.remove_lease(book, engine, lease)
    assert first.left == [Leftover(kind="container", name="late", lease=lease.id, reason=reason)]
    assert (first.leases, [known.id for known in book.leases()]) == ([], [lease.id])
    assert removal.remove_lease(book, engine, lease).leases == [lease.id]
    assert book.leases() == []


@pytest.mark.parametrize(
    ("words", "left"), [({}, False), ({"keep_volumes": True}, True), ({"keep_volumes": False}, False)]
)
def test_a_lease_is_removed_with_or_without_its_volumes(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, words: Any, left: bool
) -> None:
    lease = expired(book)
    fake_engine.volume("data", lease.id)

    removal.remove_lease(book, engine, lease, **words)

    assert bool(fake_engine.volumes) is left


@pytest.mark.parametrize(("labels", "environment"), [({}, ""), ({"stackyard.environment": "old"}, "old")])
def test_what_is_lost_is_listed_with_the_environment_it_names(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, labels: dict[str, str], environment: str
) -> None:
    thing = fake_engine.container("redis", "aaaaaaaa")
    thing["labels"] = {"stackyard.host": book.host, "stackyard.lease": "aaaaaaaa"} | labels

    (found,) = plan(book, engine)

    assert (found.command, found.kind, found.name) == ("stale", "container", "redis-aaaaaaaa")
    assert (found.lease, found.environment, found.why) == ("aaaaaaaa", environment, "the book has no such lease")


@pytest.mark.parametrize("keep", [True, False])
def test_all_that_is_lost_is_listed_and_volumes_only_if_they_go(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, keep: bool
) -> None:
    project = {"com.docker.compose.project": "stackyard-test-aaaaaaaa"}
    fake_engine.container("redis", "aaaaaaaa")["labels"]["stackyard.environment"] = "test"
    fake_engine.container("added", "aaaaaaaa")["labels"] = project
    fake_engine.volume("data", "aaaaaaaa")

    found = plan(book, engine, keep_volumes=keep)

    assert {item.name for item in found} == {"redis-aaaaaaaa", "added-aaaaaaaa"} | (set() if keep else {"data"})
    assert {item.environment for item in found} == {"test"}


def test_a_lease_is_stale_from_the_moment_of_its_deadline_on(book: LeaseBook, engine: Engine) -> None:
    lease = book.acquire(Environment.load("test"), ttl=60, force=True)
    end = book.find(lease.id).deadline
    assert end is not None

    (found,) = plan(book, engine, clock=lambda: end)

    assert (found.command, found.why, found.deadline) == ("stale", "its deadline passed 0 s ago", end)


def test_volumes_stay_unless_their_removal_is_asked_for(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine
) -> None:
    lease = expired(book)
    fake_engine.volume("data", lease.id)
    planned = plan(book, engine)

    assert removal.apply(book, engine, planned).leases == [lease.id]
    assert list(fake_engine.volumes) == ["data"]


def test_a_sweep_counts_its_own_time(book: LeaseBook, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = [10.0, 12.5]
    monkeypatch.setattr(removal, "time", SimpleNamespace(monotonic=lambda: ticks.pop(0)))
    monkeypatch.setattr(removal, "apply", lambda *_, **__: Removal(leases=["l1"], seconds=1.0))

    assert removal.sweep(book, engine) == Removal(leases=["l1"], seconds=2.5)


@pytest.mark.parametrize(
    ("users", "refusal", "reason"),
    [
        ((), "no", "no"), ((), "", "it appeared again after its removal"),
        (("a", "b"), "no", "still used by a, b; disconnect or remove them"),
        (("a",), "", "still used by a; disconnect or remove it"),
    ],
)  # fmt: skip
def test_what_is_left_says_why(
    engine: Engine, fake_engine: FakeEngine, users: tuple[str, ...], refusal: str, reason: str
) -> None:
    fake_engine.network("net", users=users)
    (net,) = engine.networks([])

    assert removal._leftover(engine, net, "l1", refusal) == Leftover(
        kind="network", name="net", lease="l1", reason=reason
    )


def test_what_may_still_come_is_asked_for_with_all_that_was_removed(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = expired(book)
    fake_engine.container("redis", lease.id)
    settle = Mock(return_value=[])
    monkeypatch.setattr("stackyard.docker.unanswered_requests.process", lambda asked: "7:1" if asked is engine else "-")
    monkeypatch.setattr("stackyard.docker.unanswered_requests.settle", settle)

    removal.remove_lease(book, engine, lease)

    settle.assert_called_once_with(lease, [f"container redis-{lease.id}"], engine="7:1")


def test_what_the_engine_refuses_to_remove_is_left_once(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = expired(book)
    fake_engine.container("redis", lease.id)["labels"]["com.docker.compose.project"] = lease.project
    fake_engine.refuse[f"containers redis-{lease.id}"] = (409, "no")
    monkeypatch.setattr(removal, "PAUSE", 0)

    outcome = removal.remove_lease(book, engine, lease)

    assert [(left.kind, left.name) for left in outcome.left] == [("container", f"redis-{lease.id}")]
    assert "no" in outcome.left[0].reason
    assert len(book.leases()) == 1


@pytest.mark.parametrize("keep", [True, False])
def test_a_lost_stack_goes_whole_and_its_volumes_only_if_asked_for(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    fake_engine.container("redis", "aaaaaaaa")["labels"]["stackyard.environment"] = "test"
    fake_engine.container("added", "aaaaaaaa")["labels"] = {"com.docker.compose.project": "stackyard-test-aaaaaaaa"}
    fake_engine.volume("data", "aaaaaaaa")
    planned = plan(book, engine, keep_volumes=keep)
    ticks = [10.0, 11.0, 11.5, 12.5]
    monkeypatch.setattr(removal, "time", SimpleNamespace(monotonic=lambda: ticks.pop(0)))

    outcome = removal.apply(book, engine, planned, keep_volumes=keep)

    assert (fake_engine.containers, list(fake_engine.volumes)) == ({}, ["data"] if keep else [])
    assert outcome.seconds == 2.5


@pytest.mark.parametrize(("leases", "workers"), [(1, 1), (4, 4), (9, 4)])
def test_few_leases_are_cleaned_at_once_and_no_more_are_begun_after_an_error(
    monkeypatch: pytest.MonkeyPatch, leases: int, workers: int
) -> None:
    said: list[object] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int) -> None:
            said.append(max_workers)
            super().__init__(1)

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            said.append(cancel_futures)
            super().shutdown(wait, cancel_futures=cancel_futures)

    def fail(_lease: object) -> Removal:
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor", Pool)
    given: Any = [SimpleNamespace(id=str(number)) for number in range(leases)]
    found = removal._at_once(lambda lease: Removal(leases=[lease.id]), given)
    assert [part.leases for part in found] == [[str(number)] for number in range(leases)]
    assert said == [workers, False]
    with pytest.raises(KeyboardInterrupt):
        removal._at_once(fail, given)
    assert said[2:] == [workers, True, False]
    assert removal._at_once(fail, []) == []


def test_what_another_book_has_of_a_lease_keeps_the_lease(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine
) -> None:
    lease = expired(book)
    labels = {"com.docker.compose.project": lease.project, "stackyard.lease": lease.id, "stackyard.host": "other"}
    fake_engine.container("redis", lease.id)["labels"] = labels

    outcome = removal.remove_lease(book, engine, lease)

    (left,) = outcome.left
    assert (left.kind, left.name, left.lease) == ("container", f"redis-{lease.id}", lease.id)
    assert "belongs to lease book other" in left.reason
    assert (outcome.leases, [known.id for known in book.leases()]) == ([], [lease.id])


def test_a_stack_on_another_engine_keeps_its_lease(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    lease = expired(book)
    note = lease.directory / lease_engine.NOTE
    note.write_text(f"unix://{tmp_path}/other.sock")

    outcome = removal.remove_lease(book, engine, lease)

    (left,) = outcome.left
    assert (left.kind, left.name, left.lease) == ("stack", lease.project, lease.id)
    assert left.reason == (
        f"it is on another engine, unix://{tmp_path}/other.sock, and this command uses {engine.endpoint.where}; repeat "
        f"it with DOCKER_HOST=unix://{tmp_path}/other.sock; if that engine is gone for good, remove {note} first"
    )
    assert (outcome.leases, [known.id for known in book.leases()]) == ([], [lease.id])

    fake_engine.volume("data", lease.id)  # so it is this engine, by another address
    assert removal.remove_lease(book, engine, lease).leases == [lease.id]


def test_a_stack_is_noted_with_its_engine_and_starts_on_no_other(
    book: LeaseBook, engine: Engine, tmp_path: Path
) -> None:
    lease = expired(book)
    lease_engine.claim(lease, engine)
    link = tmp_path / "link.sock"
    link.symlink_to(engine.endpoint.socket)
    same, other = (SimpleNamespace(endpoint=Endpoint(url=f"unix://{path}")) for path in (link, tmp_path / "other"))

    lease_engine.claim(lease, same)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=rf"^stack {lease.id} is on another engine, .*; repeat it with DOCKER_HOST="):
        lease_engine.claim(lease, other)  # type: ignore[arg-type]

    assert lease_engine.elsewhere(lease, engine) == ""
    assert lease_engine.address(engine) in lease_engine.elsewhere(lease, other)  # type: ignore[arg-type]
    (lease.directory / lease_engine.NOTE).write_bytes(b"\x1b[2J\xff")
    assert lease_engine.elsewhere(lease, engine) == ""
    assert lease_engine.elsewhere(replace(lease, directory=tmp_path / "gone"), engine) == ""


def test_what_is_left_is_an_error_that_names_each_thing() -> None:
    left = [Leftover(kind="network", name=name, lease="l", reason=f"why {name}") for name in ("a", "b")]

    assert Removal(removed=["container c"]).check() == Removal(removed=["container c"])
    with pytest.raises(LeftoversError, match=r"^1 left after the clean-up: network a: why a; then 'x y'$"):
        Removal(left=left[:1]).check("x y")
    with pytest.raises(
        LeftoversError, match=r"^2 left after the clean-up:\n  network a: why a\n  network b: why b\nthen 'x y'$"
    ):
        Removal(left=left).check("x y")
    with pytest.raises(LeftoversError, match=r"\nthen 'invoke cleanup\.stale'$"):
        Removal(left=left).check()


def test_a_caller_that_has_the_stack_alone_takes_its_volumes_too(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine
) -> None:
    lease = expired(book)
    fake_engine.volume("data", lease.id)

    assert removal.remove_locked(book, engine, lease).removed == ["volume data"]


def test_only_what_the_plan_lists_is_removed(book: LeaseBook, engine: Engine, fake_engine: FakeEngine) -> None:
    first, second = expired(book), expired(book)
    for lease in (first, second):
        fake_engine.container("redis", lease.id)
    planned = [item for item in plan(book, engine) if item.lease == first.id]

    outcome = removal.apply(book, engine, planned)

    assert outcome.leases == [first.id]
    assert [lease.id for lease in book.leases()] == [second.id]
    assert list(fake_engine.containers) == [f"redis-{second.id}"]


def test_a_removal_is_plain_data_and_its_parts_add_up() -> None:
    left = Leftover(kind="network", name="n", lease="l", reason="r")
    parts = [
        Removal(removed=["container a"], leases=["l1"]),
        Removal(removed=["network b"], left=[left], leases=["l2"]),
    ]

    total = removal._total(parts)

    assert total == Removal(removed=["container a", "network b"], left=[left], leases=["l1", "l2"])
    assert replace(total, removed=[], seconds=2.5).to_json() == {
        "removed": [], "left": [{"kind": "network", "name": "n", "lease": "l", "reason": "r"}],
        "leases": ["l1", "l2"], "seconds": 2.5,
    }  # fmt: skip


class Made:
    """Holdings whose lists are made up, one for each time they are asked for; the last one stands."""

    lease = "l1"

    def __init__(self, *lists: list[Any]) -> None:
        self.lists, self.asked = list(lists), list[bool]()

    def removable(self, _engine: object, *, keep_volumes: bool) -> list[Any]:
        self.asked.append(keep_volumes)
        return self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]


THING = SimpleNamespace(id="1", kind="container", name="c")
OTHER = SimpleNamespace(id="2", kind="volume", name="v")


@pytest.mark.parametrize(
    ("lists", "refusals", "slept", "removed", "reasons"),
    [
        ([[]], {}, [], [], []), ([[THING], []], {}, [], ["container c"], []),
        ([[THING, OTHER], [OTHER], []], {}, [0.1], ["container c", "volume v"], []),
        ([[THING]], {"1": "no"}, [0.1, 0.2, 0.3, 0.4], [], ["no"]),
        ([[THING]], {}, [0.1, 0.2, 0.3, 0.4] + [0.5] * 15, [], ["it appeared again after its removal"]),
        ([[THING]] * 6 + [[]], {}, [0.1, 0.2, 0.3, 0.4, 0.5], ["container c"], []),
    ],
)  # fmt: skip
def test_a_removal_ends_with_an_empty_list_or_after_so_many_rounds(
    monkeypatch: pytest.MonkeyPatch, lists: list[list[Any]], refusals: dict[str, str], slept: list[float],
    removed: list[str], reasons: list[str],
) -> None:  # fmt: skip
    waits: list[float] = []
    ticks = [10.0, 12.5]
    once = Mock(return_value=refusals)
    monkeypatch.setattr(removal, "_remove_once", once)
    monkeypatch.setattr(removal, "time", SimpleNamespace(monotonic=lambda: ticks.pop(0)))
    engine: Any = object()
    holdings: Any = Made(*lists)

    outcome = removal.remove(engine, holdings, sleep=waits.append)

    assert waits == pytest.approx(slept)
    assert (outcome.removed, [left.reason for left in outcome.left], outcome.seconds) == (removed, reasons, 2.5)
    assert {left.lease for left in outcome.left} <= {"l1"}
    assert set(holdings.asked) == {False}
    assert [given.args for given in once.mock_calls[:1]] == [(engine, holdings, lists[0])] * bool(lists[0])


@pytest.mark.parametrize("keep", [True, False])
def test_a_removal_looks_for_volumes_unless_they_are_kept(keep: bool) -> None:
    holdings: Any = Made([])
    removal.remove(SimpleNamespace(), holdings, keep_volumes=keep)  # type: ignore[arg-type]

    assert holdings.asked == [keep]


def test_one_round_says_what_the_engine_refused_and_frees_a_refused_network(
    engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        fake_engine.container(name)
        fake_engine.network(f"net-{name}")
        fake_engine.volume(f"data-{name}")
    fake_engine.refuse = {kind: (409, f"no {kind}") for kind in ("containers b-l1", "networks net-b", "volumes data-b")}
    freed = Mock()
    monkeypatch.setattr("stackyard.docker.networks.drop_ghosts", freed)
    holdings = Holdings(host="h1", lease="l1")

    refusals = removal._remove_once(engine, holdings, holdings.everything(engine))

    assert sorted(refusals) == ["b-l1", "data-b", "net-b"]
    assert all("no " in reason for reason in refusals.values())
    assert [given.args[1].name for given in freed.mock_calls] == ["net-b"]
    assert freed.mock_calls[0].args[0] is engine
    assert (list(fake_engine.containers), list(fake_engine.networks)) == (["b-l1"], ["net-b"])
    assert list(fake_engine.volumes) == ["data-b"]


def test_a_volume_that_somebody_has_made_since_under_the_same_name_stays(
    engine: Engine, fake_engine: FakeEngine
) -> None:
    for name in ("a", "b"):
        fake_engine.volume(name)
    holdings = Holdings(host="h1", lease="l1")
    found = holdings.everything(engine)
    fake_engine.volume("a", "l2")
    fake_engine.volume("c")

    assert removal._remove_once(engine, holdings, found) == {}
    assert list(fake_engine.volumes) == ["a", "c"]


@pytest.mark.parametrize(("containers", "networks", "workers"), [(1, 1, 3), (2, 0, 4), (0, 2, 2), (4, 2, 8)])
def test_containers_go_off_every_network_and_an_error_of_any_removal_is_raised(
    monkeypatch: pytest.MonkeyPatch, containers: int, networks: int, workers: int
) -> None:
    sizes: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int) -> None:
            sizes.append(max_workers)
            super().__init__(max_workers)

    def named(kind: str, number: int) -> Any:
        return [SimpleNamespace(id=f"{kind}{n}", kind=kind, name=f"{kind}{n}") for n in range(number)]

    detached = Mock(side_effect=EngineError("not on it"))
    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor", Pool)
    monkeypatch.setattr("stackyard.docker.networks.detach", detached)
    found = [*named("network", networks), *named("container", containers)]
    engine: Any = object()

    tried: list[str] = []
    removal._remove_containers_and_networks(engine, found, lambda item: tried.append(item.id))
    assert sorted(tried) == sorted(item.id for item in found)
    assert sizes == [workers]
    pairs = {(given.args[1].id, given.args[2]) for given in detached.mock_calls}
    assert pairs == {(f"network{net}", f"container{c}") for net in range(networks) for c in range(containers)}
    assert {given.args[0] for given in detached.mock_calls} <= {engine}
    for item in found:
        failing = Mock(side_effect=lambda given, bad=item: 1 / 0 if given is bad else None)
        with pytest.raises(ZeroDivisionError):
            removal._remove_containers_and_networks(engine, found, failing)


def needing(service: str, *, listed: str = "", label: bool = True) -> Any:
    labels = {"com.docker.compose.depends_on": listed} if listed else {}
    labels |= {"com.docker.compose.service": service} if label else {}
    return SimpleNamespace(id=service, name=f"{service}-1", labels=labels)


@pytest.mark.parametrize(
    ("things", "rounds"),
    [
        ([needing("db"), needing("web", listed="db:service_healthy:true,cache:x:false"), needing("cache")],
         [["web"], ["cache", "db"]]),
        ([needing("a", listed="b:x:true"), needing("b", listed="c:x:true"), needing("c")], [["a"], ["b"], ["c"]]),
        ([needing("a", listed="b:x:true"), needing("b", listed="a:x:true")], [["a", "b"]]),
        ([needing("a", listed="a:x:true,"), needing("b", label=False)], [["a", "b"]]),
        ([], []),
    ],
)  # fmt: skip
def test_containers_end_before_those_that_they_need(
    monkeypatch: pytest.MonkeyPatch, things: list[Any], rounds: list[list[str]]
) -> None:
    ended: list[list[str]] = []
    engine = SimpleNamespace(stop=Mock(), grace=Mock(return_value=0))

    def each(work: Any, items: list[Any]) -> None:
        ended.append(sorted(item.id for item in items))
        for item in items:
            work(item)

    monkeypatch.setattr(graceful_end, "each", each)
    graceful_end.stop(engine, things)  # type: ignore[arg-type]

    assert ended == rounds
    assert sorted(given.args[0] for given in engine.stop.mock_calls) == sorted(item.id for item in things)


class Ending:
    """An engine: how many seconds each container has to end, and its exit code then; None if it is gone."""

    def __init__(self, **known: tuple[int | None, int | None]) -> None:
        self.known = known
        self.stopped: list[str] = []

    def grace(self, identity: str) -> int:
        return self._known(identity, 0)

    def state(self, identity: str) -> Any:
        return SimpleNamespace(exit_code=self._known(identity, 1))

    def stop(self, identity: str) -> None:
        self.stopped.append(identity)

    def _known(self, identity: str, place: int) -> int:
        found = self.known[identity][place]
        if found is None:
            raise EngineError("it is gone")
        return found


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"a": (5, 0)}, ["waiting until a has ended, at most 5 s"]),
        ({"a": (5, 0), "b": (7, 0)}, ["waiting until a, b have ended, at most 7 s"]),
        ({"a": (5, 137)}, ["waiting until a has ended, at most 5 s", "a did not end within 5 s and was killed"]),
        ({"a": (5, None)}, ["waiting until a has ended, at most 5 s"]),
        ({"a": (0, 137)}, []),
        ({"a": (None, 137)}, []),
        ({"a": (5, 0), "b": (None, 137)}, ["waiting until a has ended, at most 5 s"]),
    ],
)
def test_an_orderly_end_says_what_it_waits_for_and_what_it_had_to_kill(known: Any, told: list[str]) -> None:
    engine, said = Ending(**known), list[str]()

    graceful_end.stop(engine, [needing(name) for name in known], said.append)  # type: ignore[arg-type]

    assert said == told
    assert sorted(engine.stopped) == sorted(known)


def test_a_container_without_a_service_is_called_by_its_name() -> None:
    said: list[str] = []
    thing: Any = SimpleNamespace(id="1", name="lone-1", labels={})

    graceful_end.stop(Ending(**{"1": (5, 137)}), [thing], said.append)  # type: ignore[arg-type]

    assert said == ["waiting until lone-1 has ended, at most 5 s", "lone-1 did not end within 5 s and was killed"]


@pytest.mark.parametrize(("words", "asked"), [({}, 0), ({"graceful": False}, 0), ({"graceful": True}, 1)])
def test_containers_get_time_to_end_only_if_it_is_asked_for(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, words: Any, asked: int
) -> None:
    lease = expired(book)
    fake_engine.container("redis", lease.id)
    stop = Mock()
    monkeypatch.setattr(graceful_end, "stop", stop)

    removal.remove_lease(book, engine, lease, **words)

    assert [(given.args[0], [item.name for item in given.args[1]]) for given in stop.mock_calls] == (
        [(engine, [f"redis-{lease.id}"])] * asked
    )


@pytest.mark.parametrize("graceful", [True, False])
def test_each_of_several_leases_is_removed_as_it_was_asked_for(monkeypatch: pytest.MonkeyPatch, graceful: bool) -> None:
    remove, book, engine = Mock(side_effect=lambda *words, **more: (words, more)), Mock(), Mock()
    monkeypatch.setattr(removal, "remove_lease", remove)

    told: list[str] = []
    words: Any = {"graceful": graceful, "progress": told.append}
    done: Any = removal.remove_leases(book, engine, ["a", "b"], **words)  # type: ignore[list-item]

    assert done == [((book, engine, name), words) for name in "ab"]
    usual: Any = removal.remove_leases(book, engine, ["a"])  # type: ignore[list-item]
    assert usual[0][1]["graceful"] is False


@pytest.mark.parametrize("left", [[], ["container web"]])
def test_room_is_made_if_a_warm_stack_was_there_and_all_of_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, left: list[str]
) -> None:
    warm: Any = SimpleNamespace(title="w (1)", environment="test")
    remove, book, engine, said = Mock(return_value=SimpleNamespace(left=left)), Mock(), Mock(), Mock()
    monkeypatch.setattr(removal, "remove_lease", remove)
    monkeypatch.setattr(removal, "WarmStacks", lambda wanted: SimpleNamespace(give_up=lambda: wanted and warm))

    assert removal.make_room(book, engine, said) is (not left)
    remove.assert_called_once_with(book, engine, warm)
    said.assert_called_once_with("removing warm stack w (1) of test, because this start needs its place")
    monkeypatch.setattr(removal, "WarmStacks", lambda _book: SimpleNamespace(give_up=lambda: None))
    assert removal.make_room(book, engine, said) is False


@pytest.mark.parametrize(
    ("environment", "lease", "keeps"), [("shop-1", "0a1b2c3d", False), ("dev", "dev-3fa92c", True)]
)
@pytest.mark.parametrize("left", [[], [Leftover(kind="container", name="web", lease="0a1b2c3d", reason="busy")]])
def test_what_other_machines_left_goes_with_its_claims_but_never_with_kept_data(
    monkeypatch: pytest.MonkeyPatch, environment: str, lease: str, keeps: bool, left: list[Leftover]
) -> None:
    claim = SimpleNamespace(book="book", environment=environment, lease=lease)
    engine, drop, remove = Mock(), Mock(), Mock(return_value=Removal(left=left))
    monkeypatch.setattr(
        remote_claims.Ledger, "read", lambda asked: asked is engine and SimpleNamespace(expired=lambda: [[claim]])
    )
    monkeypatch.setattr(remote_claims, "drop", drop)
    monkeypatch.setattr(removal, "remove", remove)

    assert removal._remove_expired(engine) == [remove.return_value]

    (asked,) = remove.mock_calls
    assert asked.args == (engine, Holdings.named("book", environment, lease))
    assert asked.kwargs["keep_volumes"] is keeps
    assert [given.args for given in drop.mock_calls] == [(engine, "book", lease)] * (not left)

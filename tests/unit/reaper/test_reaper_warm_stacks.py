"""Taking, warming and giving up, with a fake engine and probes that answer or do not."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_docker import install_docker
from fake_probes import Answering, Silent, replace_probes

from stackyard import images
from stackyard.cleanup import removal
from stackyard.cleanup.outcome import Leftover, Removal
from stackyard.docker import Engine
from stackyard.errors import (
    CommandError,
    ImageError,
    LeaseNotFoundError,
    LeftoversError,
    NotReadyError,
    PoolExhaustedError,
    UsageError,
)
from stackyard.leases import Lease, LeaseBook, Owner
from stackyard.leases.warm import WarmStacks
from stackyard.project.environments import Environment
from stackyard.reaper import logs, workers
from stackyard.settings import Settings
from stackyard.stacks.environments import launch, warm_stacks
from stackyard.stacks.environments.fingerprints import fingerprint
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.starts.request import EnvironmentRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_engine import FakeEngine


FOUND = {"redis": ("stackyard/redis:debian-abc", "sha256:1"), "auth": ("stackyard/auth:debian-def", "sha256:2")}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in {
        "STATE_DIR": tmp_path / "state", "START": "compose", "POOL": "11000-11029", "POOL_SUBNETS": "10.214.0.0/17"
    }.items():  # fmt: skip
        monkeypatch.setenv(f"STACKYARD_{name}", str(value))
    return Settings.load()


@pytest.fixture
def book(state: Settings, fake_engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LeaseBook:
    fake_engine.host = state.host
    install_docker(tmp_path, "exit 0")
    monkeypatch.setattr(images, "present", lambda *_, **__: FOUND)
    monkeypatch.setattr(images, "ensure", lambda *_, **__: {service: name for service, (name, _) in FOUND.items()})
    monkeypatch.setattr("stackyard.leases.grants.host_ports.host_memory", lambda: None)
    replace_probes(monkeypatch, Answering)
    return LeaseBook(state)


@pytest.fixture
def environment() -> Environment:
    return Environment.load("test")


@pytest.fixture
def warm(book: LeaseBook, environment: Environment, engine: Engine) -> Callable[[], Lease]:
    """Offer a stack as a hand of the reaper does."""

    def make() -> Lease:
        identifier = workers._warm(environment, book, engine, Owner.current())
        return book.find(identifier)

    return make


@pytest.fixture
def start(book: LeaseBook, environment: Environment, engine: Engine) -> Callable[..., tuple[Stack, Any]]:
    def make(**words: Any) -> tuple[Stack, Any]:
        chosen = words.pop("environment", environment)
        return launch.launch(chosen, book, engine, EnvironmentRequest(**{"fixed": "prefer"} | words))

    return make


def test_a_launch_takes_a_warm_stack_and_says_so(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]]
) -> None:
    offered, said = warm(), list[str]()

    stack, startup = start(progress=said.append)

    assert (stack.lease.id, startup.by) == (offered.id, "pool")
    assert set(startup.probes) == {"postgres", "redis", "auth", "backend", "websocket"}
    assert said == [f"took warm stack {offered.id} in slot 0 of the pool"]
    assert stack.lease.owner == Owner.current()


def test_a_named_launch_is_detached_once_its_stack_has_answered(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]]
) -> None:
    offered = warm()

    stack, _ = start(name="mine", fixed="never")

    assert (stack.lease.id, stack.lease.parallel_id) == (offered.id, "mine")
    assert stack.lease.owner.kind == "detached"
    assert stack.lease.deadline is not None
    assert start(name="mine", fixed="never")[0].lease.id == offered.id


def test_without_a_warm_stack_a_launch_starts_one_and_detaches_it(
    book: LeaseBook, start: Callable[..., tuple[Stack, Any]]
) -> None:
    stack, startup = start(ttl=60.0)

    assert startup.by.startswith("compose")
    assert stack.lease.owner.kind == "detached"
    assert stack.lease == book.find(stack.lease.id)


def test_an_environment_on_its_fixed_ports_alone_takes_no_warm_stack(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], environment: Environment
) -> None:
    offered = warm()
    ports = {"postgres": 11934, "redis": 11981, "backend": 11901, "auth": 11982}  # the real ones may be in use

    stack, _ = start(environment=replace(environment, ports=ports, subnet="10.214.255.16/28"), fixed="only")

    assert stack.lease.id != offered.id
    assert stack.lease.slot is None


def test_a_start_with_variables_of_its_own_takes_no_warm_stack(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]]
) -> None:
    offered = warm()

    stack, _ = start(fixed="never", variables={"FLAG": "1"})

    assert stack.lease.id != offered.id
    assert stack.lease.variables()["FLAG"] == "1"


def test_warm_stacks_that_do_not_answer_are_removed_and_a_fresh_one_is_started(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, said = {warm().id, warm().id}, list[str]()
    monkeypatch.setattr(warm_stacks, "ANSWER", 0.05)
    replace_probes(monkeypatch, Silent)
    monkeypatch.setattr(launch, "start_in_place", lambda *_, **__: "fresh")

    stack, startup = start(progress=said.append)

    assert startup == "fresh"
    assert stack.lease.id not in offered
    assert offered.isdisjoint(lease.id for lease in book.leases())
    assert [line.split(" is removed")[0] for line in said if "does not answer" in line] != []


def test_a_warm_stack_gets_the_time_to_answer_that_it_needs_on_a_busy_host(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = warm()

    def wait(_stack: Stack, *, deadline: float) -> dict[str, float]:
        if deadline < 10:
            raise NotReadyError("not ready")
        return {}

    monkeypatch.setattr(Stack, "wait", wait)

    assert start()[0].lease.id == offered.id


def test_an_interrupted_take_leaves_nothing(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm()

    def interrupt(_stack: Stack, **_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stack, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start()

    assert book.leases() == []


def test_stacks_of_changed_images_are_never_handed_out_and_are_retired(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = warm()
    monkeypatch.setattr(images, "present", lambda *_, **__: FOUND | {"auth": ("stackyard/auth:debian-def", "sha256:3")})

    stack, _ = start()

    assert stack.lease.id != offered.id
    assert [lease.id for lease in book.stale()] == [offered.id]


def test_while_images_are_missing_nothing_is_taken_and_nothing_is_out_of_date(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = warm()
    monkeypatch.setattr(images, "present", lambda *_, **__: None)

    assert start()[0].lease.id != offered.id
    assert book.stale() == []
    assert [item.lease.id for item in WarmStacks(book).inventory().warm] == [offered.id]


def test_a_run_without_a_place_pushes_a_warm_stack_of_another_kind_out(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], book: LeaseBook
) -> None:
    offered, said = [warm().id for _ in range(3)], list[str]()

    stack, _ = start(environment=Environment.load("alpine-test"), fixed="never", progress=said.append)

    left = {lease.id for lease in book.leases()}
    assert stack.lease.id in left
    assert len(left & set(offered)) == 2
    assert any(line.endswith("of test, because this start needs its place") for line in said)


def test_a_run_is_refused_once_no_warm_stack_is_left_to_push_out(
    start: Callable[..., tuple[Stack, Any]], book: LeaseBook, environment: Environment
) -> None:
    for _ in range(3):
        book.acquire(environment)

    with pytest.raises(PoolExhaustedError, match="3 of 3 slots are leased"):
        start(fixed="never")


def test_who_waits_for_a_starting_stack_pushes_no_one_out(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], book: LeaseBook, environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    warm()
    book.acquire(environment, parallel_id="mine", attached=True)
    me = Owner.current()
    monkeypatch.setattr(Owner, "current", lambda: replace(me, pid=1))
    monkeypatch.setattr("stackyard.leases.records.Lease.is_stale", lambda *_: False)
    monkeypatch.setattr("stackyard.leases.grants.waiting.STARTING", 0.0)

    with pytest.raises(PoolExhaustedError, match="belongs to pid"):
        start(name="mine", fixed="never")
    assert WarmStacks(book).any()


def test_there_is_no_room_to_make_without_a_warm_stack(book: LeaseBook, engine: Engine) -> None:
    assert not removal.make_room(book, engine, print)


def test_a_stolen_port_costs_a_move_and_any_other_failure_the_start(
    start: Callable[..., tuple[Stack, Any]], book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = ["port is already allocated", "Pool overlaps with other one", "no such image"]

    def fail(_stack: Stack, **_: Any) -> None:
        raise CommandError(["docker"], 1, failures.pop(0))

    monkeypatch.setattr(Stack, "up", fail)
    said: list[str] = []
    with pytest.raises(CommandError, match="no such image"):
        start(fixed="never", progress=said.append)

    assert [line.split(";")[1] for line in said] == [" moved to slot 1 of the pool", " moved to slot 2 of the pool"]
    assert book.leases() == []


@pytest.mark.usefixtures("free_host")
def test_a_new_warm_stack_lets_everybody_else_start_first_and_a_run_does_not(
    warm: Callable[[], Lease], start: Callable[..., tuple[Stack, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, asked = launch.start_in_place, []

    def note(stack: Stack, request: EnvironmentRequest, **options: Any) -> Any:
        asked.append(options.get("last", False))
        return plain(stack, request, **options)

    monkeypatch.setattr(launch, "start_in_place", note)
    warm()
    start(fixed="only")

    assert asked == [True, False]


def test_a_launch_looks_for_its_images_on_the_engine_that_it_has(
    start: Callable[..., tuple[Stack, Any]], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ensure(*_: Any, **given: Any) -> dict[str, str]:
        asked.append(given["engine"])
        return {service: name for service, (name, _) in FOUND.items()}

    monkeypatch.setattr(images, "ensure", ensure)
    start()

    assert asked == [engine]


def test_a_failed_start_gives_its_lease_back(
    start: Callable[..., tuple[Stack, Any]], book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NotReadyError("no")

    monkeypatch.setattr(launch, "start_in_place", fail)
    with pytest.raises(NotReadyError):
        start(name="mine", fixed="never")
    assert book.leases() == []
    with pytest.raises(NotReadyError):
        start(name="mine", fixed="never", keep=True)
    assert [lease.owner.kind for lease in book.leases()] == ["detached"]


def test_an_interrupted_start_that_is_to_be_kept_says_what_removes_it(
    start: Callable[..., tuple[Stack, Any]], book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "start_in_place", interrupt)
    said: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        start(name="mine", fixed="never", keep=True, progress=said.append)

    (lease,) = book.leases()
    assert said[0].startswith("the stack was kept for you to inspect")
    assert lease.id in said[0]


def test_what_a_start_left_that_was_killed_half_way_is_removed_before_the_next_of_that_name(
    start: Callable[..., tuple[Stack, Any]], book: LeaseBook, environment: Environment, fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lease = book.acquire(environment, parallel_id="mine", attached=True)
    fake_engine.container("redis", lease.id)
    with monkeypatch.context() as patch:
        patch.setattr("stackyard.leases.records.Lease.is_stale", lambda *_: True)
        patch.setattr(Owner, "runs", lambda _owner: False)
        book.transact(lambda db: db.execute("UPDATE leases SET owner=?", (replace(lease.owner, pid=1).label(),)))
        stack, _ = start(name="mine", fixed="never")

    assert stack.lease.id == lease.id
    assert not stack.stood_before
    assert fake_engine.containers == {}


def test_what_a_killed_start_left_is_removed_although_the_clock_was_set_back_since(
    start: Callable[..., tuple[Stack, Any]], book: LeaseBook, state: Settings, environment: Environment,
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ahead = LeaseBook(state, clock=lambda: time.time() + 3600.0)
    lease = ahead.acquire(environment, parallel_id="mine", attached=True)
    fake_engine.container("redis", lease.id)
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "is_stale", lambda *_: True)
        patch.setattr(Owner, "runs", lambda _owner: False)
        book.transact(lambda db: db.execute("UPDATE leases SET owner=?", (replace(lease.owner, pid=1).label(),)))
        stack, _ = start(name="mine", fixed="never")

    assert stack.lease.id == lease.id
    assert fake_engine.containers == {}


def test_a_lease_that_another_command_ended_meanwhile_is_left_to_it(
    start: Callable[..., tuple[Stack, Any]], book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(stack: Stack, *_: Any) -> None:
        book.release(stack.lease.id)

    monkeypatch.setattr(launch, "start_in_place", end)
    with pytest.raises(LeaseNotFoundError):
        start(ttl=60.0)


def test_a_hand_that_warms_retires_what_is_out_of_date(
    warm: Callable[[], Lease], book: LeaseBook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stackyard")
    old = warm()
    monkeypatch.setattr(images, "present", lambda *_, **__: {"redis": ("r:1", "sha256:9")})
    new = warm()

    assert [lease.id for lease in book.stale()] == [old.id]
    assert [item.lease.id for item in WarmStacks(book).inventory().warm] == [new.id]
    assert "1 warm stacks of test are out of date" in caplog.text
    assert new.variables()["STACKYARD_IMAGE_REDIS"] == "r:1"


def test_a_hand_whose_reaper_has_ended_leaves_nothing(
    book: LeaseBook, environment: Environment, engine: Engine
) -> None:
    gone = replace(Owner.current(), pid=2**22 - 1, ticks=1)

    with pytest.raises(UsageError, match="its reaper has ended"):
        workers._warm(environment, book, engine, gone)

    assert book.leases() == []


def test_a_hand_builds_no_images(
    book: LeaseBook, environment: Environment, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "present", lambda *_, **__: None)

    with pytest.raises(ImageError, match="the images of test are not built"):
        workers._warm(environment, book, engine, Owner.current())
    assert book.leases() == []


def test_a_hand_is_a_program(
    book: LeaseBook, environment: Environment, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "log_to_stderr", lambda: caplog.set_level(logging.INFO, "stackyard"))

    assert workers.main(["warm", str(environment.root), "test", Owner.current().label()]) == 0
    assert WarmStacks(book).any()
    book.acquire(environment, ttl=0.001)
    assert workers.main(["sweep"]) == 0
    assert "of test is warm" in caplog.text
    assert "removed" in caplog.text
    assert workers.main(["warm", "/nowhere", "test", Owner.current().label()]) == 2
    assert workers.main(["warm", str(environment.root), "test", "nobody"]) == 2
    assert workers.main([]) == 2


def test_the_log_has_one_line_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **words: given.update(words))
    monkeypatch.setattr(logging, "raiseExceptions", True)

    logs.log_to_stderr()
    logging.getLogger("stackyard").setLevel(logging.NOTSET)

    assert not logging.raiseExceptions
    assert given["format"].startswith("%(asctime)s [")


def test_a_fingerprint_changes_with_whatever_a_stack_is_made_from(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose, env = tmp_path / "compose.yml", tmp_path / "env"
    compose.write_text("services: {}")
    env.write_text("A=1")
    own = replace(environment, compose_file=compose, env_file=env)
    seen = [fingerprint(own, ["a", "b"])]

    assert fingerprint(own, ["b", "a"]) == seen[0]
    seen.append(fingerprint(own, ["a", "c"]))
    seen.append(fingerprint(replace(own, variables={"B": "2"}), ["a", "b"]))
    seen.append(fingerprint(replace(own, root=tmp_path), ["a", "b"]))
    compose.write_text("services: {a: {}}")
    seen.append(fingerprint(own, ["a", "b"]))
    env.write_text("A=2")
    seen.append(fingerprint(own, ["a", "b"]))
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    seen.append(fingerprint(own, ["a", "b"]))
    monkeypatch.setattr("stackyard.__version__", "9.9")
    seen.append(fingerprint(own, ["a", "b"]))

    assert len(set(seen)) == len(seen)
    assert {len(text) for text in seen} == {64}


def test_the_images_that_are_there_are_named_without_building(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    from stackyard.images import store

    names = {f"stackyard/{service}:debian-1": f"sha256:{service}" for service in ("postgres", "redis")}
    monkeypatch.setattr(store, "known", lambda _engine: names)
    recipes = {name.split("/")[1].split(":")[0]: type("Recipe", (), {"reference": name}) for name in names}
    monkeypatch.setattr(store, "_ready", lambda *_: recipes)

    assert store.present("debian", engine) == {
        "postgres": ("stackyard/postgres:debian-1", "sha256:postgres"),
        "redis": ("stackyard/redis:debian-1", "sha256:redis"),
    }
    monkeypatch.setattr(store, "_ready", lambda *_: None)
    assert store.present("debian", engine, root=Path("/")) is None


def test_a_sweep_that_leaves_something_fails_and_says_what(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stackyard")
    left = Leftover(kind="network", name="n", lease="2", reason="busy")
    monkeypatch.setattr(removal, "remove_stale", lambda: Removal(leases=["1"], left=[left]))

    with pytest.raises(LeftoversError, match="network n"):
        workers.sweep()
    assert "lease 1 removed" in caplog.text


def test_no_stack_is_kept_warm_on_another_host_s_engine(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_engine: Engine) -> None:
        raise UsageError("the engine is on another host")

    monkeypatch.setattr(Engine, "refuse_elsewhere", refuse)
    monkeypatch.setattr(workers, "_warm", lambda *_: pytest.fail("it was started"))

    with pytest.raises(UsageError, match="another host"):
        workers.warm(environment.root, "test", Owner.current())

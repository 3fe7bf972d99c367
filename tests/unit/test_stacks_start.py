from __future__ import annotations

import asyncio
import dataclasses
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from fake_compose import install_compose, model
from fake_probes import Answering, Silent, replace_probes

from stackyard.docker import Engine
from stackyard.docker.fast_start import Blueprint, ContainerPlan, build
from stackyard.errors import LeaseNotFoundError, NotReadyError, RefusedError
from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.starts.queue import turn

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine


@pytest.fixture
def stack(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Stack:
    replace_probes(monkeypatch, Answering)
    environment = Environment.load("test")
    book = LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))
    return Stack(environment, book.acquire(environment, force=True), book, engine)


def test_the_engine_makes_a_fresh_stack_and_every_step_is_timed(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    mount = {"type": "volume", "source": "data", "target": "/data"}
    calls = install_compose(tmp_path, model(volumes=[mount]))

    startup = stack.up()

    assert startup.by == "engine"
    assert {"render", "volume", "network", "create redis", "start redis"} <= startup.steps.keys()
    assert all(begin <= end <= startup.seconds for begin, end in startup.steps.values())
    made = [kind for kind, _, _ in fake_engine.created]
    assert made.index("volumes") < made.index("containers")  # a container's volumes come first
    assert len(stack.engine.everything(stack.labels)) == 6
    assert " up " not in calls.read_text()


def test_a_model_the_engine_cannot_make_is_left_to_compose(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    calls = install_compose(tmp_path, model(gpus="all"))

    startup = stack.up()

    assert startup.by == "compose: services.auth.gpus is left to Compose"
    assert "at-once.yml" in calls.read_text()
    assert fake_engine.created == []


def test_a_second_start_of_one_stack_asks_what_stands(stack: Stack, tmp_path: Path, fake_engine: FakeEngine) -> None:
    install_compose(tmp_path, model())
    stack.up()
    made = len(fake_engine.created)

    assert stack.up().by == "none: it was running already"
    assert len(fake_engine.created) == made


def test_all_services_start_at_once_whatever_they_depend_on(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_compose(tmp_path, model(depends_on={"redis": {"condition": "service_healthy"}}))
    together = threading.Barrier(4, timeout=60)
    plain = Engine.start

    def start(engine: Engine, container: str) -> None:
        together.wait()  # breaks if one is started only after another
        plain(engine, container)

    monkeypatch.setattr(Engine, "start", start)

    assert stack.up().by == "engine"


def test_a_service_that_waits_to_be_revived_is_not_in_trouble(
    standing: Stack, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for container in fake_engine.containers.values():
        container["state"]["Status"] = "exited"
    plain = Engine.restart

    def slowly(engine: Engine, container: str) -> None:
        time.sleep(0.05)  # long enough for the wait to ask about trouble
        plain(engine, container)

    monkeypatch.setattr(Engine, "restart", slowly)
    monkeypatch.setattr("stackyard.probes.waiting.STOP_INTERVAL", 0.001)

    assert standing.up().by == "none: it was running already"


def test_a_start_waits_for_its_turn_and_the_wait_is_no_part_of_it(stack: Stack, tmp_path: Path) -> None:
    install_compose(tmp_path, model())
    stack.book = LeaseBook(dataclasses.replace(stack.book.settings, starts_at_once=1))
    told: list[str] = []
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        with turn(stack.book.settings):
            starting = pool.submit(stack.up, progress=told.append)
            while not told:
                time.sleep(0.01)
        startup = starting.result()
    whole = time.monotonic() - began

    assert startup.waited > 1
    assert startup.waited + startup.seconds < whole
    assert startup.steps["turn"] == (-startup.waited, 0.0)
    assert re.fullmatch(r"ready after \d+\.\d\d s, after \d+\.\d s of waiting for its turn", startup.told())


def test_a_turn_that_comes_at_once_is_not_spoken_of(stack: Stack, tmp_path: Path) -> None:
    install_compose(tmp_path, model())

    startup = dataclasses.replace(stack.up(), steps={})

    assert startup.after(0.009).steps == {}
    assert startup.after(0.01).steps == {"turn": (-0.01, 0.0)}
    assert "turn" not in startup.after(0.9).told()


def test_what_stands_already_needs_no_turn(standing: Stack) -> None:
    standing.book = LeaseBook(dataclasses.replace(standing.book.settings, starts_at_once=1))
    with turn(standing.book.settings):
        assert standing.up().waited == 0.0


def test_a_stack_removed_while_it_waits_for_its_turn_is_not_started(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_compose(tmp_path, model())
    monkeypatch.setattr("stackyard.stacks.starts.queue.TELL_AFTER", 0.0)
    stack.book = LeaseBook(dataclasses.replace(stack.book.settings, starts_at_once=1))
    told: list[str] = []
    with ThreadPoolExecutor() as pool:
        with turn(stack.book.settings):
            starting = pool.submit(stack.up, progress=told.append)
            while not told:
                time.sleep(0.01)
            assert stack.down().leases == [stack.lease.id]
        with pytest.raises(LeaseNotFoundError, match="was ended by another command"):
            starting.result()


@pytest.fixture
def standing(tmp_path: Path, stack: Stack, fake_engine: FakeEngine) -> Stack:
    """Return a stack under a lease that outlives commands, up already."""
    install_compose(tmp_path, model())
    lease = stack.book.acquire(stack.environment, ttl=60, force=True)
    made = Stack(stack.environment, lease, stack.book, stack.engine)
    made.up()
    fake_engine.requests.clear()
    return made


@pytest.mark.parametrize("ended", [(), ("redis",)], ids=["all of it", "all but one service"])
def test_what_stands_as_it_should_is_not_made_again(
    standing: Stack, fake_engine: FakeEngine, ended: tuple[str, ...]
) -> None:
    for service in ended:
        fake_engine.containers[f"{standing.lease.project}-{service}-1"]["state"]["Status"] = "exited"

    assert standing.up().by == "none: it was running already"

    asked = [request for request in fake_engine.requests if request.startswith("POST")]
    assert [request.split("/")[-2:] for request in asked] == [
        [f"{standing.lease.project}-{service}-1", "restart"] for service in ended
    ]


def test_a_stack_whose_services_have_all_ended_starts_again_at_the_first_try(
    standing: Stack, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in fake_engine.containers.values():
        row["state"] |= {"Status": "exited", "ExitCode": 137}

    def slowly(_engine: Engine, container: str, **_: object) -> None:
        time.sleep(0.15)  # long enough that somebody looks for trouble meanwhile
        fake_engine.containers[container]["state"]["Status"] = "running"

    monkeypatch.setattr("stackyard.docker.Engine.restart", slowly)

    assert standing.up().by == "none: it was running already"


def test_one_that_ends_again_after_it_was_started_again_fails_the_start(
    standing: Stack, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine.containers[f"{standing.lease.project}-auth-1"]["state"] |= {"Status": "exited", "ExitCode": 3}
    replace_probes(monkeypatch, Silent)

    with pytest.raises(NotReadyError, match="service auth is exited, exit code 3"):
        standing.up(deadline=60)


def test_what_stands_otherwise_is_left_to_compose(standing: Stack, tmp_path: Path) -> None:
    calls = install_compose(tmp_path, model(image="stackyard/any:2"))
    for stored in (tmp_path / "state" / "models").iterdir():
        stored.unlink()  # the Compose file it was made of would have changed, too

    assert standing.up().by == "compose: existing containers differ from the model"

    assert "at-once.yml" in calls.read_text()


def test_a_network_left_alone_is_left_to_compose(standing: Stack, fake_engine: FakeEngine) -> None:
    fake_engine.containers.clear()

    assert standing.up().by == "compose: existing containers differ from the model"


def test_a_refusal_by_the_engine_is_reported_with_its_words(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    install_compose(tmp_path, model())
    fake_engine.refuse[f"containers {stack.lease.project}-auth-1"] = (404, "No such image: x")

    with pytest.raises(NotReadyError, match=r"(?s)creating container .*-auth-1: the engine refused: No such image: x"):
        stack.up()

    assert fake_engine.containers == fake_engine.networks == {}


def test_a_stolen_subnet_removes_what_was_made_and_is_left_to_the_caller(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    install_compose(tmp_path, model())
    name = f"networks {stack.lease.project}_platform"
    fake_engine.refuse[name] = (403, "Pool overlaps with other one on this address space")

    with pytest.raises(RefusedError, match="Pool overlaps"):
        stack.up()

    assert fake_engine.containers == {}


def test_a_service_that_never_answers_fails_the_start_and_leaves_nothing(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_compose(tmp_path, model())
    replace_probes(monkeypatch, Silent)

    with pytest.raises(NotReadyError, match="not ready after"):
        stack.up(deadline=1)

    assert fake_engine.containers == fake_engine.networks == {}


class Slow:
    """An engine whose first container is made only when the test lets it go on."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.started: list[str] = []

    def create_container(self, plan: ContainerPlan) -> str:
        self.asked.set()
        self.go_on.wait(60)
        return plan.name

    def start(self, container: str) -> None:
        self.started.append(container)


def test_a_cancelled_build_waits_for_what_is_under_way_and_begins_nothing_more() -> None:
    slow = Slow()
    blueprint = Blueprint(networks=[], volumes=[], containers=[ContainerPlan(service="a", name="a", config={})])

    async def scenario() -> None:
        building = build(slow, blueprint, began=0, steps={}, started=lambda _: None)  # type: ignore[arg-type]
        task = asyncio.create_task(building)
        await asyncio.to_thread(slow.asked.wait, 60)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        slow.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    assert slow.started == []

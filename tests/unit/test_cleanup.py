from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackyard.cleanup import removal
from stackyard.docker import networks
from stackyard.docker.ownership import Holdings
from stackyard.errors import EngineError, LeftoversError
from stackyard.leases import Lease, LeaseBook
from stackyard.leases.warm import Pool, WarmStacks
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.cleanup.outcome import Removal
    from stackyard.docker import Engine

HELD = Holdings(host="h1", lease="l1")


def no_sleep(_seconds: float) -> None: ...


def test_a_removal_takes_its_own_and_nothing_else(fake_engine: FakeEngine, engine: Engine) -> None:
    for lease in ("l1", "l2"):
        fake_engine.container("redis", lease)
        fake_engine.network(f"net-{lease}", lease)
        fake_engine.volume(f"data-{lease}", lease)

    outcome = removal.remove(engine, HELD)

    assert outcome.removed == ["container redis-l1", "network net-l1", "volume data-l1"]
    assert outcome.check().left == []
    assert (list(fake_engine.containers), list(fake_engine.networks), list(fake_engine.volumes)) == (
        ["redis-l2"], ["net-l2"], ["data-l2"],
    )  # fmt: skip


def test_a_kept_volume_is_neither_removed_nor_left_over(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.volume("data")

    outcome = removal.remove(engine, HELD, keep_volumes=True)

    assert (outcome.removed, outcome.left, list(fake_engine.volumes)) == ([], [], ["data"])


def test_what_the_engine_says_it_removed_but_lists_again_is_left_over(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("auth")
    fake_engine.immortal.add("auth-l1")

    outcome = removal.remove(engine, HELD, sleep=no_sleep)

    assert [str(item) for item in outcome.left] == ["container auth-l1: it appeared again after its removal"]
    with pytest.raises(LeftoversError, match="1 left after the clean-up: container auth-l1"):
        outcome.check()


def test_a_network_in_use_names_its_users(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.network("net", users=("stranger",))
    fake_engine.refuse["networks net"] = (403, "network net has active endpoints")

    outcome = removal.remove(engine, HELD, sleep=no_sleep)

    assert [item.reason for item in outcome.left] == ["still used by stranger; disconnect or remove it"]


def test_a_container_that_appears_late_is_removed_in_a_later_round(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("auth")
    fake_engine.refuse["containers auth-l1"] = (500, "device busy")

    def recover(_seconds: float) -> None:
        fake_engine.refuse.clear()
        fake_engine.container("late")

    outcome = removal.remove(engine, HELD, sleep=recover)

    assert (sorted(outcome.removed), outcome.left) == (["container auth-l1", "container late-l1"], [])


def test_a_slow_engine_that_refuses_nothing_is_waited_for(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("auth")
    fake_engine.immortal.add("auth-l1")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == removal.ROUNDS + 3:
            fake_engine.immortal.clear()

    assert removal.remove(engine, HELD, sleep=sleep).left == []
    assert max(slept) == removal.PAUSE * removal.ROUNDS


def test_a_refusal_is_not_waited_for_as_long(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.network("net")
    fake_engine.refuse["networks net"] = (403, "has active endpoints")
    slept: list[float] = []

    assert len(removal.remove(engine, HELD, sleep=slept.append).left) == 1
    assert len(slept) == removal.ROUNDS - 1


def test_a_sweep_that_fails_says_so(tmp_path: Path) -> None:
    book = LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")}))
    leases = [book.acquire(Environment.load("test")) for _ in range(removal.SWEEPERS * 3)]
    begun: list[str] = []

    def work(lease: Lease) -> Removal:
        begun.append(lease.id)
        raise EngineError("the engine has gone")

    with pytest.raises(EngineError, match="has gone"):
        removal._at_once(work, leases)

    assert set(begun) <= {lease.id for lease in leases}
    assert removal._at_once(work, []) == []


def test_a_network_goes_as_soon_as_its_containers_are_off_it(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.network("net", users=("auth-l1", "redis-l1"))
    for service in ("auth", "redis"):
        fake_engine.container(service)
        fake_engine.refuse[f"containers {service}-l1"] = (500, "device busy")

    outcome = removal.remove(engine, HELD, sleep=no_sleep)

    assert outcome.removed == ["network net"]
    assert [(item.name, item.reason.endswith("device busy")) for item in outcome.left] == [
        ("auth-l1", True), ("redis-l1", True),
    ]  # fmt: skip


def test_a_network_that_only_its_books_say_is_used_is_freed(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.network("net")
    fake_engine.networks["net"]["Containers"]["ep-4711"] = {"Name": "auth-l1"}

    outcome = removal.remove(engine, HELD, sleep=no_sleep)

    assert (outcome.removed, outcome.left) == (["network net"], [])


def test_an_engine_that_cannot_be_asked_who_uses_a_network_is_no_error(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.network("net")
    (network,) = engine.networks([])
    fake_engine.broken = True

    networks.drop_ghosts(engine, network)


def test_a_guest_is_never_taken_off_a_network(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.network("net", users=("stranger",))

    outcome = removal.remove(engine, HELD, sleep=no_sleep)

    assert [str(item) for item in outcome.left] == ["network net: still used by stranger; disconnect or remove it"]
    assert list(fake_engine.networks["net"]["Containers"]) == ["stranger"]


def test_only_removing_everything_ends_the_pools(tmp_path: Path, engine: Engine) -> None:
    stacks = WarmStacks(LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state")})))
    pool = Pool(root=tmp_path, environment="test", size=2)
    stacks.want(pool)

    removal.sweep(stacks.book, engine)
    assert stacks.inventory().pools == [pool]

    removal.sweep(stacks.book, engine, everything=True)
    assert stacks.inventory().pools == []

"""What is another book's, what was stopped, what comes late and what was renamed; on engines of the tests' own."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest
from tests.faults.fault_host import CLEAN, until
from tests.faults.private_hosts import Outpost, outpost

from stackyard import images
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.fault_host import Yard


pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def post_for_all(yard_for_all: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outpost]:
    with outpost(yard_for_all, tmp_path_factory.mktemp("owned") / "state") as made:
        yield made


@pytest.fixture
def post(post_for_all: Outpost) -> Iterator[Outpost]:
    """The outpost; afterwards it must be clean, and nothing else on its engine touched."""
    before = post_for_all.snapshot()
    yield post_for_all
    for lease in post_for_all.book.leases():  # what a failed test left
        if lease.id not in post_for_all.spared:
            post_for_all.invoke("env.down", "--name", lease.id, "--volumes", "--yes")
    assert post_for_all.remains() == CLEAN
    assert post_for_all.snapshot() == before


def test_a_sweep_leaves_the_dev_of_another_book_with_its_data(post: Outpost) -> None:
    state = str(post.state.with_name("other"))
    other, host = {"STACKYARD_STATE_DIR": state}, Settings.load({"STACKYARD_STATE_DIR": state}).host
    own, said, _ = post.invoke("env.up", "--environment", "dev")
    second, told, _ = post.invoke("env.up", "--environment", "dev", env=other)
    theirs = _standing(post, host)
    renewed, _, _ = post.invoke("ports.renew", "--environment", "dev", "--ttl", "1ms")
    swept, out, _ = post.invoke("cleanup.stale", "--volumes")
    left = post.remains()["leases"]
    after = _standing(post, host)
    ended, end, _ = post.invoke("env.down", "--environment", "dev", "--volumes", "--yes", env=other)

    assert (own, second, renewed, swept, ended) == (0, 0, 0, 0, 0), said + told + out + end
    assert {name.split()[0] for name in theirs} == {"container", "network", "volume"}
    assert after == theirs
    assert left == []
    assert _standing(post, host) == []
    assert [name for name in post.standing() if name.startswith("volume")] != []  # our own data is kept
    assert post.invoke("env.down", "--environment", "dev", "--volumes", "--yes")[0] == 0


def _standing(post: Outpost, host: str) -> list[str]:
    """Name everything of the book *host*, with what tells it from one of the same name that was made later."""
    found = post.engine.everything([f"stackyard.host={host}"])
    return sorted(f"{item.kind} {item.name} {item.id}" for item in found)


@pytest.mark.parametrize("words", [("--name", "ended"), ("--environment", "dev")], ids=["test", "dev"])
def test_a_stack_whose_containers_have_all_ended_starts_at_the_first_try(post: Outpost, words: tuple[str, ...]) -> None:
    code, out, _ = post.invoke("env.up", *words)
    assert code == 0, out
    containers = post.engine.containers([f"stackyard.lease={post.book.find(_name(post)).id}"])
    for item in containers:
        post.engine.api.stop(item.id, timeout=0)

    code, out, _ = post.invoke("env.up", *words)
    again = {item.id for item in post.engine.containers([f"stackyard.lease={post.book.find(_name(post)).id}"])}
    ended, said, _ = post.invoke("env.down", "--name", _name(post), "--volumes", "--yes")

    assert code == 0, out
    assert again == {item.id for item in containers}
    assert ended == 0, said


def _name(post: Outpost) -> str:
    (lease,) = (lease for lease in post.book.leases() if lease.id not in post.spared)
    return lease.id


def test_what_the_engine_makes_after_a_start_was_given_up_does_not_stay(
    yard_for_all: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_legacy_filter(tmp_path, monkeypatch)
    with outpost(yard_for_all, tmp_path / "state") as post:
        patience = {"STACKYARD_ENGINE_TIMEOUT": "5s"}
        lock = os.open(tmp_path / "xtables.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)  # the engine waits for it to make a network, as for any busy packet filter
        try:
            code, out, _ = post.invoke("env.up", "--name", "late", env=patience)
            early, said, _ = post.invoke("cleanup.stale", env=patience)
            leased = [lease.parallel_id for lease in post.book.leases()]
        finally:
            os.close(lock)
        until(lambda: any(item.startswith("network") for item in post.standing()))
        later, told, _ = post.invoke("cleanup.stale")

        assert code == 3, out
        assert early in {3, 8}, said
        assert leased == ["control", "late"]
        assert later == 0, told
        assert post.remains() == CLEAN


def _use_legacy_filter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next engine use the packet filter's older programs: only they take a lock that a test can hold."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("iptables", "ip6tables"):
        programs.joinpath(name).symlink_to(f"/usr/sbin/{name}-legacy")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XTABLES_LOCKFILE", str(folder / "xtables.lock"))


def test_a_name_that_was_moved_to_another_image_starts_nothing(yard_for_all: Yard, post: Outpost) -> None:
    redis, postgres = (post.references[f"STACKYARD_IMAGE_{service}"] for service in ("REDIS", "POSTGRES"))
    repository, _, tag = redis.rpartition(":")
    assert images.present("debian", post.engine) is not None
    post.engine.api.tag(postgres, repository, tag, force=True)
    try:
        found = images.present("debian", post.engine)
        code, out, _ = post.invoke("env.up", "--name", "moved", env={"STACKYARD_IMAGE_SOURCE": "registry"})
    finally:
        post.private.load(yard_for_all.engine, [redis])

    assert found is None
    assert code == 6, out  # this engine reaches no registry to build it from
    assert f"image {redis} is another one by now" in out
    assert post.invoke("env.up", "--name", "moved")[0] == 0
    assert post.invoke("env.down", "--name", "moved")[0] == 0

"""What the reaper does about what the book says, with workers that only record what they were asked to do."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from lease_records import Clock, Surroundings
from recorded_workers import PRINT, Child, RecordedWorkers, expire, offer

from stackyard.leases import LeaseBook, Owner
from stackyard.leases.warm import Pool, WarmStacks
from stackyard.reaper import __main__ as program
from stackyard.reaper import jobs
from stackyard.reaper.events import Watch
from stackyard.reaper.loop import LINGER, REFRESH, STRANGE, Reaper
from stackyard.reaper.status import PoolStatus, Status
from stackyard.stacks.reaper_files import Post

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.settings import Settings


def test_a_stale_lease_is_swept_once_and_again_only_after_a_while(
    master: Reaper, clock: Clock, recorded: RecordedWorkers
) -> None:
    expire(master, clock)
    master._turn()
    master._turn()
    assert recorded.doing() == ["sweep"]

    recorded.started[0].code = 3
    assert master._turn() == jobs.FIRST
    assert recorded.doing() == ["sweep"]
    clock.sleep(jobs.FIRST)
    master._turn()
    recorded.started[1].code = 3

    assert master._turn() == 2 * jobs.FIRST


def test_what_cannot_be_removed_does_not_keep_new_ones_waiting(
    master: Reaper, clock: Clock, recorded: RecordedWorkers
) -> None:
    expire(master, clock)
    master._turn()
    recorded.started[0].code = 8
    master._turn()
    expire(master, clock)

    master._turn()

    assert len(recorded.started) == 2


def test_a_removal_that_failed_after_taking_the_lease_over_is_not_tried_again_at_once(
    master: Reaper, clock: Clock, recorded: RecordedWorkers
) -> None:
    lease = expire(master, clock)
    master._turn()
    taken = master.book.take_over(master.book.find(lease))
    assert taken is not None
    master._turn()
    # the sweep has ended, and with it the lease's owner
    recorded.started[0].code = 3
    master.book.transact(lambda db: db.execute("UPDATE leases SET deadline=1"))

    assert master._turn() == jobs.FIRST
    assert len(recorded.started) == 1


def test_a_removal_that_failed_is_not_new_again_because_another_began_since(
    master: Reaper, clock: Clock, recorded: RecordedWorkers
) -> None:
    lease = expire(master, clock)
    master._turn()
    assert master.book.take_over(master.book.find(lease)) is not None
    expire(master, clock)
    master._turn()
    assert len(recorded.started) == 2

    master.book.transact(lambda db: db.execute("UPDATE leases SET deadline=1"))
    master._turn()

    assert len(recorded.started) == 2


def test_a_lease_that_somebody_else_removes_is_waited_for_without_haste(
    master: Reaper, clock: Clock, recorded: RecordedWorkers
) -> None:
    lease = expire(master, clock)
    master._turn()
    master.book.take_over(master.book.find(lease))
    recorded.started[0].code = 0

    assert master._turn() == REFRESH


def test_only_so_many_sweeps_run_at_once(master: Reaper, clock: Clock, recorded: RecordedWorkers) -> None:
    for _ in range(5):
        expire(master, clock)
        master._turn()

    assert len(recorded.started) == jobs.SWEEPS


def test_it_sleeps_until_the_next_deadline(master: Reaper) -> None:
    master.book.acquire(Surroundings(), ttl=7)
    master.book.acquire(Surroundings(), ttl=600)

    assert master._turn() == 7


def test_the_log_says_once_some_minutes_before_that_a_stack_ends(
    master: Reaper, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stackyard")
    lease = master.book.acquire(Surroundings(), parallel_id="mine", ttl=3600)
    master.book.acquire(Surroundings())  # its owner alone ends it
    master._turn()
    assert caplog.messages == []

    clock.sleep(3600 - jobs.NOTICE)
    master._turn()
    clock.sleep(REFRESH)
    master._turn()
    line = f"the test stack of lease mine ({lease.id}) ends in %s unless it is renewed"
    assert caplog.messages == [line % "5 min"]

    master.book.renew(lease.id, 60)
    master._turn()
    assert caplog.messages[1:] == [line % "1 min"]


def test_an_owner_that_cannot_be_watched_is_looked_at_often(master: Reaper) -> None:
    lease = master.book.acquire(Surroundings())
    far = replace(lease.owner, namespace=1)
    master.book.transact(lambda db: db.execute("UPDATE leases SET owner=?", (far.label(),)))

    assert master._turn() == STRANGE


def test_it_ends_some_seconds_after_the_last_lease(master: Reaper, clock: Clock) -> None:
    lease = master.book.acquire(Surroundings())
    assert master._turn() == REFRESH
    clock.sleep(LINGER)
    assert master._turn() == REFRESH
    master.book.release(lease)

    assert master._turn() == LINGER
    clock.sleep(LINGER)
    assert master._turn() is None
    assert master.idle()


def test_it_does_not_end_while_there_is_a_pool_or_a_sweep_runs(
    master: Reaper, clock: Clock, recorded: RecordedWorkers, project: Path
) -> None:
    pool = Pool(root=project, environment="test", size=1)
    master.stacks.want(pool)
    master._turn()
    clock.sleep(LINGER)
    assert master._turn() == REFRESH
    master.stacks.want(replace(pool, size=0))
    lease = expire(master, clock)
    master._turn()
    master.book.release(master.book.find(lease))
    clock.sleep(LINGER)
    assert master._turn() == LINGER

    recorded.started[-1].code = 0
    clock.sleep(LINGER)
    assert master._turn() is None


def test_it_serves_until_there_is_nothing_left_to_do(master: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float | None] = [3.0, 0.0, None]
    waits: list[float] = []
    monkeypatch.setattr(master, "_turn", lambda: pauses.pop(0))
    monkeypatch.setattr(master.watch, "wait", waits.append)
    monkeypatch.setattr(master, "_say_farewell", lambda: pytest.fail("it was not asked to end"))

    master.serve()

    assert (waits, pauses) == ([3.0, 0.0], [])


@pytest.mark.parametrize("ending", [True, False])
def test_a_reaper_whose_place_another_has_removes_no_warm_stacks(
    master: Reaper, place: Post, monkeypatch: pytest.MonkeyPatch, ending: bool
) -> None:
    monkeypatch.setattr(master, "_say_farewell", lambda: pytest.fail("its place is another's"))
    place.lock.unlink()
    place.lock.touch()
    master.watch.ending = ending

    master.serve()


def test_at_its_end_it_waits_for_its_own_leases_and_for_sweeps_alone(
    master: Reaper, clock: Clock, recorded: RecordedWorkers
) -> None:
    assert not master._still_removing()
    master.book.acquire(Surroundings(), ttl=600)
    assert not master._still_removing()
    own = master.book.acquire(Surroundings())
    assert master._still_removing()
    master.book.release(own)
    over = master.book.find(expire(master, clock))
    assert master._still_removing()
    master.book.release(over)
    assert master._still_removing()
    recorded.started[-1].code = 0
    assert not master._still_removing()


def test_a_pool_is_filled_one_after_another(master: Reaper, recorded: RecordedWorkers, project: Path) -> None:
    master.stacks.want(Pool(root=project, environment="test", size=2))
    for count in (1, 2):
        master._turn()
        master._turn()
        assert len(recorded.started) == count
        assert list(recorded.started[-1].words[3:]) == ["warm", str(project), "test", Owner.current().label()]
        offer(master, project)
        recorded.started[-1].code = 0
    master._turn()

    assert len(recorded.started) == 2
    assert [item.ready for item in PoolStatus.every(master.stacks.inventory())] == [2]


def test_the_pool_that_lacks_most_comes_first(master: Reaper, recorded: RecordedWorkers, project: Path) -> None:
    master.stacks.want(Pool(root=project, environment="alpine-test", size=1))
    master.stacks.want(Pool(root=project, environment="test", size=3))

    master._turn()

    assert recorded.started[0].words[5] == "test"


def test_a_start_that_fails_is_tried_later_and_does_not_stop_another_pool(
    master: Reaper, recorded: RecordedWorkers, clock: Clock, project: Path
) -> None:
    master.stacks.want(Pool(root=project, environment="test", size=2))
    master._turn()
    recorded.started[0].code = 7
    master.stacks.want(Pool(root=project, environment="alpine-test", size=1))
    master._turn()

    assert [child.words[5] for child in recorded.started] == ["test", "alpine-test"]
    assert master._told is not None
    assert "exit code 7" in master._told.trouble
    recorded.started[1].code = 0
    offer_id = master.book.acquire(replace(Surroundings(), name="alpine-test"), force=True)
    master.stacks.offer(offer_id, root=project, fingerprint=PRINT, keeper=Owner.current())
    assert master._turn() == jobs.FIRST
    clock.sleep(jobs.FIRST)
    master._turn()
    assert recorded.started[-1].words[5] == "test"


def test_a_start_that_fails_does_not_stop_the_same_environment_of_another_project(
    master: Reaper, recorded: RecordedWorkers, project: Path, tmp_path: Path
) -> None:
    for root in (project, tmp_path):
        master.stacks.want(Pool(root=root, environment="test", size=1))
    for _ in range(3):
        master._turn()
        recorded.started[-1].code = 7

    assert {child.words[4] for child in recorded.started} == {str(project), str(tmp_path)}
    assert len(recorded.started) == 2


def test_of_a_smaller_pool_the_oldest_stack_is_removed_and_no_other(
    master: Reaper, clock: Clock, recorded: RecordedWorkers, project: Path
) -> None:
    master.stacks.want(Pool(root=project, environment="test", size=2))
    old = offer(master, project)
    clock.sleep(1)
    new = offer(master, project)
    master.stacks.want(Pool(root=project, environment="test", size=1))
    over = expire(master, clock)

    for _ in range(2):
        master._turn()
        assert recorded.doing() == ["sweep"]  # one for all that is to go
    assert {lease.id for lease in master.book.stale()} == {old, over}
    assert [warm.lease.id for warm in master.stacks.inventory().warm] == [new]


def test_the_pool_of_a_project_that_is_gone_ends(master: Reaper, recorded: RecordedWorkers, tmp_path: Path) -> None:
    master.stacks.want(Pool(root=tmp_path / "gone", environment="test", size=2))

    master._turn()

    assert recorded.started == []
    assert master.idle()


def test_asked_to_end_it_has_its_warm_stacks_removed(master: Reaper, recorded: RecordedWorkers, project: Path) -> None:
    master.stacks.want(Pool(root=project, environment="test", size=2))
    offer(master, project)
    master._turn()
    master.watch.ending = True

    def sweep(_seconds: float) -> bool:
        for lease in master.book.stale():
            master.book.release(lease)
        for child in recorded.started:
            child.code = 0
        return True

    master.watch.wait = sweep  # type: ignore[method-assign, assignment] # what its workers would have done in the meantime
    master.serve()

    assert recorded.doing() == ["warm", "sweep"]
    assert recorded.started[0].told
    assert master.book.leases() == []


def test_asked_to_end_it_waits_for_a_start_that_needs_a_moment_to_end(
    master: Reaper, recorded: RecordedWorkers, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Child, "terminate", lambda child: setattr(child, "told", True))
    master.stacks.want(Pool(root=project, environment="test", size=1))
    master._turn()
    master.watch.ending = True
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 2:
            recorded.started[0].code = -15
        return True

    master.watch.wait = wait  # type: ignore[method-assign] # the start ends meanwhile
    master.serve()

    assert (recorded.started[0].told, len(waits)) == (True, 2)


def test_a_book_that_cannot_be_read_ends_it_after_some_tries(
    master: Reaper, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.state_dir.chmod(0o777)
    pauses = [master._turn() for _ in range(5)]
    settings.state_dir.chmod(0o700)

    assert pauses == [2, 4, 8, 16, None]
    assert "others may write to the state directory" in caplog.text
    assert master._turn() == LINGER
    settings.state_dir.chmod(0o777)
    assert master._turn() == 2
    settings.state_dir.chmod(0o700)


def test_a_notice_that_cannot_be_written_stops_no_sweep(
    master: Reaper, clock: Clock, recorded: RecordedWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire(master, clock)
    monkeypatch.setattr(Post, "tell", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    assert master._turn() == 2
    assert recorded.doing() == ["sweep"]


def test_it_ends_when_its_directory_is_gone(master: Reaper, place: Post, settings: Settings) -> None:
    for path in settings.state_dir.iterdir():
        path.unlink()
    settings.state_dir.rmdir()

    master.serve()

    assert not settings.state_dir.exists()
    assert not place.is_mine()


def test_it_tells_what_it_keeps_and_only_when_that_changes(
    master: Reaper, place: Post, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = master.book.acquire(Surroundings(), ttl=60)
    warm = offer(master, project)
    master.stacks.want(Pool(root=project, environment="test", size=1))
    master._turn()

    status = Status.read(place)

    assert (status.running, status.pid) == (True, os.getpid())
    assert (status.watched, status.warm) == ([lease.id], [warm])
    assert status.rss_bytes is not None
    assert status.pss_bytes is not None
    assert status.rss_bytes >= status.pss_bytes > 1_000_000
    assert place.notice.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(Post, "tell", lambda *_: pytest.fail("nothing has changed"))
    master._turn()


class _Ended(Reaper):
    """One that finds nothing to do."""

    def serve(self) -> None:
        return


@pytest.fixture
def _alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(settings.state_dir))
    monkeypatch.setattr(program, "Reaper", _Ended)
    monkeypatch.setattr(os, "nice", lambda _by: 0)
    monkeypatch.setattr(Watch, "listen", lambda _watch: None)
    monkeypatch.setattr(program, "log_to_stderr", lambda: None)


@pytest.mark.usefixtures("_alone")
def test_the_program_leaves_nothing_but_its_log(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o700)

    assert program.main() == 0
    assert not Post(settings.state_dir).is_taken()
    assert not Post(settings.state_dir).notice.exists()


@pytest.mark.usefixtures("_alone", "place")
def test_the_program_ends_at_once_where_there_is_one_already() -> None:
    assert program.main() == 0


@pytest.mark.usefixtures("_alone")
def test_the_program_takes_an_older_ones_place(holder: Callable[..., subprocess.Popen[str]]) -> None:
    child = holder("0.0.1+1")

    assert program.main() == 0
    assert child.wait(120) == -signal.SIGTERM


@pytest.mark.usefixtures("_alone")
def test_the_program_says_in_one_line_what_is_wrong_with_its_place(
    caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    assert program.main() == 1
    assert str(settings.state_dir) in caplog.text


@pytest.mark.usefixtures("_alone")
def test_a_lease_granted_while_it_leaves_calls_it_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.state_dir.mkdir(mode=0o700)
    book = LeaseBook(settings)
    lease = book.acquire(Surroundings(), force=True)
    served = []

    def serve(master: Reaper) -> None:
        served.append(master)
        if len(served) == 2:
            book.release(lease)

    monkeypatch.setattr(_Ended, "serve", serve)

    assert program.main() == 0
    assert len(served) == 2


def test_warm_stacks_are_counted_for_the_pool_they_fit(master: Reaper, project: Path, tmp_path: Path) -> None:
    offer(master, tmp_path)
    master.stacks.want(Pool(root=project, environment="test", size=3))

    found = PoolStatus.every(WarmStacks(master.book).inventory())

    assert [asdict(item) for item in found] == [
        {"environment": "test", "root": str(project), "size": 3, "ready": 0}
    ]  # fmt: skip


def test_of_the_warm_stacks_of_a_pool_the_oldest_are_too_many_and_of_no_pool_all() -> None:
    def warm(identity: str, of: str) -> Any:
        return SimpleNamespace(lease=SimpleNamespace(id=identity), fits=lambda pool: pool.environment == of)

    found = [warm("a1", "a"), warm("b1", "b"), warm("a2", "a"), warm("c1", "c"), warm("a3", "a")]
    pools: Any = [SimpleNamespace(environment="a", size=2), SimpleNamespace(environment="b", size=4)]

    assert jobs.excess(pools, found) == {"a1", "c1"}
    assert jobs.excess([], found) == {"a1", "a2", "a3", "b1", "c1"}

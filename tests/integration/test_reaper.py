"""Real reapers over real stacks: what they remove, what they keep warm, and that killing one breaks nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from stackyard.cleanup import removal
from stackyard.docker.lease_book import open_book
from stackyard.leases.warm import Pool, WarmStacks
from stackyard.project.environments import Environment
from stackyard.reaper.status import Status
from stackyard.settings import Settings
from stackyard.stacks.environments.launch import launch
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.reaper_files import Post
from stackyard.stacks.reaper_launch import wake
from stackyard.stacks.starts.request import EnvironmentRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

CHECKOUT = Path(__file__).parents[2]

# a run as any program has it; it says which lease it has and how the stack came about, and lives on
RUN = """
import sys, time
from stackyard.docker import Engine
from stackyard.project.environments import Environment
from stackyard.stacks.environments.launch import launch
from stackyard.docker.lease_book import open_book
from stackyard.stacks.starts.request import EnvironmentRequest
engine = Engine()
book = open_book(None, engine)
stack, startup = launch(Environment.load("test"), book, engine, EnvironmentRequest(deadline=280))
print("up", stack.lease.id, startup.by, flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class Yard:
    """A lease book of its own with a reaper, and the engine everybody shares."""

    book: LeaseBook
    engine: Engine
    environment: Environment
    post: Post

    @property
    def stacks(self) -> WarmStacks:
        return WarmStacks(self.book)

    def run(self, script: str = RUN) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own

    def started(self, child: subprocess.Popen[str]) -> tuple[str, str]:
        """Wait until a run has its stack; return its lease and how the stack came about."""
        assert child.stdout is not None
        _, lease, by = child.stdout.readline().split()
        return lease, by

    def launch(self, **words: Any) -> Stack:
        return launch(
            self.environment, self.book, self.engine, EnvironmentRequest(deadline=280, progress=print, **words)
        )[0]

    def leased(self, identifier: str) -> bool:
        return identifier in {lease.id for lease in self.book.leases()}

    def standing(self, identifier: str) -> list[str]:
        return [item.name for item in self.engine.everything([f"stackyard.lease={identifier}"])]

    def pool(self, size: int) -> None:
        self.stacks.want(Pool(root=self.environment.root, environment="test", size=size))

    def fill(self, size: int) -> list[str]:
        """Keep that many warm stacks, wait for them, and return their leases, oldest first."""
        self.pool(size)
        wake(self.book.settings)
        until(lambda: len(self.stacks.inventory().warm) == size)
        return [item.lease.id for item in self.stacks.inventory().warm]

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep the reaper from doing anything; it is not in the book when it stops, so it holds no lock of it."""
        pid = self.pid
        self.book.transact(lambda _: os.kill(pid, signal.SIGSTOP))
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        until(lambda: Status.read(self.post).pid is not None)
        found = Status.read(self.post).pid
        assert found is not None
        return found


def until(check: Callable[[], object], *, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(0.05)


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


@pytest.fixture
def yard(tmp_path: Path, engine: Engine, images: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    del images  # built by now, which no reaper would do
    first = 25000 + 500 * (os.getpid() % 9)  # two of these at once on one machine: each its own pool
    for name, value in {
        "STATE_DIR": str(tmp_path / "state"), "POOL": f"{first}-{first + 199}", "REAPER": "on",
        "POOL_SUBNETS": f"10.217.{os.getpid() % 64 * 4}.0/22",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"STACKYARD_{name}", value)
    settings = Settings.load()
    made = Yard(open_book(None, engine), engine, Environment.load("test"), Post(settings.state_dir))
    yield made
    for pool in made.stacks.inventory().pools:
        made.stacks.want(Pool(root=pool.root, environment=pool.environment, size=0))
    made.post.dismiss()
    assert removal.remove_all(settings).left == []
    assert made.engine.everything([f"stackyard.host={settings.host}"]) == []


def test_the_first_stack_starts_one_and_it_ends_after_the_last(yard: Yard) -> None:
    stack = yard.launch()
    master = psutil.Process(yard.pid)
    group, session = os.getpgid(master.pid), os.getsid(master.pid)
    twice = wake(yard.book.settings)
    memory = Status.read(yard.post).rss_bytes
    files = {item.path for item in master.open_files()}
    stack.down()
    until(lambda: not yard.post.is_taken())

    assert (group, session) == (master.pid, master.pid)
    assert not twice
    assert memory is not None
    assert memory < 30 << 20
    assert files <= {str(yard.post.log), str(yard.post.lock), str(yard.post.directory / "book.sqlite3")}
    assert yard.post.log.stat().st_mode & 0o777 == 0o600
    assert not yard.post.notice.exists()


def test_a_killed_owners_stack_is_gone_within_seconds(yard: Yard) -> None:
    control = yard.launch()
    before = {state.id: state.started_at for state in control.status()}
    child = yard.run()
    lease, _ = yard.started(child)
    began = time.monotonic()
    kill(child)
    until(lambda: not yard.leased(lease))
    took = time.monotonic() - began

    assert yard.standing(lease) == []
    assert {state.id: state.started_at for state in control.status()} == before
    began = time.monotonic()
    control.down()
    by_hand = time.monotonic() - began  # 0.4 s where nothing else runs: then this is the promise, 10 s
    assert took < 5 + 12 * by_hand


def test_a_start_that_is_killed_half_way_leaves_nothing_even_if_it_was_to_stay(yard: Yard) -> None:
    script = RUN.replace("deadline=280", 'deadline=280, ttl=3600, name="mine"')
    child = yard.run(script)
    until(lambda: any(yard.standing(lease.id) for lease in yard.book.leases()))
    lease = yard.book.find("mine").id
    kill(child)
    until(lambda: not yard.leased(lease))

    assert yard.standing(lease) == []


def test_the_same_name_is_started_again_right_after_its_starter_was_killed(yard: Yard) -> None:
    yard.launch()  # keeps the reaper busy with something else than its end
    with yard.stopped():
        script = RUN.replace("deadline=280", 'deadline=280, ttl=3600, name="mine"')
        child = yard.run(script)
        until(lambda: any(lease.parallel_id and yard.standing(lease.id) for lease in yard.book.leases()))
        kill(child)
        stack = yard.launch(ttl=3600, name="mine")

    assert stack.lease.owner.kind == "detached"
    assert httpx.get(f"{stack.lease.url('backend')}/readyz").status_code == 200
    time.sleep(2)
    assert httpx.get(f"{stack.lease.url('backend')}/readyz").status_code == 200


def test_a_passed_deadline_ends_a_stack(yard: Yard) -> None:
    stack = yard.launch(ttl=2)

    until(lambda: not yard.leased(stack.lease.id))

    assert yard.standing(stack.lease.id) == []


def test_a_killed_reaper_is_followed_by_another(yard: Yard) -> None:
    child = yard.run()
    lease, _ = yard.started(child)
    first = yard.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: not yard.post.is_taken())
    kill(child)
    control = yard.launch()
    until(lambda: not yard.leased(lease))

    assert yard.pid != first
    assert yard.standing(lease) == []
    assert yard.leased(control.lease.id)


def test_an_engine_that_is_away_is_waited_for(yard: Yard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lease = yard.book.acquire(yard.environment, ttl=0.5)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    wake(yard.book.settings)
    until(lambda: "no engine answers" in yard.post.log.read_text())
    assert yard.leased(lease.id)
    (tmp_path / "docker.sock").symlink_to("/var/run/docker.sock")

    until(lambda: not yard.leased(lease.id))


def test_twenty_wakers_start_one(yard: Yard) -> None:
    lease = yard.book.acquire(yard.environment)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(wake, [yard.book.settings] * 20))
    first = yard.pid
    time.sleep(3)  # the others have found the lock held, and ended
    lines = [line for line in yard.post.log.read_text().splitlines() if "begins" in line]

    assert yard.pid == first
    assert len(lines) == 1
    yard.book.release(lease)


def test_an_older_reaper_makes_way(yard: Yard) -> None:
    yard.launch()
    first = yard.pid
    assert not wake(yard.book.settings)
    notice = json.loads(yard.post.notice.read_text())
    yard.post.notice.write_text(json.dumps(notice | {"code": "0.0.1+1"}))

    assert wake(yard.book.settings)
    until(lambda: yard.post.is_taken() and (found := Status.read(yard.post).pid) is not None and found != first)
    until(lambda: not psutil.pid_exists(first))
    assert len(yard.book.leases()) == 1


def test_it_ends_when_its_state_directory_is_deleted(yard: Yard, tmp_path: Path) -> None:
    lease = yard.book.acquire(yard.environment)
    wake(yard.book.settings)
    master = yard.pid
    shutil.rmtree(tmp_path / "state")

    until(lambda: not psutil.pid_exists(master))
    assert not (tmp_path / "state").exists()
    yard.book.release(lease)


def test_it_keeps_no_pipe_of_its_starter_open(yard: Yard) -> None:
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as child:  # fmt: skip
        yard.started(child)
        pipes = {Path(f"/proc/{child.pid}/fd/{number}").readlink() for number in range(3)}
        held = {path.readlink() for path in Path(f"/proc/{yard.pid}/fd").iterdir()}
        apart = os.getsid(yard.pid) != os.getsid(child.pid)
        child.kill()

    assert len(pipes) == 3
    assert not pipes & held
    assert apart


def test_switched_off_the_next_command_does_its_work(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKYARD_REAPER", "off")
    child = yard.run()
    lease, by = yard.started(child)
    kill(child)

    assert by == "engine"
    assert not yard.post.is_taken()
    assert yard.leased(lease)
    assert removal.remove_stale().leases == [lease]


def test_a_warm_stack_is_taken_used_once_and_replaced(yard: Yard) -> None:
    warm = yard.fill(1)

    stack, startup = launch(
        yard.environment, yard.book, yard.engine, EnvironmentRequest(deadline=280, fixed="prefer", progress=print)
    )
    answer = httpx.get(f"{stack.lease.url('backend')}/readyz")
    until(lambda: len(yard.stacks.inventory().warm) == 1)
    following = [item.lease.id for item in yard.stacks.inventory().warm]
    outcome = stack.down()

    assert ([stack.lease.id], startup.by, answer.status_code) == (warm, "pool", 200)
    assert following != warm
    assert (outcome.left, outcome.leases) == ([], warm)


def test_a_warm_stack_has_credentials_no_other_has(yard: Yard) -> None:
    yard.fill(2)
    one, two = yard.launch(), yard.launch()

    assert {*one.lease.secrets()}.isdisjoint(two.lease.secrets())
    assert one.lease.url("postgres") != two.lease.url("postgres")


def test_a_taken_stack_lives_and_dies_with_its_taker(yard: Yard) -> None:
    warm = yard.fill(1)
    child = yard.run()
    lease, by = yard.started(child)
    yard.pool(0)
    os.kill(yard.pid, signal.SIGKILL)
    until(lambda: not yard.post.is_taken())

    # the reaper that made it has died, its taker has not
    assert lease not in removal.remove_stale().leases
    assert ([lease], by) == (warm, "pool")
    assert yard.leased(lease)
    kill(child)
    assert lease in removal.remove_stale().leases
    assert yard.standing(lease) == []


def test_a_taken_stack_survives_the_loss_of_the_book_and_of_everything(yard: Yard, tmp_path: Path) -> None:
    yard.fill(1)
    stack = yard.launch()
    yard.pool(0)
    yard.post.dismiss()
    (tmp_path / "state" / "book.sqlite3").unlink()
    assert removal.remove_stale().leases == []
    from_files = yard.book.find(stack.lease.id)

    shutil.rmtree(tmp_path / "state")
    assert removal.remove_stale().leases == []
    from_labels = open_book(None, yard.engine).find(stack.lease.id)

    assert from_files.owner == stack.lease.owner
    assert from_labels.owner.kind == "detached"
    assert httpx.get(f"http://127.0.0.1:{stack.lease.ports['backend']}/readyz").status_code == 200


def test_a_reaper_killed_while_it_warms_leaves_nothing_to_the_next_command(yard: Yard) -> None:
    yard.pool(1)
    wake(yard.book.settings)
    until(lambda: any(yard.standing(lease.id) for lease in yard.book.leases()))
    os.kill(yard.pid, signal.SIGKILL)
    until(lambda: not yard.post.is_taken())
    yard.pool(0)
    until(lambda: all(lease.is_stale(time.time()) for lease in yard.book.leases()))

    removal.remove_stale()

    assert yard.book.leases() == []
    assert yard.engine.everything([f"stackyard.host={yard.book.host}"]) == []


def test_warm_stacks_whose_reaper_was_killed_are_removed_by_the_next(yard: Yard) -> None:
    warm = yard.fill(1)
    os.kill(yard.pid, signal.SIGKILL)
    until(lambda: not yard.post.is_taken())
    wake(yard.book.settings)

    until(lambda: (found := yard.stacks.inventory().warm) and found[0].lease.id != warm[0])
    until(lambda: not yard.leased(warm[0]))
    assert yard.standing(warm[0]) == []


def test_a_warm_stack_that_has_died_is_replaced_by_a_fresh_start(yard: Yard) -> None:
    warm = yard.fill(1)
    stack = Stack(yard.environment, yard.book.find(warm[0]), yard.book, yard.engine)
    with yard.stopped():  # it would remove what no pool wants
        yard.pool(0)
        yard.engine.api.kill(stack.container("redis").id)
        fresh, startup = launch(
            yard.environment, yard.book, yard.engine, EnvironmentRequest(deadline=280, progress=print)
        )

    assert startup.by == "engine"
    assert fresh.lease.id != warm[0]
    assert not yard.leased(warm[0])
    assert yard.standing(warm[0]) == []


def test_a_change_of_the_project_makes_its_warm_stacks_useless(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    for part in ("envs", "compose"):
        shutil.copytree(CHECKOUT / part, root / part, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    monkeypatch.setenv("STACKYARD_ROOT", str(root))
    environment = Environment.load("test", root)
    yard.stacks.want(Pool(root=root, environment="test", size=1))
    wake(yard.book.settings)
    until(lambda: len(yard.stacks.inventory().warm) == 1)
    old = yard.stacks.inventory().warm[0]
    file = root / "compose" / "docker-compose.unified.yml"
    file.write_text(file.read_text().replace("shm_size: 32m", "shm_size: 33m"))

    _, startup = launch(environment, yard.book, yard.engine, EnvironmentRequest(deadline=280, progress=print))
    until(lambda: not yard.leased(old.lease.id))
    until(lambda: len(yard.stacks.inventory().warm) == 1)

    assert startup.by == "engine"
    assert yard.stacks.inventory().warm[0].fingerprint != old.fingerprint


@pytest.mark.timeout(1800)  # builds images where they are missing
def test_a_run_that_finds_no_place_gets_a_warm_stacks(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    first = int(os.environ["STACKYARD_POOL"].split("-")[0])
    monkeypatch.setenv("STACKYARD_POOL", f"{first}-{first + 9}")
    tight = open_book(None, yard.engine)
    yard.stacks.want(Pool(root=yard.environment.root, environment="test", size=1))
    wake(tight.settings)
    until(lambda: len(yard.stacks.inventory().warm) == 1)
    alpine = Environment.load("alpine-test")
    said: list[str] = []

    stack, startup = launch(alpine, tight, yard.engine, EnvironmentRequest(deadline=280, progress=said.append))

    assert startup.by == "engine"
    assert stack.lease.slot == 0
    assert any("needs its place" in line for line in said)
    assert yard.stacks.inventory().warm == []


def test_a_named_stack_comes_from_the_pool_too_and_stays(yard: Yard) -> None:
    warm = yard.fill(1)
    with yard.stopped():  # it would remove what no pool wants
        yard.pool(0)
        stack = yard.launch(ttl=3600, name="mine")
        again = yard.launch(ttl=3600, name="mine")

    assert [stack.lease.id] == warm
    assert again.lease.id == stack.lease.id
    assert stack.lease.owner.kind == "detached"
    ids = {state.id for state in stack.status()}
    assert {state.id for state in again.status()} == ids

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from fake_docker import install_docker
from fake_probes import Answering, Silent, replace_probes

from stackyard.environments import Environment
from stackyard.errors import CommandError, LeaseNotFoundError, NotReadyError, UsageError
from stackyard.leases import LeaseBook
from stackyard.settings import Settings
from stackyard.stacks import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.engine import Engine

SERVICES = {"postgres", "redis", "auth", "backend", "websocket"}


@pytest.fixture
def book(tmp_path: Path) -> LeaseBook:
    settings = {"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_START": "compose"}
    return LeaseBook(Settings.load(settings))


@pytest.fixture
def stack(book: LeaseBook, engine: Engine, fake_engine: FakeEngine) -> Stack:
    fake_engine.host = book.host
    environment = Environment.load("test")
    return Stack(environment, book.acquire(environment), book, engine)


@pytest.fixture
def _answering(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_probes(monkeypatch, Answering)


@pytest.fixture
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_probes(monkeypatch, Silent)


@pytest.mark.usefixtures("_answering")
def test_a_stack_is_ready_when_compose_is_done_and_every_probe_has_passed(stack: Stack, tmp_path: Path) -> None:
    calls = install_docker(tmp_path, "exit 0")

    startup = stack.up()

    assert set(startup.probes) == SERVICES
    assert startup.seconds >= max(startup.probes.values())
    assert startup.seconds >= startup.created
    assert "at-once.yml" in calls.read_text()


@pytest.mark.usefixtures("_silent")
def test_a_start_that_times_out_explains_itself_and_leaves_nothing(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    install_docker(tmp_path, "exit 0")
    secret = stack.lease.variables()["STACKYARD_JWT_KEY"]
    fake_engine.container("auth", stack.lease.id)["log"] = f"key {secret}\n".encode()

    with pytest.raises(NotReadyError) as caught:
        stack.up(deadline=0.5)

    text = str(caught.value)
    assert "not ready after 0" in text
    assert "auth: running, exit code 0, health none\n  | key ***" in text
    assert secret not in text
    assert text.endswith("everything it made was removed; to look inside: invoke env.up --environment test --keep")
    assert fake_engine.containers == {}


@pytest.mark.usefixtures("_silent")
def test_a_service_that_ended_fails_the_start_long_before_the_deadline(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    install_docker(tmp_path, "exit 0")
    fake_engine.container("auth", stack.lease.id, Status="exited", ExitCode=3)

    with pytest.raises(NotReadyError, match=r"service auth is exited \(exit code 3, health none\)"):
        stack.up(deadline=60)


@pytest.mark.usefixtures("_silent")
def test_a_failed_start_is_kept_when_asked_to(stack: Stack, tmp_path: Path, fake_engine: FakeEngine) -> None:
    install_docker(tmp_path, "exit 0")
    fake_engine.container("auth", stack.lease.id, Status="exited")

    with pytest.raises(NotReadyError, match=f"invoke env.down --lease {stack.lease.id}"):
        stack.up(deadline=60, keep=True)

    assert len(fake_engine.containers) == 1


@pytest.mark.usefixtures("_silent")
def test_a_refusal_by_compose_is_reported_with_its_words(stack: Stack, tmp_path: Path) -> None:
    install_docker(tmp_path, "echo 'No such image: x' >&2; exit 1")

    with pytest.raises(NotReadyError, match=r"(?s)exit code 1.*No such image: x.*no container was created"):
        stack.up(deadline=60)


@pytest.mark.usefixtures("_silent")
def test_a_stolen_port_removes_what_was_made_and_is_left_to_the_caller(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    install_docker(tmp_path, "echo 'Bind failed: port is already allocated' >&2; exit 1")
    fake_engine.container("auth", stack.lease.id)

    with pytest.raises(CommandError, match="port is already allocated"):
        stack.up(deadline=60)

    assert fake_engine.containers == {}


def test_an_interrupt_removes_what_was_made(
    stack: Stack, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine.container("auth", stack.lease.id)

    async def interrupt(_stack: Stack, _limit: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stack, "_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stack.up()

    assert fake_engine.containers == {}


def test_down_removes_everything_and_gives_the_lease_back(stack: Stack, fake_engine: FakeEngine) -> None:
    for service in ("redis", "auth"):
        fake_engine.container(service, stack.lease.id)
    fake_engine.volume("data", stack.lease.id)

    removal = stack.down()

    assert (len(removal.removed), removal.leases) == (3, [stack.lease.id])
    with pytest.raises(LeaseNotFoundError):
        stack.book.find(stack.lease.id)


def test_down_keeps_the_lease_while_something_is_left(
    stack: Stack, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackyard.cleanup.PAUSE", 0)
    fake_engine.network("net", stack.lease.id, users=("stranger",))
    fake_engine.refuse["networks net"] = (403, "has active endpoints")

    removal = stack.down()

    assert [str(item) for item in removal.left] == ["network net: still used by stranger"]
    assert stack.book.find(stack.lease.id) == stack.lease


def test_status_and_memory_are_sorted_by_service(stack: Stack, fake_engine: FakeEngine) -> None:
    for service in ("redis", "auth"):
        fake_engine.container(service, stack.lease.id)
    fake_engine.container("auth", "another")

    assert [state.service for state in stack.status()] == ["auth", "redis"]
    assert [(name, use and use.used) for name, use in stack.memory().items()] == [
        ("auth", 20 << 20),
        ("redis", 20 << 20),
    ]


def test_an_unknown_service_lists_the_known(stack: Stack, fake_engine: FakeEngine) -> None:
    fake_engine.container("redis", stack.lease.id)

    stack.restart("redis")
    with pytest.raises(UsageError, match="no service 'mysql'; its services: redis"):
        stack.restart("mysql")


@pytest.mark.usefixtures("_answering")
def test_waiting_returns_each_probes_seconds(stack: Stack) -> None:
    assert set(stack.wait(deadline=5)) == SERVICES


def test_an_engine_that_stumbles_while_asked_for_trouble_is_no_trouble(stack: Stack, fake_engine: FakeEngine) -> None:
    fake_engine.broken = True

    assert stack._trouble() is None


def test_exec_splits_words_without_a_shell(stack: Stack, tmp_path: Path, fake_engine: FakeEngine) -> None:
    calls = install_docker(tmp_path, "exit 7")
    fake_engine.container("redis", stack.lease.id)

    assert stack.exec("redis", "echo '$(id)' b") == 7
    assert calls.read_text().split("exec ")[1].strip() == "-T redis echo $(id) b"
    with pytest.raises(UsageError, match="cannot be split"):
        stack.exec("redis", "'")


@pytest.mark.usefixtures("_silent")
def test_a_stack_that_stood_before_survives_a_failed_start(
    book: LeaseBook, fake_engine: FakeEngine, engine: Engine, tmp_path: Path
) -> None:
    environment, fake_engine.host = Environment.load("test"), book.host
    lease = book.acquire(environment, ttl=60)
    fake_engine.container("redis", lease.id)
    install_docker(tmp_path, "exit 0")
    stack = Stack(environment, lease, book, engine)

    with pytest.raises(NotReadyError, match="kept for you to look at"):
        stack.up(deadline=0.3)

    assert stack.stood_before
    assert list(fake_engine.containers) == [f"redis-{lease.id}"]


@pytest.mark.usefixtures("_answering")
def test_a_lease_that_another_command_ended_is_not_started(stack: Stack, tmp_path: Path) -> None:
    install_docker(tmp_path, "exit 0")
    stack.book.release(stack.lease)

    with pytest.raises(LeaseNotFoundError, match="was ended by another command"):
        stack.up()


@pytest.mark.usefixtures("_answering")
def test_a_stack_starts_outside_the_main_thread_too(stack: Stack, tmp_path: Path) -> None:
    install_docker(tmp_path, "exit 0")

    with ThreadPoolExecutor(1) as pool:
        assert set(pool.submit(stack.up).result().probes) == SERVICES

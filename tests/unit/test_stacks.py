from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from fake_docker import install_docker
from fake_probes import Answering, Silent, replace_probes

from stackyard.errors import CommandError, LeaseNotFoundError, NotReadyError, UsageError
from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.docker import Engine

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
    assert "not ready after " in text  # how long it took depends on the load
    assert "auth: running\n  | key ***" in text
    assert secret not in text
    assert text.endswith(
        "everything that the start made was removed; to keep it for inspection: invoke env.up --environment test --keep"
    )
    assert fake_engine.containers == {}


@pytest.mark.usefixtures("_silent")
def test_a_service_that_ended_fails_the_start_long_before_the_deadline(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    install_docker(tmp_path, "exit 0")
    fake_engine.container("auth", stack.lease.id, Status="exited", ExitCode=3)

    with pytest.raises(NotReadyError, match="service auth is exited, exit code 3"):
        stack.up(deadline=60)


@pytest.mark.usefixtures("_silent")
def test_a_failed_start_is_kept_when_asked_to(stack: Stack, tmp_path: Path, fake_engine: FakeEngine) -> None:
    install_docker(tmp_path, "exit 0")
    fake_engine.container("auth", stack.lease.id, Status="exited")

    with pytest.raises(NotReadyError, match=f"invoke env.down --name {stack.lease.id}"):
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


@pytest.mark.parametrize("keep", [True, False])
def test_an_interrupt_leaves_a_stack_that_is_to_be_kept(
    stack: Stack, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    fake_engine.container("auth", stack.lease.id)

    async def interrupt(_stack: Stack, _limit: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stack, "_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stack.up(keep=keep)

    assert bool(fake_engine.containers) is keep


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
    monkeypatch.setattr("stackyard.cleanup.removal.PAUSE", 0)
    fake_engine.network("net", stack.lease.id, users=("stranger",))
    fake_engine.refuse["networks net"] = (403, "has active endpoints")

    removal = stack.down()

    assert [str(item) for item in removal.left] == ["network net: still used by stranger; disconnect or remove it"]
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
    assert calls.read_text().strip() == f"exec --interactive redis-{stack.lease.id} echo $(id) b"
    with pytest.raises(UsageError, match="cannot be split"):
        stack.exec("redis", "'")


def test_exec_refuses_a_service_that_does_not_run(stack: Stack, tmp_path: Path, fake_engine: FakeEngine) -> None:
    calls = install_docker(tmp_path, "exit 7")
    fake_engine.container("redis", stack.lease.id, Status="exited", ExitCode=3)

    with pytest.raises(NotReadyError, match=r"^redis of .* does not run \(exited, exit code 3\); no command"):
        stack.exec_output("redis", "ls")
    assert not calls.exists()


@pytest.mark.usefixtures("_silent")
def test_a_stack_that_stood_before_survives_a_failed_start(
    book: LeaseBook, fake_engine: FakeEngine, engine: Engine, tmp_path: Path
) -> None:
    environment, fake_engine.host = Environment.load("test"), book.host
    lease = book.acquire(environment, ttl=60)
    fake_engine.container("redis", lease.id)
    install_docker(tmp_path, "exit 0")
    stack = Stack(environment, lease, book, engine)

    with pytest.raises(NotReadyError, match="kept for you to inspect"):
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


def test_a_stack_is_dealt_with_whatever_has_become_of_its_files(
    stack: Stack, tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKYARD_ROOT", str(tmp_path / "no such checkout"))
    monkeypatch.setattr(Environment, "load", lambda *_: pytest.fail("a file was read"))
    install_docker(tmp_path, "exit 7")
    fake_engine.container("redis", stack.lease.id)["log"] = b"one\n"

    found = Stack.of(stack.lease, stack.book, stack.engine)

    assert [state.service for state in found.status()] == ["redis"]
    assert found.engine.logs(found.container("redis").id) == "one\n"
    assert found.exec("redis", "true") == 7
    found.restart("redis")
    assert found.down().leases == [stack.lease.id]


def test_a_stack_knows_the_environment_of_its_checkout(stack: Stack) -> None:
    found = Stack.of(stack.lease, stack.book, stack.engine)

    assert found.environment == stack.environment
    assert stack.lease.checkout == str(stack.environment.root)


def test_one_that_had_one_thing_to_do_and_has_done_it_is_well(stack: Stack, fake_engine: FakeEngine) -> None:
    fake_engine.container("migrate", stack.lease.id, Status="exited", ExitCode=0)
    assert stack._trouble() is None
    assert all(map(stack.is_well, stack.status()))

    fake_engine.container("migrate", stack.lease.id, Status="exited", ExitCode=1)
    assert stack._trouble() == "service migrate is exited, exit code 1"

    fake_engine.container("migrate", stack.lease.id, Status="exited", ExitCode=0)
    fake_engine.container("auth", stack.lease.id, Status="exited", ExitCode=0)
    assert stack._trouble() == "service auth is exited, exit code 0"


def test_a_service_that_somebody_added_without_our_labels_is_shown_and_removed(
    stack: Stack, fake_engine: FakeEngine
) -> None:
    for service, lease in (("added", stack.lease.id), ("stranger", "another")):
        row = fake_engine.container(service, lease)
        row["labels"] = {
            "com.docker.compose.service": service,
            "com.docker.compose.project": stack.lease.project if service == "added" else f"{stack.lease.project}x",
        }

    assert [state.service for state in stack.status()] == ["added"]
    assert stack.down().removed == [f"container added-{stack.lease.id}"]
    assert list(fake_engine.containers) == ["stranger-another"]


@pytest.mark.parametrize(("yes", "data", "refused"), [(False, True, True), (True, True, False), (False, False, False)])
def test_a_reset_of_kept_data_must_be_agreed_to(
    book: LeaseBook, engine: Engine, monkeypatch: pytest.MonkeyPatch, yes: bool, data: bool, refused: bool
) -> None:
    environment = Environment.load("dev" if data else "test")
    stack = Stack(environment, book.acquire(environment, ttl=60, force=True), book, engine)
    done: list[str] = []
    monkeypatch.setattr("stackyard.stacks.environments.resets.reset", lambda *_: done.append("reset"))

    if refused:
        with pytest.raises(UsageError, match="environment dev keeps its data"):
            stack.reset(yes=yes)
    else:
        stack.reset(yes=yes)

    assert done == ([] if refused else ["reset"])


@pytest.mark.parametrize("work", ["up", "reset"])
def test_nothing_is_done_to_a_stack_that_another_command_has_ended(stack: Stack, work: str) -> None:
    stack.book.release(stack.lease)

    with pytest.raises(LeaseNotFoundError, match="was ended by another command"):
        getattr(stack, work)()


@pytest.mark.parametrize(("volumes", "left"), [(False, ["data"]), (True, [])])
def test_down_keeps_data_that_is_kept_unless_it_is_named(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, volumes: bool, left: list[str]
) -> None:
    environment, fake_engine.host = Environment.load("dev"), book.host
    stack = Stack(environment, book.acquire(environment, ttl=60, force=True), book, engine)
    fake_engine.container("redis", stack.lease.id)
    fake_engine.volume("data", stack.lease.id)

    removal = stack.down(volumes=volumes)

    assert list(fake_engine.volumes) == left
    assert removal.leases == [stack.lease.id]


@pytest.mark.usefixtures("_silent")
@pytest.mark.parametrize("reason", ["not ready", "port is already allocated", "interrupted"])
def test_no_failed_start_takes_data_that_is_kept(
    book: LeaseBook,
    engine: Engine,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    reason: str,
) -> None:
    environment, fake_engine.host = Environment.load("dev"), book.host
    install_docker(tmp_path, "exit 0")
    stack = Stack(environment, book.acquire(environment, ttl=60, force=True), book, engine)
    fake_engine.network("net", stack.lease.id)
    fake_engine.volume("data", stack.lease.id)

    async def fail(_stack: Stack, _limit: float) -> None:
        raise {
            "not ready": NotReadyError(reason), "interrupted": KeyboardInterrupt(), "port is already allocated":
            CommandError(["docker"], 1, reason),
        }[reason]  # fmt: skip

    monkeypatch.setattr(Stack, "_start", fail)
    with pytest.raises((NotReadyError, CommandError, KeyboardInterrupt)):
        stack.up()

    assert (list(fake_engine.networks), list(fake_engine.volumes)) == ([], ["data"])


def test_an_interrupt_leaves_a_stack_that_stood_before(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, fake_engine.host = Environment.load("test"), book.host
    stack = Stack(environment, book.acquire(environment, ttl=60, force=True), book, engine)
    fake_engine.container("redis", stack.lease.id)

    async def interrupt(_stack: Stack, _limit: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stack, "_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stack.up()

    assert len(fake_engine.containers) == 1

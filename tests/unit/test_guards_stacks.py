"""What a stack does to data and to other commands: a quick test for each guard in front of a loss."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from stackyard._util import process
from stackyard._util.event_loops import run, unwound_first
from stackyard._util.task_group import run_all
from stackyard.cleanup import removal
from stackyard.cleanup.outcome import Removal
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.ownership import Holdings
from stackyard.errors import LeaseNotFoundError, NotReadyError, UsageError
from stackyard.leases import LeaseBook, Owner
from stackyard.probes import HttpProbe, probe_for
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments import launch
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.starts.request import EnvironmentRequest

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.docker import Engine


@pytest.fixture
def book(tmp_path: Path) -> LeaseBook:
    return LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_START": "compose"}))


def stack_of(name: str, book: LeaseBook, engine: Any = None) -> Stack:
    environment = Environment.load(name)
    engine = engine or SimpleNamespace(endpoint=Endpoint())
    return Stack(environment, book.acquire(environment, ttl=60, force=True), book, engine)


@pytest.fixture
def stack(book: LeaseBook) -> Stack:
    return stack_of("test", book)


@pytest.mark.parametrize(
    ("name", "words", "kept"),
    [
        ("dev", {}, True), ("dev", {"volumes": False}, True), ("dev", {"volumes": True}, False),
        ("test", {}, False), ("test", {"volumes": True}, False),
    ],
)  # fmt: skip
def test_down_takes_kept_data_only_if_asked_to(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, name: str, words: dict[str, bool], kept: bool
) -> None:
    stack = stack_of(name, book, engine=object())
    given: list[object] = []
    monkeypatch.setattr(removal, "remove_lease", lambda *things, keep_volumes: given.extend([*things, keep_volumes]))

    stack.down(**words)

    assert given == [book, stack.engine, stack.lease, kept]


def test_a_reset_takes_kept_data_only_if_asked_to(book: LeaseBook, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[object, ...]] = []
    monkeypatch.setattr("stackyard.stacks.environments.resets.reset", lambda *words: done.append(words))
    stack = stack_of("dev", book)

    with pytest.raises(UsageError, match="environment dev keeps its data, and a reset deletes it"):
        stack.reset()
    assert done == []
    stack.reset(yes=True)

    url = stack.lease.url
    rest = {"auth": url("auth"), "backend": url("backend")}
    assert done == [(url("postgres"), url("redis"), rest)]


async def test_a_database_is_made_in_the_stacks_own_postgres(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str | None]] = []

    async def aclone(url: str, name: str | None) -> None:
        made.append((url, name))

    monkeypatch.setattr("stackyard.stacks.environments.databases.clone", lambda url, name: made.append((url, name)))
    monkeypatch.setattr("stackyard.stacks.environments.databases.aclone", aclone)
    stack.database("mine")
    stack.database()
    await stack.adatabase("mine")
    await stack.adatabase()

    url = stack.lease.url("postgres")
    assert made == [(url, "mine"), (url, None), (url, "mine"), (url, None)]


@pytest.mark.parametrize(
    ("stdin", "stdout", "options"),
    [(True, True, ["--interactive", "--tty"]), (True, False, ["--interactive"]), (False, True, ["--interactive"])],
)
def test_a_command_has_a_terminal_only_where_both_ends_are_one(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch,
    stdin: bool, stdout: bool, options: list[str],
) -> None:  # fmt: skip
    fake_engine.host = book.host
    stack = stack_of("test", book, engine)
    name = f"redis-{stack.lease.id}"
    fake_engine.container("redis", stack.lease.id)
    given: list[tuple[list[str], bool]] = []

    def passthrough(command: list[str], *, inherit: bool = True) -> int:
        given.append((command, inherit))
        return 7

    monkeypatch.setattr(process, "passthrough", passthrough)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: stdin))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: stdout))

    assert stack.exec("redis", "redis-cli 'a b'") == 7
    assert given == [(["docker", "exec", *options, name, "redis-cli", "a b"], False)]


def test_the_output_of_a_command_comes_back_whatever_its_exit_code(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine.host = book.host
    stack = stack_of("test", book, engine)
    fake_engine.container("redis", stack.lease.id)
    given: list[tuple[list[str], float, bool]] = []

    def run(command: list[str], *, deadline: float, check: bool = True) -> None:
        given.append((command, deadline, check))

    monkeypatch.setattr(process, "run", run)
    stack.exec_output("redis", "redis-cli")
    stack.exec_output("redis", "redis-cli", deadline=3)

    command = ["docker", "exec", f"redis-{stack.lease.id}", "redis-cli"]
    assert given == [(command, 3600.0, False), (command, 3, False)]


def test_a_wait_ends_with_the_first_trouble(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    async def wait(probes: list[object], **words: Any) -> SimpleNamespace:
        given.append(words | {"probes": len(probes)})
        return SimpleNamespace(seconds={"redis": 0.5})

    monkeypatch.setattr("stackyard.probes.wait_until_ready", wait)

    assert stack.wait(deadline=3) == {"redis": 0.5}
    assert given == [{"deadline": 3, "stop": stack._trouble, "probes": 5}]


def test_a_stack_that_is_not_up_has_no_service_and_says_so(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine
) -> None:
    fake_engine.host = book.host
    stack = stack_of("test", book, engine)

    with pytest.raises(UsageError, match="its services: none: it is not up"):
        stack.container("redis")
    fake_engine.container("redis", stack.lease.id)
    fake_engine.container("auth", stack.lease.id)
    with pytest.raises(UsageError, match=r"its services: auth, redis$"):
        stack.container("other")


def test_the_websocket_is_asked_as_a_browser_would_ask(stack: Stack) -> None:
    probe: Any = stack.probes()[-1]

    assert (type(probe).__name__, probe.service) == ("WebSocketProbe", "websocket")
    assert (probe.url, probe.origin) == (
        stack.lease.url("websocket"), stack.lease.variables()["STACKYARD_ALLOWED_ORIGIN"]
    )  # fmt: skip


@pytest.mark.parametrize("name", ["dev", "test"])
def test_a_failed_start_is_cleared_but_for_kept_data(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stack = stack_of(name, book, engine=object())
    remove = Mock(return_value=Removal(removed=["container a"]))
    settle = Mock()
    monkeypatch.setattr(removal, "remove", remove)
    monkeypatch.setattr("stackyard.docker.unanswered_requests.settle", settle)

    stack._clear()

    remove.assert_called_once_with(stack.engine, stack.holdings, keep_volumes=name == "dev")
    settle.assert_called_once_with(stack.lease, ["container a"])


def test_a_start_knows_what_stands_already(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack._standing = [SimpleNamespace(kind="container")]  # type: ignore[list-item]
    stack.engine = object()  # type: ignore[assignment]
    given: list[object] = []

    class Start:
        def __init__(self, *things: object, standing: object) -> None:
            given.extend([*things[1:], standing])

        async def run(self, probes: list[object], *, limit: float, trouble: object) -> str:
            given.extend([len(probes), limit, trouble])
            return "started"

    monkeypatch.setattr("stackyard.stacks.environments.stack.Start", Start)

    assert asyncio.run(stack._start(7.0)) == "started"  # type: ignore[comparison-overlap]
    assert given == [stack.lease, stack.engine, stack.book.settings, stack._standing, 5, 7.0, stack._trouble]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_work_in_order_and_then_reaches_its_handler(number: signal.Signals) -> None:
    events: list[object] = []
    before = signal.signal(number, lambda told, _frame: events.append(told))

    async def work() -> Any:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            events.append("ended")

    try:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(unwound_first(work()))
        assert events == ["ended", number]
        os.kill(os.getpid(), number)
        assert events == ["ended", number, number]
    finally:
        signal.signal(number, before)


def test_a_handler_that_ends_the_program_in_the_midst_of_a_task_leaves_nothing_for_asyncio_to_print(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(143)

    async def part() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(30)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit):
            run(run_all(part(), asyncio.sleep(30)))
    finally:
        signal.signal(signal.SIGTERM, before)

    gc.collect()
    assert caplog.text == ""


def test_work_without_a_signal_leaves_the_handlers_as_they_were() -> None:
    async def work() -> Any:
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    during: Any = asyncio.run(unwound_first(work()))

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
    assert [now is not then for now, then in zip(during, before, strict=True)] == [callable(then) for then in before]


def test_another_thread_leaves_signals_to_the_main_one() -> None:
    async def work() -> Any:
        return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor() as pool:
        found: Any = pool.submit(lambda: asyncio.run(unwound_first(work()))).result()
    assert found is signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize("last", [True, False])
def test_a_start_waits_for_its_turn_unless_the_stack_stands(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    turn, progress = Mock(), Mock()
    monkeypatch.setattr("stackyard.stacks.environments.stack.turn", turn)
    monkeypatch.setattr(stack, "_found", lambda: None)

    assert stack._turn(progress, last=last) is turn.return_value
    turn.assert_called_once_with(stack.book.settings, last=last, progress=progress)
    stack.stood_before = True
    with stack._turn(progress, last=last) as waited:
        assert waited == 0.0
    assert turn.call_count == 1


@pytest.mark.parametrize(("words", "limit"), [({}, None), ({"deadline": 7.0}, 7.0)])
@pytest.mark.parametrize(("keep", "stood", "kept"), [(False, False, False), (True, False, True), (False, True, True)])
def test_a_start_looks_at_what_stands_and_keeps_what_it_is_asked_to(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, words: Any, limit: float | None, keep: bool, stood: bool, kept: bool
) -> None:
    standing: list[Any] = [SimpleNamespace(kind="container")]
    up, startup = Mock(), Mock()
    up.return_value = startup
    monkeypatch.setattr(stack, "_turn", lambda _progress, *, last: contextlib.nullcontext(2.5 if last else 0.5))
    monkeypatch.setattr(stack, "_found", lambda: standing)
    monkeypatch.setattr(stack, "_up", up)
    stack.stood_before, stack._fresh = stood, True

    assert stack.up(keep=keep, last=True, **words) is startup.after.return_value

    up.assert_called_once_with(stack.environment.budget.startup_s if limit is None else limit, keep=kept)
    startup.after.assert_called_once_with(2.5)
    assert (stack._standing, stack._fresh) == (standing, False)


def test_a_new_stack_is_of_the_environment_that_is_given_and_nothing_of_it_stands(book: LeaseBook) -> None:
    environment = Environment.load("test")
    stack = Stack(environment, book.acquire(environment, ttl=60, force=True), book, Mock())

    assert stack.environment is environment
    assert stack.stood_before is False
    assert stack._standing == []


@pytest.mark.parametrize(("words", "last"), [({}, False), ({"last": False}, False), ({"last": True}, True)])
def test_a_start_goes_last_only_if_asked_to_and_says_what_it_waits_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, words: dict[str, bool], last: bool
) -> None:
    turn, progress = Mock(return_value=contextlib.nullcontext(0.0)), Mock()
    monkeypatch.setattr(stack, "_turn", turn)
    monkeypatch.setattr(stack, "_found", list)
    monkeypatch.setattr(stack, "_up", Mock())

    stack.up(progress=progress, **words)

    turn.assert_called_once_with(progress, last=last)


def test_only_a_fresh_lease_needs_no_list_of_what_stands(stack: Stack) -> None:
    listed = Mock(return_value=[SimpleNamespace(kind="network")])
    stack.holdings = SimpleNamespace(everything=listed)  # type: ignore[assignment]

    stack._fresh = True
    assert (stack._found(), stack.stood_before, listed.call_count) == ([], False, 0)
    stack._fresh = False
    assert (stack._found(), stack.stood_before) == (listed.return_value, False)
    listed.return_value = [SimpleNamespace(kind="network"), SimpleNamespace(kind="container")]
    stack._found()
    assert stack.stood_before is True
    listed.assert_called_with(stack.engine)


def test_a_container_without_a_service_is_known_by_its_name(
    book: LeaseBook, engine: Engine, fake_engine: FakeEngine
) -> None:
    fake_engine.host = book.host
    stack = stack_of("test", book, engine)
    del fake_engine.container("redis", stack.lease.id)["labels"]["com.docker.compose.service"]

    assert stack.container(f"redis-{stack.lease.id}").id == f"redis-{stack.lease.id}"


def test_a_service_that_says_where_it_is_ready_is_asked_there_and_any_other_in_its_own_way(stack: Stack) -> None:
    with stack.lease.env_file.open("a") as file:
        file.write("STACKYARD_BACKEND_READY=/ready\n")

    found = {probe.service: probe for probe in stack.probes()}

    assert found.keys() == stack.lease.urls().keys()
    asked = found["backend"]
    assert isinstance(asked, HttpProbe)
    assert (asked.url, asked.path) == (stack.lease.urls()["backend"], "/ready")
    assert found["auth"] == probe_for("auth", stack.lease.urls()["auth"])


@pytest.mark.parametrize("name", ["dev", "test"])
@pytest.mark.parametrize(
    ("owner", "reused", "goes"),
    [
        (Owner.current(), True, True), (Owner.current(), False, False),
        (Owner.detached(), True, False), (Owner.detached(), False, False),
    ],
)  # fmt: skip
def test_only_what_a_killed_start_left_under_the_same_lease_is_removed_before_a_start(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, name: str, owner: Owner, reused: bool, goes: bool
) -> None:
    environment, engine, remove = Environment.load(name), Mock(), Mock()
    lease = replace(book.acquire(environment, ttl=60, force=True), owner=owner, reused=reused)
    monkeypatch.setattr(removal, "remove", remove)
    monkeypatch.setattr(launch._Launch, "_lease", lambda _launch: lease)

    stack = launch._Launch(environment, book, engine, EnvironmentRequest()).place()

    assert (stack.lease, stack.stood_before) == (lease, False)
    asked = [(engine, Holdings.of(book.host, lease))] * goes
    assert [given.args for given in remove.call_args_list] == asked
    assert [given.kwargs for given in remove.call_args_list] == [{"keep_volumes": name == "dev"}] * goes


@pytest.mark.parametrize(
    ("error", "keep", "stood", "goes"),
    [
        (NotReadyError("a"), False, False, True), (NotReadyError("a"), False, True, False),
        (NotReadyError("a"), True, False, False), (LeaseNotFoundError("a"), False, False, False),
        (KeyboardInterrupt(), False, False, True), (KeyboardInterrupt(), False, True, False),
        (KeyboardInterrupt(), True, False, False),
    ],
)  # fmt: skip
def test_a_failed_start_ends_only_a_stack_that_it_has_made_and_is_not_to_keep(
    book: LeaseBook, error: BaseException, keep: bool, stood: bool, goes: bool
) -> None:
    environment = Environment.load("test")
    lease, down = book.acquire(environment, ttl=60, force=True), Mock(return_value=Removal())
    stack: Any = SimpleNamespace(lease=lease, stood_before=stood, down=down)
    launched = launch._Launch(environment, book, Mock(), EnvironmentRequest(keep=keep))

    with pytest.raises(type(error)), launched.ending(stack):
        raise error

    assert down.called is goes


@pytest.mark.parametrize("name", ["dev", "test"])
def test_only_a_stack_that_keeps_no_data_may_move_to_another_place(
    book: LeaseBook, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    placed = Mock()
    monkeypatch.setattr(launch, "placed", placed)

    launch.start_in_place(stack_of(name, book), EnvironmentRequest())

    assert placed.call_args.kwargs == {"title": name, "movable": name == "test"}

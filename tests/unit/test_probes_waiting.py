from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from stackyard.errors import EngineError, NotReadyError
from stackyard.probes import HttpProbe, Probe, wait_until_ready


@dataclass(kw_only=True)
class Scripted:
    """A probe that fails as asked, then passes; counts how often it runs at the same time as another."""

    service: str = "it"
    failures: list[Exception] = field(default_factory=list)

    async def check(self) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)


class Never:
    """A probe that gets no answer."""

    service = "never"

    def __init__(self) -> None:
        self.cancelled = 0

    async def check(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1


async def test_no_probes_are_ready_at_once() -> None:
    readiness = await wait_until_ready([], deadline=5)

    assert (readiness.seconds, readiness.attempts) == ({}, {})


async def test_whatever_a_probe_raises_means_not_yet() -> None:
    errors = [NotReadyError("x"), OSError(113, "No route"), TimeoutError(), ValueError("odd"), EOFError(), KeyError()]
    probes = [Scripted(service="a", failures=[*errors]), Scripted(service="b")]

    readiness = await wait_until_ready(probes, deadline=20, interval=0)

    assert readiness.attempts == {"a": 7, "b": 1}
    assert list(readiness.seconds) == ["a", "b"]


async def test_seconds_count_from_the_start_of_the_wait_by_the_given_clock() -> None:
    ticks = iter([100.0, 100.5, 107.25])

    readiness = await wait_until_ready([Scripted(service="a")], deadline=20, clock=lambda: next(ticks))

    assert readiness.seconds == {"a": 0.5}


async def test_a_server_that_comes_up_later_is_found() -> None:
    attempts = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 3:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if attempts > 6 else b"HTTP/1.1 503 Wait\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    waiting = asyncio.create_task(
        wait_until_ready([HttpProbe(service="auth", url=f"http://127.0.0.1:{port}")], deadline=20, interval=0.001)
    )
    await asyncio.sleep(0.02)
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        readiness = await waiting

    assert attempts == 7
    assert readiness.attempts["auth"] > 7


async def test_the_deadline_names_each_missing_service_with_its_last_failure() -> None:
    never = Never()
    refused = Scripted(service="mail", failures=[ConnectionRefusedError(111, "refused")] * 100_000)
    probes: list[Probe] = [Scripted(service="redis"), refused, never]
    ticks = iter([100.0, 100.05, 100.1])

    with pytest.raises(NotReadyError) as caught:
        await wait_until_ready(probes, deadline=0.5, clock=lambda: next(ticks))

    first, mail, last = str(caught.value).splitlines()
    assert first == "not ready after 0.1 s: mail, never"
    assert mail.startswith("  mail: connection refused (attempt ")
    assert last == "  never: no answer yet (attempt 1)"
    assert never.cancelled == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_attempt_is_given_up_after_a_second_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackyard.probes.waiting.ATTEMPT", 0.01)
    never = Never()

    with pytest.raises(NotReadyError, match=r"never: no answer within 0\.\d+ s"):
        await wait_until_ready([never], deadline=60, interval=0.001, stop=lambda: "ok" if never.cancelled > 1 else None)


async def test_a_service_that_is_only_slow_gets_more_time_at_each_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackyard.probes.waiting.ATTEMPT", 0.02)

    class Slow:
        service = "slow"

        async def check(self) -> None:
            await asyncio.sleep(0.07)

    readiness = await wait_until_ready([Slow()], deadline=60, interval=0.001)

    assert readiness.attempts["slow"] > 1


async def test_a_reason_to_stop_ends_the_wait_long_before_the_deadline() -> None:
    threads: list[int] = []
    reasons = iter([None, "service auth exited with code 1"])

    def stop() -> str | None:
        threads.append(threading.get_ident())
        return next(reasons)

    with pytest.raises(NotReadyError, match="s: never; service auth exited with code 1\n"):
        await wait_until_ready([Never()], deadline=60, stop=stop)

    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_engine_that_does_not_answer_ends_the_wait_with_its_own_words() -> None:
    def stop() -> str | None:
        raise EngineError("the engine does not answer")

    with pytest.raises(EngineError, match="the engine does not answer"):
        await wait_until_ready([Never()], deadline=60, stop=stop)


async def test_readiness_wins_over_a_stop_that_never_answers() -> None:
    over = threading.Event()

    def stop() -> str | None:
        over.wait(60)
        return "too late"

    try:
        readiness = await wait_until_ready(
            [Scripted(failures=[NotReadyError("x")] * 3)], deadline=60, interval=0.1, stop=stop
        )
    finally:
        over.set()

    assert readiness.attempts == {"it": 4}


async def test_a_service_is_first_tried_once_its_gate_opens() -> None:
    opened = {"a": asyncio.Event(), "b": asyncio.Event()}
    tried: list[str] = []

    @dataclass
    class Noting:
        service: str

        async def check(self) -> None:
            tried.append(self.service)
            opened["a"].set()

    opened["b"].set()
    probes = [Noting("a"), Noting("b")]

    readiness = await wait_until_ready(probes, deadline=20, gate=lambda service: opened[service].wait())

    assert tried == ["b", "a"]
    assert readiness.attempts == {"a": 1, "b": 1}


async def test_a_gate_that_fails_ends_the_wait_with_its_own_words() -> None:
    async def gate(service: str) -> None:
        if service == "it":
            await asyncio.sleep(0.01)
            raise EngineError(f"no container for {service}")

    with pytest.raises(EngineError, match="no container for it"):
        await wait_until_ready([Never(), Scripted()], deadline=60, gate=gate)

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_wait_leaves_no_task() -> None:
    never = Never()
    waiting = asyncio.create_task(wait_until_ready([never], deadline=60))
    await asyncio.sleep(0.01)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert never.cancelled == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failure_is_reported_in_one_printable_line() -> None:
    probe = Scripted(failures=[ValueError("two\nlines\tand " + "much " * 100)] * 100_000)

    with pytest.raises(NotReadyError) as caught:
        await wait_until_ready([probe], deadline=0.5, interval=0.001)

    _, line = str(caught.value).splitlines()
    assert line.startswith("  it: ValueError: two lines and much")
    assert len(line) < 200

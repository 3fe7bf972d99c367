"""Memory and resets measured on fake stacks."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.bench import host_memory, resets
from stackyard.errors import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Host:
    """A host whose stacks take memory and whose arena counts them."""

    def __init__(self, *, limit: int = 100) -> None:
        self.standing = 0
        self.most = 0
        self.looks = 0
        self.limit = limit
        self.calls: list[str] = []

    @contextlib.contextmanager
    def open(self, name: str, _say: Any) -> Iterator[Host]:
        self.calls.append(f"open {name}")
        yield self

    @contextlib.contextmanager
    def stack(self) -> Iterator[Any]:
        def note(name: str) -> Any:
            return lambda: self.calls.append(name)

        database = SimpleNamespace(drop=note("drop"))
        yield SimpleNamespace(
            environment=SimpleNamespace(variables={}),
            up=self.up,
            reset=note("reset"),
            database=lambda: (note("database")(), database)[1],
        )
        self.standing -= 1

    def up(self) -> None:
        if self.standing >= self.limit:
            raise NotReadyError("not ready")
        self.standing += 1
        self.most = max(self.most, self.standing)

    def available(self) -> int:
        """A first stack takes more than the others; each third look meets somebody else's process."""
        self.looks += 1
        other = 50_000_000 if self.looks % 3 == 0 else 0
        return 1_000_000_000 - 70_000_000 * self.standing - 30_000_000 * (self.standing > 0) - other


def test_each_stack_but_the_first_is_a_sample_and_passing_processes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    slept: list[float] = []
    monkeypatch.setattr(host_memory, "Arena", host)

    found = host_memory.measure(4, name="alpine-test", available=host.available, sleep=slept.append)

    assert found == [70_000_000] * 4
    assert (host.most, host.standing) == (5, 0)
    assert host.calls == ["open alpine-test"]
    assert slept.count(host_memory.SETTLED) == 5


def test_the_hosts_own_estimate_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "Arena", Host())

    (taken,) = host_memory.measure(1, sleep=lambda _seconds: None)

    assert abs(taken) < 2**40  # nothing was started; whatever else the host does may show


def test_a_start_that_fails_leaves_no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(limit=2)
    monkeypatch.setattr(host_memory, "Arena", host)

    with pytest.raises(NotReadyError):
        host_memory.measure(4, available=host.available, sleep=lambda _seconds: None)


def test_another_ways_stacks_are_started_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    monkeypatch.setattr(host_memory, "Arena", host)
    way = SimpleNamespace(
        surroundings=lambda _variables: contextlib.nullcontext(), prepare=lambda _stack: host.calls.append("prepare"),
        up=lambda _stack: host.up(),
    )  # fmt: skip

    found = host_memory.measure(2, way=way, available=host.available, sleep=lambda _: None)  # type: ignore[arg-type]

    assert (found, host.calls) == ([70_000_000] * 2, ["open test", *["prepare"] * 3])


def test_resets_and_databases_are_timed_and_the_first_ones_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    monkeypatch.setattr(resets, "Arena", host)

    found = resets.measure(5)

    rounds = 5 + resets.WARM_UP
    assert host.calls == ["open test", *["reset"] * rounds, *["database", "drop"] * rounds]
    assert {row: len(samples) for row, samples in found.items()} == {"reset": 5, "database": 5, "database_dropped": 5}
    assert all(0 <= sample < 1 for samples in found.values() for sample in samples)

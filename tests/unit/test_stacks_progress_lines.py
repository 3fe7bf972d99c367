"""The progress lines of a start: when it prints one, and what the line contains."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from stackyard.probes.readiness_rules import Rule
from stackyard.stacks.readiness import progress_lines
from stackyard.stacks.readiness.progress_lines import Narration, Reasons, reminding
from stackyard.stacks.readiness.waiting import ServiceReady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RULES = {name: Rule(service=name, kind="tcp", why=f"{name}'s rule") for name in ("db", "web")}


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress_lines, "time", made)
    return made


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def at(clock: Clock, told: list[str]) -> Callable[..., list[str]]:
    """Let the narration look at a time, in seconds since its begin; return what it tells then."""
    made = Narration(told.append, clock.now, clock.now + 120)

    def look(seconds: float, *ready: str, later: Sequence[str] = (), **reasons: str) -> list[str]:
        clock.now = 1000.0 + seconds
        for name in ready:
            made.ready(ServiceReady(service=name, rule=RULES[name], seconds=seconds, how="port 1 listens"))
        made.waits(lambda: Reasons(reasons, later), RULES)
        lines = told[:]
        told.clear()
        return lines

    return look


def test_a_short_start_is_not_reported(at: Callable[..., list[str]]) -> None:
    assert at(0.1, web="port 1 does not listen", db="x") == []
    assert at(1.9, "db", "web") == []


def test_a_long_start_tells_who_is_ready_and_who_is_waited_for_and_by_which_rule(at: Callable[..., list[str]]) -> None:
    assert at(1.0, "db", web="not started yet") == []
    assert at(2.1, web="port 1 does not listen") == [
        "db is ready after 1.00 s (tcp): port 1 listens",
        "waiting for web, 2 s of at most 2 min: port 1 does not listen (web's rule)",
    ]


def test_several_services_have_a_line_each(at: Callable[..., list[str]]) -> None:
    lines = ["waiting for web, db, 2 s of at most 2 min:", "  web: a (web's rule)", "  db: b (db's rule)"]
    assert at(2.4, web="a", db="b") == ["\n".join(lines)]


def test_services_that_have_not_begun_share_a_line(at: Callable[..., list[str]]) -> None:
    assert at(2.4, web="a", later=["db", "job"]) == [
        "waiting for web, 2 s of at most 2 min: a (web's rule)\n  also waiting for db, job"
    ]


def test_before_anything_has_begun_only_that_is_reported(at: Callable[..., list[str]]) -> None:
    assert at(2.4, later=["db", "job"]) == ["waiting for the start of db, job, 2 s of at most 2 min"]


def test_a_service_that_becomes_ready_is_reported_at_once(at: Callable[..., list[str]]) -> None:
    at(3, web="a", db="b")

    assert at(3.1, "db", web="a") == ["db is ready after 3.10 s (tcp): port 1 listens"]
    assert at(9, "web") == ["web is ready after 9.00 s (tcp): port 1 listens"]


def test_a_new_reason_is_reported_but_not_each_time(at: Callable[..., list[str]]) -> None:
    at(3, web="a")

    assert at(4, web="b") == []
    assert at(7.5, web="b") == ["waiting for web, 8 s of at most 2 min: b"]
    assert at(8.2, web="c") == []


def test_without_news_there_is_a_reminder_every_ten_seconds(at: Callable[..., list[str]]) -> None:
    at(3, web="a")
    spoken = [second for second in range(4, 40) if at(float(second), web="a")]

    assert spoken == [13, 23, 33]


def test_reasons_are_looked_at_only_now_and_then(clock: Clock) -> None:
    looks: list[float] = []
    made = Narration(print, clock.now, clock.now + 120)

    def look() -> Reasons:
        looks.append(clock.now)
        return Reasons({})

    for _ in range(1000):
        clock.now += 0.01
        made.waits(look, RULES)

    assert len(looks) <= 17


def test_one_long_step_is_reported_again_and_again_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_lines, "REMINDER", 0.001)
    told: list[str] = []
    twice = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        if len(told) > 1:
            twice.set()

    with reminding(tell, "building"):
        assert twice.wait(30)
    count = len(told)

    assert set(told) == {"still building, 0 s so far"}
    assert len(told) == count

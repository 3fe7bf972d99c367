"""Whether a container does anything, by its processor time."""

from __future__ import annotations

import asyncio

import pytest

from stackyard.errors import EngineError
from stackyard.probes.idleness import Idleness


class Used:
    """Processor time that a test sets; None is an engine that does not answer."""

    def __init__(self) -> None:
        self.seconds: float | None = 0.0
        self.asked = 0

    async def __call__(self) -> float:
        self.asked += 1
        if self.seconds is None:
            raise EngineError("no answer")
        return self.seconds


@pytest.fixture
def used() -> Used:
    return Used()


def measured(idleness: Idleness, used: Used, *points: tuple[float, float | None]) -> None:
    for now, seconds in points:
        used.seconds = seconds
        asyncio.run(idleness.measure(now))


def test_one_measurement_tells_nothing(used: Used) -> None:
    idleness = Idleness(used)
    measured(idleness, used, (0.0, 5.0))

    assert not idleness.idle
    assert idleness.still_since == 0.0


@pytest.mark.parametrize(("spent", "idle"), [(0.0, True), (0.049, True), (0.051, False), (1.0, False)])
def test_a_container_is_idle_below_a_twentieth_of_a_processor(used: Used, spent: float, *, idle: bool) -> None:
    idleness = Idleness(used)
    measured(idleness, used, (0.0, 5.0), (1.0, 5.0 + spent))

    assert idleness.idle is idle


def test_it_is_measured_once_a_second(used: Used) -> None:
    idleness = Idleness(used)
    measured(idleness, used, *((number / 10, 1.0) for number in range(35)))

    assert used.asked == 4


def test_asking_now_and_then_is_as_good_as_doing_nothing(used: Used) -> None:
    idleness = Idleness(used)
    measured(idleness, used, *((float(second), 5.0 + 0.005 * second) for second in range(40)))

    assert idleness.still_since == 0.0


def test_a_starting_program_is_not_still_even_on_a_host_that_gives_it_little(used: Used) -> None:
    idleness = Idleness(used)
    measured(idleness, used, *((float(second), 5.0 + 0.04 * second) for second in range(40)))

    assert idleness.idle
    assert idleness.still_since is not None
    assert idleness.still_since > 35


def test_an_engine_that_does_not_answer_begins_it_again(used: Used) -> None:
    idleness = Idleness(used)
    measured(idleness, used, (0.0, 1.0), (1.0, 1.0), (2.0, None))

    assert not idleness.idle
    assert idleness.still_since is None


def test_what_was_measured_can_be_forgotten(used: Used) -> None:
    idleness = Idleness(used)
    measured(idleness, used, (0.0, 1.0), (1.0, 1.0))
    idleness.forget()
    measured(idleness, used, (1.1, 1.0))

    assert not idleness.idle
    assert idleness.still_since == 1.1

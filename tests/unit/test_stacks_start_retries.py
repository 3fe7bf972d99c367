"""Attempts to start: what a failure says, what it leaves, and how often another place is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackyard.errors import CommandError, LeaseNotFoundError, LeftoversError, NotReadyError, RefusedError
from stackyard.stacks.diagnostics import REMOVED
from stackyard.stacks.starts.retries import TRIES, failing, placed

if TYPE_CHECKING:
    from collections.abc import Sequence

PORT = CommandError(["docker", "compose"], 1, "Bind failed: port is already allocated")
SUBNET = RefusedError("Pool overlaps with other one on this address space")


class Attempts:
    """Fails with each of *errors* in turn, then starts; notes what each attempt gets."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.told: list[list[str]] = []

    def __call__(self, lost: Sequence[str]) -> str:
        self.told.append([*lost])
        if self.errors:
            raise self.errors.pop(0)
        return "started"


def test_each_attempt_gets_what_those_before_have_lost() -> None:
    attempts = Attempts(PORT, SUBNET)

    assert placed(attempts, title="shop") == "started"
    assert attempts.told == [[], ["port"], ["port", "subnet"]]


def test_after_so_many_places_the_start_fails_and_says_what_was_lost() -> None:
    attempts = Attempts(*[PORT] * (TRIES - 1), SUBNET)

    said = f"shop did not start: other programs took a leased port {TRIES - 1} times and a leased subnet 1 time: Pool"
    with pytest.raises(NotReadyError, match=said):
        placed(attempts, title="shop")
    assert len(attempts.told) == TRIES


@pytest.mark.parametrize(
    ("error", "movable"), [(PORT, False), (RefusedError("no such image"), True), (NotReadyError("no"), True)]
)
def test_a_failure_that_no_other_place_would_fix_ends_the_start(error: Exception, movable: bool) -> None:
    attempts = Attempts(error)

    with pytest.raises(type(error)) as failed:
        placed(attempts, title="shop", movable=movable)
    assert (failed.value, len(attempts.told)) == (error, 1)


class Undone:
    """Notes in which order a failure is explained and undone."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def explain(self, error: Exception) -> str:
        self.steps.append("explained")
        return f"shop did not start: {error}"

    def undo(self, taken: str) -> None:
        self.steps.append(f"undone {taken}".strip())


@pytest.mark.parametrize(("keep", "steps"), [(False, ["explained", "undone"]), (True, ["explained"])])
@pytest.mark.parametrize("error", [NotReadyError("why"), RefusedError("why")])
def test_a_failed_start_is_explained_before_it_is_removed(error: Exception, keep: bool, steps: list[str]) -> None:
    undone = Undone()

    with (
        pytest.raises(NotReadyError, match="shop did not start: why"),
        failing(undone.explain, undone.undo, keep=keep),
    ):
        raise error
    assert undone.steps == steps


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("error", "steps"), [(PORT, ["undone port"]), (SUBNET, ["undone subnet"])])
def test_a_place_that_was_taken_is_given_up_even_if_a_failure_is_to_be_kept(
    error: Exception, steps: list[str], keep: bool
) -> None:
    undone = Undone()

    with pytest.raises(type(error)) as failed, failing(undone.explain, undone.undo, keep=keep):
        raise error
    assert (failed.value, undone.steps) == (error, steps)


@pytest.mark.parametrize(("keep", "steps"), [(False, ["undone"]), (True, [])])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), LeaseNotFoundError("gone")])
def test_an_interrupt_is_passed_on_as_it_is(error: BaseException, keep: bool, steps: list[str]) -> None:
    undone = Undone()

    with pytest.raises(type(error)) as failed, failing(undone.explain, undone.undo, keep=keep):
        raise error
    assert (failed.value, undone.steps) == (error, steps)


def left(_taken: str) -> None:
    raise LeftoversError("volume shop_data left")


def test_what_could_not_be_removed_does_not_hide_why_the_start_failed() -> None:
    with (
        pytest.raises(NotReadyError, match=r"^shop did not start: why\nwhat .* could not be removed: volume shop_data"),
        failing(lambda error: f"shop did not start: {error}\n{REMOVED}", left),
    ):
        raise NotReadyError("why")


@pytest.mark.parametrize("error", [PORT, SUBNET])
def test_no_other_place_is_tried_while_something_is_left_in_the_first(error: Exception) -> None:
    with pytest.raises(NotReadyError, match="could not be removed: volume shop_data left"), failing(str, left):
        raise error


def test_an_interrupt_names_what_could_not_be_removed() -> None:
    said: list[str] = []

    with pytest.raises(KeyboardInterrupt), failing(str, left, progress=said.append):
        raise KeyboardInterrupt
    assert said == ["interrupted; what the start made could not be removed: volume shop_data left"]


def test_another_failure_stays_and_what_could_not_be_removed_is_a_warning() -> None:
    said: list[str] = []

    with pytest.raises(LeaseNotFoundError, match="gone"), failing(str, left, progress=said.append):
        raise LeaseNotFoundError("gone")
    assert said == ["warning: what the start made could not be removed: volume shop_data left"]

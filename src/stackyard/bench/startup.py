"""
Start and removal of the same four services, by stackyard and by others, in turn.

Every way starts the same images with the same limits, on ports, a subnet and credentials of its own lease. The lease is
taken before the clock runs, and what a way leaves behind is removed afterwards. One round uses each way once, in an
order that changes with each round, so that other work on the machine affects all ways equally. The first round warms up
and does not count.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from stackyard._util.durations import said
from stackyard._util.tables import format_count, format_seconds
from stackyard.bench import peers
from stackyard.bench.harness import Arena
from stackyard.bench.methods import Own, prove_gone, starters
from stackyard.bench.outcomes import one_line, result_of, share, turned
from stackyard.bench.records import Findings
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stackyard.bench.methods import Round, Starter
    from stackyard.bench.options import Plan
    from stackyard.bench.records import Result, Step

REFERENCE: Final = "compose-100ms"  # the quickest that plain Compose gets: the fair one to be compared with
PLAIN: Final = "compose"
START_S: Final = 30.0
START_RATIO: Final = 0.5
REMOVAL_S: Final = 5.0
REMOVAL_RATIO: Final = 0.5

Rounds = dict[str, list["Round | StackyardError"]]


def measure(plan: Plan, contenders: Sequence[Starter] | None = None) -> Findings:
    """
    Time starts and removals: suites startup and cleanup.

    Raises:
        StackyardError: If there is no engine, no image or no place; a way that fails is counted as failed.
    """
    ways = starters(few=plan.depth == "quick") if contenders is None else contenders
    with Arena.open(plan.environment, plan.say) as arena:
        rounds = race(arena, ways, plan.repeats, plan.say)
    with_peers = any(way.name.startswith("testcontainers") for way in ways)
    return Findings(
        results=tuple(_results(rounds, ways, plan)),
        waterfall=_middle(rounds.get(Own().name, ())),
        notes=(peers.WITHOUT_REAPER if with_peers else peers.MISSING,),
    )


def race(arena: Arena, ways: Sequence[Starter], repeats: int, say: Callable[[str], None]) -> Rounds:
    """Let all *ways* start and remove a stack, *repeats* times after a warm-up, in turning order."""
    taken: Rounds = defaultdict(list)
    begin = time.monotonic()
    for number in range(repeats + 1):
        if number == 1:
            left = said((time.monotonic() - begin) * repeats)
            say(f"round 0 only warms up; at this pace the other {format_count(repeats, 'round')} take {left}")
        for way in turned(ways, number):
            outcome = _attempt(arena, way)
            say(f"round {number} of {repeats}: {way.subject}: {_told(outcome)}")
            if number:
                taken[way.name].append(outcome)
    return taken


def _told(outcome: Round | StackyardError) -> str:
    if isinstance(outcome, StackyardError):
        return one_line(outcome)
    return f"ready after {format_seconds(outcome.up)}, gone after {format_seconds(outcome.down)}"


def _attempt(arena: Arena, way: Starter) -> Round | StackyardError:
    with arena.stack() as stack:
        try:
            outcome = way.take(stack)
            prove_gone(stack)
        except StackyardError as error:
            return error
    return outcome


def _results(
    rounds: Mapping[str, Sequence[Round | StackyardError]], ways: Sequence[Starter], plan: Plan
) -> list[Result]:
    made = []
    for suite, what, attribute, target in (
        ("startup", "start-up", "up", START_S), ("cleanup", "clean-up", "down", REMOVAL_S)
    ):  # fmt: skip
        of_suite = [_result(suite, what, attribute, way, rounds[way.name], plan) for way in ways]
        own = of_suite[0]
        if own.row == Own().name:
            of_suite[0] = own.held_to(target)
        made += of_suite
    memory = "memory of all containers when ready"
    made += [_result("startup", memory, "memory", way, rounds[way.name], plan) for way in ways]
    return [*made, *_ratios(made)]


def _result(
    suite: str, what: str, attribute: str, way: Starter, outcomes: Sequence[Round | StackyardError], plan: Plan
) -> Result:
    values = [one if isinstance(one, StackyardError) else getattr(one, attribute) for one in outcomes]
    memory = attribute == "memory"
    return result_of(
        values, plan, suite=suite, row=f"memory-{way.name}" if memory else way.name, subject=way.subject, what=what,
        unit="bytes" if memory else "s",
    )  # fmt: skip


def _ratios(results: Sequence[Result]) -> Iterator[Result]:
    """Hold stackyard's rounds against those of plain Compose next to them."""
    found = {(result.suite, result.row): result for result in results}
    for suite, other, target in (("startup", REFERENCE, START_RATIO), ("cleanup", PLAIN, REMOVAL_RATIO)):
        own, reference = found.get((suite, Own().name)), found.get((suite, other))
        if own and reference:
            what = f"{own.what}, as a share of that of {reference.subject}"
            yield from share(own, reference, row=f"ratio-{other}", target=target, what=what)


def _middle(outcomes: Sequence[Round | StackyardError]) -> tuple[Step, ...]:
    """Return the steps of the start whose time was the median."""
    good = sorted((o for o in outcomes if not isinstance(o, StackyardError)), key=lambda o: o.up)
    return good[(len(good) - 1) // 2].steps if good else ()

"""Suites whose samples come from the modules of what they measure: footprint, reset and pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from stackyard.bench import host_memory, pools, resets
from stackyard.bench.methods import SOONEST, whole
from stackyard.bench.outcomes import reason_of
from stackyard.bench.records import Findings, Result
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackyard.bench.options import Depth, Plan

# suite: its module, and how many samples are taken at each depth
SOURCES: Final[dict[str, tuple[Any, dict[Depth, int]]]] = {
    "footprint": (host_memory, {"quick": 3, "default": 5, "full": 10}),
    "reset": (resets, {"quick": 20, "default": 50, "full": 100}),
    "pool": (pools, {"quick": 5, "default": 20, "full": 50}),
}
WORDS: Final = {
    "footprint": "memory of the host for one more stack", "reset": "reset of a stack", "pool": "taking a warm stack",
    "database": "a database for one test", "database_dropped": "its removal",
}  # fmt: skip
TARGETS: Final = {"reset": 0.05, "database": 0.03, "pool": 0.1}  # seconds, median
ADDED_BYTES: Final = 5_000_000  # of the host for one more stack, beyond what plain Compose's takes


def measure(plan: Plan, suite: str) -> Findings:
    """
    Take the samples of *suite* and make results of them.

    Raises:
        StackyardError: If a stack cannot be started.
    """
    module, sizes = SOURCES[suite]
    plan.say(f"{suite}: {sizes[plan.depth]} samples")
    try:
        taken = module.measure(sizes[plan.depth], name=plan.environment)
        others = tuple(_others(sizes[plan.depth], plan)) if suite == "footprint" else ()
    except StackyardError as error:
        reason = reason_of(error)
        return Findings(results=(_result(suite, suite, (), plan, reason),), notes=(f"suite {suite}: {reason}",))
    rows = taken if isinstance(taken, Mapping) else {suite: taken}
    own = tuple(_result(suite, row, samples, plan) for row, samples in rows.items())
    return Findings(results=(*own, *others, *_added(own[0], others, plan)))


def _added(own: Result, others: Sequence[Result], plan: Plan) -> Iterator[Result]:
    """Yield how much more one stack takes than plain Compose's, if both were measured."""
    for other in others:
        if other.row == f"footprint-{SOONEST.name}" and other.n and own.n:
            more = [mine - theirs for mine, theirs in zip(sorted(own.samples), sorted(other.samples), strict=True)]
            what = f"{own.what}, beyond that of {other.subject}"
            yield Result.of(
                more, suite="footprint", row="added", subject=own.subject, what=what, unit="bytes", target=ADDED_BYTES,
                command=plan.command("footprint"),
            )  # fmt: skip


def _others(size: int, plan: Plan) -> Iterator[Result]:
    """Yield what stacks take that plain Compose or testcontainers started."""
    for way in whole():
        plan.say(f"footprint: {way.subject}")
        try:
            samples, reason = SOURCES["footprint"][0].measure(size, name=plan.environment, way=way), ""
        except StackyardError as error:
            samples, reason = (), reason_of(error)
        made = _result("footprint", "footprint", samples, plan, reason)
        yield replace(made, row=f"footprint-{way.name}", subject=way.subject)


def _result(suite: str, row: str, samples: Sequence[float], plan: Plan, reason: str = "") -> Result:
    return Result.of(
        samples, suite=suite, row=row, subject="stackyard", what=WORDS.get(row, row),
        unit="bytes" if suite == "footprint" else "s", target=TARGETS.get(row),
        failed=int(bool(reason)), reason=reason, command=plan.command(suite),
    )  # fmt: skip

"""Suites whose samples come from the modules of what they measure: footprint, reset and pool."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stackyard.bench.methods import whole
from stackyard.bench.records import Findings, Result
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackyard.bench.options import Plan

# suite: its module, and how many samples are taken at each depth
SOURCES: Final = {
    "footprint": ("footprint", {"quick": 3, "default": 5, "full": 10}),
    "reset": ("resets", {"quick": 20, "default": 50, "full": 100}),
    "pool": ("pools", {"quick": 5, "default": 20, "full": 50}),
}
WORDS: Final = {
    "footprint": "memory of the host for one more stack", "reset": "reset of a stack", "pool": "taking a warm stack",
    "database": "a database for one test", "database_dropped": "its removal",
}  # fmt: skip
TARGETS: Final = {"reset": 0.05, "database": 0.03, "pool": 0.1}  # seconds, median
FOOTPRINT_BYTES: Final = 70_000_000


def measure(plan: Plan, suite: str) -> Findings:
    """
    Take the samples of *suite* and make results of them; without its module, say so.

    Raises:
        StackyardError: If a stack cannot be started.
    """
    name, sizes = SOURCES[suite]
    module = _module(name)
    if module is None:
        return Findings(notes=(f"suite {suite}: this stackyard cannot do it",))
    plan.say(f"{suite}: {sizes[plan.depth]} samples")
    try:
        taken = module.measure(sizes[plan.depth], name=plan.environment)
        others = tuple(_others(module, sizes[plan.depth], plan)) if suite == "footprint" else ()
    except StackyardError as error:
        reason = " ".join(str(error).split())[:240]
        return Findings(results=(_result(suite, suite, (), plan, reason),), notes=(f"suite {suite}: {reason}",))
    rows = taken if isinstance(taken, Mapping) else {suite: taken}
    return Findings(results=(*(_result(suite, row, samples, plan) for row, samples in rows.items()), *others))


def _others(module: Any, size: int, plan: Plan) -> Iterator[Result]:
    """Yield what stacks take that plain Compose or testcontainers started."""
    for way in whole():
        plan.say(f"footprint: {way.subject}")
        try:
            samples, reason = module.measure(size, name=plan.environment, way=way), ""
        except StackyardError as error:
            samples, reason = (), " ".join(str(error).split())[:240]
        made = _result("footprint", "footprint", samples, plan, reason)
        yield replace(made, row=f"footprint-{way.name}", subject=way.subject, target=None, verdict=None)


def _module(name: str) -> Any | None:
    full = f"stackyard.bench.{name}"
    return importlib.import_module(full) if importlib.util.find_spec(full) else None


def _result(suite: str, row: str, samples: Sequence[float], plan: Plan, reason: str = "") -> Result:
    memory = suite == "footprint"
    return Result.of(
        samples, suite=suite, row=row, subject="stackyard", what=WORDS.get(row, row),
        unit="bytes" if memory else "s", target=FOOTPRINT_BYTES if memory else TARGETS.get(row),
        failed=int(bool(reason)), reason=reason, command=plan.command(suite),
    )  # fmt: skip

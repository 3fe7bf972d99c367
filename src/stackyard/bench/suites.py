"""The suites by name, and a run of some of them."""

from __future__ import annotations

import datetime as dt
import importlib
import secrets
import time
from typing import TYPE_CHECKING, Final

import stackyard
from stackyard.bench import machine, peers
from stackyard.bench.records import Findings, Run
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.bench.options import Depth, Plan

SAMPLED: Final = "footprint_reset_pool"  # the module that measures several suites, one at a time
# suite: the module that measures it
MODULES: Final = {
    "startup": "startup", "cleanup": "startup", "services": "services", "parallel": "parallel", "leases": "leases",
    "commands": "commands", "projects": "projects", **dict.fromkeys(("footprint", "reset", "pool"), SAMPLED),
    "requirements": "requirements",
}  # fmt: skip
USUAL: Final[dict[Depth, tuple[str, ...]]] = {
    "quick": ("startup", "cleanup", "services", "parallel", "requirements"),
    "default": ("startup", "cleanup", "services", "parallel", "reset", "requirements"),
    "full": tuple(MODULES),
}
REAPER: Final = "STACKYARD_REAPER"


def choose(names: Sequence[str], depth: Depth) -> tuple[str, ...]:
    """
    Return the suites to run, in the order that measures best; those usual for *depth* without names.

    Raises:
        UsageError: If there is no suite of a name.
    """
    if unknown := [name for name in names if name not in {*MODULES, "all"}]:
        raise UsageError(f"no benchmark {unknown[0][:60]!r}; there are: {', '.join(MODULES)}, all")
    wanted = set(MODULES) if "all" in names else set(names or USUAL[depth])
    return tuple(name for name in MODULES if name in wanted)


def run(suites: Sequence[str], plan: Plan) -> Run:
    """
    Measure *suites* and return the whole run.

    Raises:
        StackyardError: If something cannot be measured at all.
    """
    described, began = machine.describe(), time.monotonic()
    when = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    found = Findings()
    done: set[str] = set()
    for suite in suites:
        if MODULES[suite] in done and MODULES[suite] != SAMPLED:
            continue
        done.add(MODULES[suite])
        # the reaper would share the processors, and hand out warm stacks
        with peers.surrounded({REAPER: "on" if suite == "pool" else "off"}):
            found += _measure(suite, plan, found)
    return Run(
        id=secrets.token_hex(6), when=when, commit=machine.commit(), changed=machine.changed(),
        release=stackyard.__version__, seconds=round(time.monotonic() - began, 1), machine=described,
        suites=tuple(suites), depth=plan.depth, results=found.results, waterfall=found.waterfall, notes=found.notes,
        options={"environment": plan.environment, "rounds": plan.repeats, "parallel": plan.stacks},
    )  # fmt: skip


def _measure(suite: str, plan: Plan, found: Findings) -> Findings:
    module = importlib.import_module(f"stackyard.bench.{MODULES[suite]}")
    if suite == "requirements":
        return module.measure(plan, found)  # type: ignore[no-any-return]
    measure: Callable[..., Findings] = module.measure
    return measure(plan, suite) if MODULES[suite] == SAMPLED else measure(plan)

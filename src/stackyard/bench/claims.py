"""Suite leases: other ways to get ports, and what a lease costs, as results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.bench import leases
from stackyard.bench.records import Findings, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stackyard.bench.options import Plan

CONTENDED: Final = 0.05  # seconds, 99th percentile of sixteen processes at once
ALONE: Final = 0.003  # seconds
BURST: Final = 4.0  # as long as idle interpreters take
ROUNDS: Final = {"quick": 1, "default": 3, "full": 5}


def measure(plan: Plan) -> Findings:
    """Compare leases with other ways to get ports, and time them."""
    plan.say("leases: fifty processes at once, by every way")
    rounds = plan.rounds or ROUNDS[plan.depth]
    found = leases.measure(rounds=rounds, size=min(plan.parallel or leases.SIZE, leases.SIZE))
    return Findings(results=tuple(results(found, plan.command("leases"))))


def results(found: Mapping[str, Any], command: str) -> Iterator[Result]:
    """Return what `leases.measure` gave as results; its own summaries keep no samples."""
    for row in found["peers"]:
        own = row["name"] == "stackyard"
        for what, key, unit in (
            ("processes that share a port", "sharing", ""), ("wall time of the quickest round", "seconds", "s")
        ):  # fmt: skip
            yield Result.of(
                [row[key]], suite="leases", row=f"{key}-{row['name']}", subject=row["name"], what=what, unit=unit,
                failed=row["failed"], target=0 if own and key == "sharing" else None, command=command,
            )  # fmt: skip
    yield _cost("alone", "acquire and release, one process", found["alone"], command).held_to(ALONE)
    contending = _cost("contending", "acquire and release, sixteen processes at once", found["contending"], command)
    yield contending
    yield Result.of(
        [] if contending.p99 is None else [contending.p99], suite="leases", row="contending-p99", subject="stackyard",
        what="acquire and release, sixteen processes at once, 99th percentile", unit="s", target=CONTENDED,
        command=command,
    )  # fmt: skip
    burst = found["commands"]
    yield Result.of(
        [burst["ratio"]], suite="leases", row="burst", subject=f"{burst['size']} allocating commands at once",
        what="wall time / that of as many idle interpreters", unit="x", target=BURST, command=command,
    )  # fmt: skip


def _cost(row: str, what: str, figures: Mapping[str, Any], command: str) -> Result:
    return Result(
        suite="leases", row=row, subject="stackyard", what=what, unit=figures["unit"], median=figures["median"],
        p95=figures["p95"], p99=figures["p99"], reason=f"{figures['n']} samples, not kept", command=command,
    )  # fmt: skip

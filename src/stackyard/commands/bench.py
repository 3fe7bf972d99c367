"""`invoke bench.*`: measure, compare two runs, refuse what has become slower."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, check_count, failing_cleanly
from stackyard.errors import StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invoke.context import Context

    from stackyard.bench.gate import Comparison
    from stackyard.bench.records import Run

RUN_HELP = "A run's id, a commit or a branch; the newest run of it."


@task(
    help={
        "names": "What to measure, commas between: startup, cleanup, services, parallel, leases, footprint, reset, "
        "pool, requirements, all. Without it, what is usual.",
        "env": "Environment whose stacks are started.",
        "parallel": "Stacks at once.",
        "rounds": "How often each start is done.",
        "quick": "Take a minute at most.",
        "full": "Measure everything.",
        "json": JSON_HELP,
    },
)
@failing_cleanly
def run(
    _c: Context,
    names: str = "",
    env: str = "test",
    parallel: str | None = None,
    rounds: str | None = None,
    quick: bool = False,
    full: bool = False,
    json: bool = False,
) -> None:
    """Measure and add the run to reports/history.jsonl; peers take part under `nox -s bench` only."""
    from stackyard.bench.__main__ import MOST, broken, measure, progress  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.bench.plans import Plan, peers_python  # noqa: PLC0415 - as above

    if quick and full:
        raise UsageError("give --quick or --full, not both")
    plan = Plan(
        environment=env, depth="quick" if quick else "full" if full else "default", python=peers_python(), say=progress,
        rounds=check_count("--rounds", rounds, most=MOST) if rounds else None,
        parallel=check_count("--parallel", parallel, most=500) if parallel else None,
    )  # fmt: skip
    found = measure([name for name in names.split(",") if name], plan)
    _show_run(found, as_json=json)
    if broken(found):
        raise StackyardError("a requirement is not met; the last lines say which")


@task(help={"json": JSON_HELP})
@failing_cleanly
def history(_c: Context, json: bool = False) -> None:
    """List the runs measured so far, newest last."""
    from stackyard.bench.history import History  # noqa: PLC0415 - as above
    from stackyard.report import table  # noqa: PLC0415 - as above

    runs = History.of_project().runs()
    if json:
        print(jsonlib.dumps([found.to_json() for found in runs], indent=2))
        return
    rows = [
        [found.id, found.when, (found.commit or "")[:12] + ("+" if found.changed else ""), found.depth,
         " ".join(found.suites), len(found.failures)]
        for found in runs
    ]  # fmt: skip
    print(table(rows, ["run", "when", "commit", "depth", "suites", "targets missed"]))


@task(positional=["base", "candidate"], help={"base": RUN_HELP, "candidate": RUN_HELP, "json": JSON_HELP})
@failing_cleanly
def compare(_c: Context, base: str, candidate: str, json: bool = False) -> None:
    """Set two runs beside each other: medians, their ratio, and how likely it is an accident."""
    from stackyard.bench import gate as gates  # noqa: PLC0415 - as above
    from stackyard.bench import machine  # noqa: PLC0415 - as above
    from stackyard.bench.history import History  # noqa: PLC0415 - as above

    kept = History.of_project()
    one, other = (kept.find(name, machine.commit(name)) for name in (base, candidate))
    _show_comparisons(one, other, gates.compare(one, other), as_json=json)


@task(
    help={
        "against": "The run to measure by: a commit, a branch or a run's id.",
        "candidate": "The run to judge; the newest without it.",
        "tolerance": "How much slower is still well, such as 15%.",
        "json": JSON_HELP,
    }
)
@failing_cleanly
def gate(
    _c: Context, against: str = "main", candidate: str | None = None, tolerance: str = "15%", json: bool = False
) -> None:
    """Fail if start-up, clean-up, reset or the warm pool has become slower, beyond tolerance and beyond accident."""
    from stackyard.bench import gate as gates  # noqa: PLC0415 - as above
    from stackyard.bench.history import History  # noqa: PLC0415 - as above

    allowed = gates.parse_tolerance(tolerance)
    base, judged = gates.opponents(History.of_project(), against, candidate)
    found = gates.guard(base, judged)
    _show_comparisons(base, judged, found, as_json=json)
    if slower := [made for made in found if made.worse(allowed)]:
        listed = "; ".join(f"{made.what} takes {made.ratio:.2f} times as long" for made in slower)
        raise StackyardError(f"slower than run {base.id} by more than {100 * allowed:g} %: {listed}")


@task(help={"completion": "Write docs/completion_report.md too.", "json": JSON_HELP})
@failing_cleanly
def report(_c: Context, completion: bool = False, json: bool = False) -> None:
    """Write the report pages from what was measured; measures nothing."""
    from stackyard.environments import project_root  # noqa: PLC0415 - as above
    from stackyard.pages import write  # noqa: PLC0415 - as above

    root = project_root()
    files = [str(path.relative_to(root)) for path in write(root, completion=completion)]
    print(jsonlib.dumps({"files": files}, indent=2) if json else "\n".join(f"wrote {name}" for name in files))


def _show_run(found: Run, *, as_json: bool) -> None:
    from stackyard.bench import outputs  # noqa: PLC0415 - as above

    print(jsonlib.dumps(found.to_json(), indent=2) if as_json else outputs.text(found))


def _show_comparisons(base: Run, candidate: Run, found: Sequence[Comparison], *, as_json: bool) -> None:
    from stackyard.report import format_figure, table  # noqa: PLC0415 - as above

    if as_json:
        rows: list[dict[str, Any]] = [made.to_json() for made in found]
        print(jsonlib.dumps({"base": base.id, "candidate": candidate.id, "rows": rows}, indent=2))
        return
    body = [
        [made.suite, made.what + (" / plain Compose" if made.relative else ""), format_figure(made.base, made.unit),
         format_figure(made.candidate, made.unit), f"{made.ratio:.2f}x",
         "too few samples" if made.chance is None else f"{made.chance:.3f}"]
        for made in found
    ]  # fmt: skip
    heads = ["suite", "what", base.id, candidate.id, "ratio", "chance of an accident"]
    print(table(body, heads, align=["left", "left", "right", "right", "right", "right"]))


collection = Collection("bench", run, history, compare, gate, report)

"""`invoke bench.*`: measure, compare two runs, refuse what is slower than before."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from stackyard._util.tables import format_figure, table
from stackyard.cli import options
from stackyard.cli.common import answer, check_count
from stackyard.cli.options import Option
from stackyard.cli.task import command
from stackyard.errors import StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.bench.comparison import Comparison
    from stackyard.bench.history import History
    from stackyard.bench.records import Run

RUN = Option(help="A run's id, or a commit or branch, whose newest run is used.", value="RUN")
NO_RUNS = "no runs yet; 'invoke bench.run --quick' measures"


@command(
    words=["names"],
    options={
        "names": Option(
            help="What to measure: startup, cleanup, services, parallel, leases, commands, projects, footprint, reset, "
            "pool, requirements or all; several with spaces or commas between. The usual ones without it.",
            value="SUITE", short="n",
        ),
        "environment": options.ENVIRONMENT.but(help="Environment whose stacks are started (default: test)."),
        "parallel": Option(help="Stacks at once (default: 10; quick: 3; full: 50).", value="STACKS", short="p"),
        "rounds": Option(help="How often each start is measured (default: 10; quick: 3).", value="TIMES", short="r"),
        "quick": Option(help="Take about a minute.", short="q"),
        "full": Option(help="Measure everything; takes some twenty minutes.", short="f"),
    },
)  # fmt: skip
def run(
    names: Sequence[str] = (),
    environment: str = "test",
    parallel: str = "",
    rounds: str = "",
    quick: bool = False,
    full: bool = False,
    json: bool = False,
) -> None:
    """Measure, and add the run to reports/history.jsonl."""
    from stackyard.bench import outputs
    from stackyard.bench.options import Plan
    from stackyard.cli.benchmarks import MOST, broken, measure, progress

    if quick and full:
        raise UsageError("give --quick or --full, not both")
    plan = Plan(
        environment=environment, depth="quick" if quick else "full" if full else "default",
        say=progress,
        rounds=check_count("--rounds", rounds, most=MOST) if rounds else None,
        parallel=check_count("--parallel", parallel, most=500) if parallel else None,
    )  # fmt: skip
    found = measure([name for word in names for name in word.split(",") if name], plan)
    answer(found.to_json(), outputs.text(found), as_json=json)
    if broken(found):
        raise StackyardError("a requirement is not met; the last lines name it")


@command()
def history(json: bool = False) -> None:
    """List the runs measured so far, newest last."""
    from stackyard.bench.history import History

    runs = History.of_project().runs()
    rows = [
        [found.id, found.when, found.source, found.depth,
         " ".join(found.suites), len(found.failures)]
        for found in runs
    ]  # fmt: skip
    text = table(rows, ["run", "when", "commit", "depth", "suites", "targets missed"]) if rows else NO_RUNS
    answer([found.to_json() for found in runs], text, as_json=json)


@command(
    words=["base", "candidate"],
    options={"base": RUN.but(short="b"), "candidate": RUN.but(short="c", help=f"{RUN.help} The newest without it.")},
)
def compare(base: str = "", candidate: str = "", json: bool = False) -> None:
    """Compare two runs: medians, their ratio, and how likely the difference is chance; the last two without names."""
    from stackyard.bench import comparison as gates
    from stackyard.bench import machine
    from stackyard.bench.history import History

    kept = History.of_project()
    one, other = (kept.find(name, machine.commit(name)) for name in _pair(kept, base, candidate))
    _show_comparisons(one, other, gates.compare(one, other), as_json=json)


@command(
    options={
        "against": RUN.but(short="a", help=f"The run to compare with (default: main). {RUN.help}"),
        "candidate": RUN.but(short="c", help="The run to judge; the newest without it."),
        "tolerance": Option(help="How much slower is accepted (default: 15%).", value="PERCENT", short="t"),
    },
)
def gate(against: str = "main", candidate: str = "", tolerance: str = "15%", json: bool = False) -> None:
    """Fail if start-up, clean-up, reset or the warm pool is slower than before, by more than tolerance and chance."""
    from stackyard.bench import comparison as gates
    from stackyard.bench.history import History

    allowed = gates.parse_tolerance(tolerance)
    base, judged = gates.opponents(History.of_project(), against, candidate or None)
    found = gates.guard(base, judged)
    _show_comparisons(base, judged, found, as_json=json)
    if slower := [made for made in found if made.worse(allowed)]:
        listed = "; ".join(f"{made.what} takes {made.ratio:.2f} times as long" for made in slower)
        raise StackyardError(f"slower than run {base.id} by more than {100 * allowed:g} %: {listed}")


@command(options={"completion": Option(help="Also write docs/completion_report.md.", short="c")})
def report(completion: bool = False, json: bool = False) -> None:
    """Write the report pages from the runs so far; measures nothing."""
    from stackyard.project.environments import project_root
    from stackyard.report import write

    root = project_root()
    files = [str(path.relative_to(root)) for path in write(root, completion=completion)]
    answer({"files": files}, "\n".join(f"wrote {name}" for name in files), as_json=json)


def _pair(kept: History, base: str, candidate: str) -> tuple[str, str]:
    """
    Return the runs to compare: the newest for a missing candidate, the one before it for a missing base.

    Raises:
        UsageError: If there are too few runs.
    """
    runs = [found.id for found in kept.runs()]
    lacking = (not base) + (not candidate)
    if len(runs) < lacking:
        raise UsageError(f"bench.compare needs two runs, and {len(runs)} kept: measure with 'invoke bench.run --quick'")
    return base or runs[-2], candidate or runs[-1]


def _show_comparisons(base: Run, candidate: Run, found: Sequence[Comparison], *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [asdict(made) for made in found]
    body = [
        [made.suite, made.what + (" / plain Compose" if made.relative else ""), format_figure(made.base, made.unit),
         format_figure(made.candidate, made.unit), f"{made.ratio:.2f}x",
         "too few samples" if made.chance is None else f"{made.chance:.3f}"]
        for made in found
    ]  # fmt: skip
    heads = ["suite", "what", base.id, candidate.id, "ratio", "p (chance)"]
    text = table(body, heads, align=["left", "left", "right", "right", "right", "right"])
    answer({"base": base.id, "candidate": candidate.id, "rows": rows}, text, as_json=as_json)


collection = Collection("bench", run, history, compare, gate, report)

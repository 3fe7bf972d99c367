"""``python -m stackyard.cli.benchmarks [NAME…]``: measure, print tables, add the run to reports/history.jsonl."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from stackyard._util import streams
from stackyard.bench import outputs, suites
from stackyard.bench.history import History
from stackyard.bench.options import Plan
from stackyard.cli.signals import orderly_end
from stackyard.errors import StackyardError, UsageError
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.bench.records import Run

MOST: Final = 1000  # rounds, more of which take days
INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 1 if something promised of every stack was not kept, or the exit code of what went wrong."""
    options = parser().parse_args(arguments)
    return orderly(lambda: _main(options), "error")


def orderly(work: Callable[[], int], name: str) -> int:
    """Do *work* and return its exit code; an error becomes one line after *name*, a signal unwinds as Ctrl-C does."""
    try:
        with orderly_end():
            return work()
    except StackyardError as error:
        progress(f"{name}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        progress(f"{name}: interrupted: the stacks were removed, and nothing was added to the history")
        return INTERRUPTED


def _main(options: argparse.Namespace) -> int:
    if options.completion and not options.report:
        raise UsageError("--completion needs --report")
    if options.report and not options.names:
        write_report(completion=options.completion)
        return 0
    run = measure(options.names, plan_of(options))
    print(json.dumps(run.to_json(), indent=2) if options.json else outputs.text(run))
    if options.report:
        write_report(completion=options.completion)
    return broken(run)


def parser(prog: str = "./noxw -s bench --") -> argparse.ArgumentParser:
    """Return the parser of the words that follow *prog*."""
    made = argparse.ArgumentParser(prog=prog, description=__doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(suites.MODULES)}, all")
    made.add_argument("--report", action="store_true", help="write the report pages; without NAME, nothing is measured")
    made.add_argument("--completion", action="store_true", help="with --report, write docs/completion_report.md too")
    add_options(made)
    return made


def add_options(made: argparse.ArgumentParser) -> None:
    """Add the options that all ways to measure share."""
    made.add_argument("--env", default="test", help="environment whose stacks are started (default: test)")
    made.add_argument("--rounds", type=count(MOST), help="how often each start is done (default: 10, quick: 3)")
    made.add_argument("--parallel", type=count(500), help="stacks at once (default: 10, quick: 3, full: 50)")
    depth = made.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_const", dest="depth", const="quick", help="about a minute")
    depth.add_argument("--full", action="store_const", dest="depth", const="full", help="everything: twenty minutes")
    made.add_argument("--json", action="store_true", help="print JSON; progress goes to standard error")
    made.set_defaults(depth="default")


def count(most: int) -> type[int]:
    """Return a reader of whole numbers from 1 to *most*."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}, got {text[:60]!r}")
        return int(text)

    return read  # type: ignore[return-value] # argparse wants any callable


def plan_of(options: argparse.Namespace) -> Plan:
    """Return the plan that the options ask for."""
    return Plan(
        environment=options.env, depth=options.depth, rounds=options.rounds, parallel=options.parallel,
        say=progress,
    )  # fmt: skip


def progress(line: str) -> None:
    """Print a line of progress to standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def measure(names: Sequence[str], plan: Plan) -> Run:
    """
    Measure what *names* ask for, and add the run to the history.

    Raises:
        StackyardError: If a name is wrong or something cannot be measured at all.
    """
    run = suites.run(suites.choose(names, plan.depth), plan)
    History.of_project().append(run)
    return run


def broken(run: Run) -> int:
    """Return 1 if a requirement was missed; a missed target of stackyard's own is printed, but does not fail a run."""
    return int(any(result.suite == "requirements" or not result.unit for result in run.failures))


def write_report(*, completion: bool = False) -> None:
    """Write the report pages, with *completion* the completion report too, and say where they are."""
    from stackyard.report import write

    root = project_root()
    for path in write(root, completion=completion):
        progress(f"wrote {path.relative_to(root)}")


if __name__ == "__main__":
    streams.guard()
    sys.exit(streams.settle(main()))

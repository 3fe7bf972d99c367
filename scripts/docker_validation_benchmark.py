#!/usr/bin/env python3
"""
Prove that stacks start, stay apart and go: many at once, each measured, nothing left.

  docker_validation_benchmark.py                      ten stacks at once, start-up against others, the requirements
  docker_validation_benchmark.py --env NAME           of another environment (default: test)
  docker_validation_benchmark.py --parallel N         N stacks at once
  docker_validation_benchmark.py --quick              about a minute
  docker_validation_benchmark.py --full               everything, and crowds of 1, 3, 10, 30 and N
  docker_validation_benchmark.py --json               print JSON; progress goes to standard error

Exit code 1 means that a requirement is not met; docs/benchmarks.md describes the figures.
"""

from __future__ import annotations

if __name__ == "__main__":
    import _project  # type: ignore[import-not-found] # next to this script

    _project.enter()

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from stackyard._util import streams
from stackyard.bench import outputs
from stackyard.cli.benchmarks import add_options, broken, measure, orderly, plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITES: Final = ("startup", "cleanup", "services", "parallel", "requirements")
NAME: Final = "docker_validation_benchmark.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the flags say; return 0, 1 for a requirement that is not met, or the exit code of what went wrong."""
    made = argparse.ArgumentParser(
        prog=NAME, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    add_options(made)
    options = made.parse_args(argv)
    return orderly(lambda: validate(options), NAME)


def validate(options: argparse.Namespace) -> int:
    """
    Measure, print, and return 1 if a requirement is not met.

    Raises:
        StackyardError: If something cannot be measured at all.
    """
    plan = plan_of(options)
    run = measure(["all"] if plan.depth == "full" else SUITES, plan)
    print(json.dumps(run.to_json(), indent=2) if options.json else outputs.text(run))
    return broken(run)


if __name__ == "__main__":
    streams.guard()
    sys.exit(streams.settle(main()))

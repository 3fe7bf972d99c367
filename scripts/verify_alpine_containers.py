#!/usr/bin/env python3
"""
Verify that the Alpine containers are what they claim to be: small, complete, confined, and really Alpine.

  verify_alpine_containers.py                   check Dockerfiles, Compose model, images, and a stack started for it
  verify_alpine_containers.py --env NAME        the environment to check (default: alpine-test)
  verify_alpine_containers.py --benchmark       also compare size, start-up and memory with the Debian images
  verify_alpine_containers.py --fix             first fix in the Dockerfiles what can be fixed automatically
  verify_alpine_containers.py --json            print JSON

Exit code 9 means that a check found an error; docs/checks.md describes the checks.
"""

from __future__ import annotations

if __name__ == "__main__":
    import _project  # type: ignore[import-not-found] # next to this script

    _project.enter()

import argparse
import json
import statistics
import sys
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import streams
from stackyard._util.tables import MEGABYTE, format_seconds, format_size, table
from stackyard.checks.outputs import findings_table
from stackyard.checks.verification import Verifier, throwaway
from stackyard.docker.records import SERVICE_LABEL
from stackyard.errors import StackyardError, UsageError
from stackyard.project.environments import Environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.checks.verification import Report
    from stackyard.stacks.environments.stack import Stack
    from stackyard.stacks.starts.times import Startup

STARTS: Final = 3  # of each flavour, for a median
DEBIAN: Final = "test"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the flags say; return 0, or the exit code of what went wrong."""
    options = parser().parse_args(argv)
    try:
        return verify(options)
    except StackyardError as error:
        print(f"verify_alpine_containers.py: {error}", file=sys.stderr)
        return error.exit_code


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--env", "--environment", default="alpine-test", help="environment to check (default: alpine-test)"
    )
    made.add_argument("--build", action="store_true", help=argparse.SUPPRESS)  # missing ones are always built
    made.add_argument("--benchmark", action="store_true", help="also compare with the Debian images, three starts each")
    made.add_argument("--fix", action="store_true", help="first fix in the Dockerfiles what can be fixed automatically")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def verify(options: argparse.Namespace) -> int:
    """
    Run the checks and print what they found.

    Raises:
        StackyardError: If something cannot be looked at, or a check found an error.
    """
    environment = Environment.load(options.env)
    if environment.flavour != "alpine":
        raise UsageError(f"--env {options.env}: its images are {environment.flavour}; 'invoke verify.all' checks both")
    say = _quiet if options.json else _say
    verifier = Verifier(say=say)
    fixed = verifier.fix() if options.fix else []
    for path in fixed:
        say(f"fixed {path}")
    verifier.dockerfiles()
    verifier.compose([options.env])
    verifier.images(("alpine",))
    figures = look(environment, verifier)
    report = verifier.report()
    compared = benchmark(options.env) if options.benchmark else []
    extra = {"fixed": list(fixed), "services": figures, "benchmark": compared}
    _print(report, environment, extra, as_json=options.json)
    report.check()
    return 0


def look(environment: Environment, verifier: Verifier) -> list[dict[str, Any]]:
    """
    Start a stack, check it, remove it; return what each service measures.

    Raises:
        StackyardError: If it does not start or something of it is left.
    """
    with throwaway(environment, verifier.say) as (stack, startup):
        verifier.stack(stack)
        return _figures(environment, stack, startup)


def _figures(environment: Environment, stack: Stack, startup: Startup) -> list[dict[str, Any]]:
    from stackyard import images

    wanted = set(images.references(environment.flavour).values())
    sizes = {image.service: image.size for image in images.listing() if image.reference in wanted}
    rows: list[dict[str, Any]] = []
    for item in stack.engine.containers(stack.labels):
        service = item.labels.get(SERVICE_LABEL, item.name)
        used = stack.engine.memory(item.id)
        rows.append({
            "service": service, "image_bytes": sizes.get(service), "startup_seconds": startup.probes.get(service),
            "memory_bytes": used and used.used, "limit_bytes": used and used.limit,
        })  # fmt: skip
    total = {"service": "all", "image_bytes": sum(sizes.values()), "startup_seconds": startup.seconds}
    memory = {key: sum(int(row[key] or 0) for row in rows) for key in ("memory_bytes", "limit_bytes")}
    return [*sorted(rows, key=lambda row: str(row["service"])), total | memory]


def benchmark(name: str) -> list[dict[str, Any]]:
    """
    Compare the Alpine stack with the Debian one: bytes of all images, median start-up, bytes of memory when ready.

    Raises:
        StackyardError: If a stack does not start or something of it is left.
    """
    from stackyard import images

    rows = []
    for environment in (Environment.load(DEBIAN), Environment.load(name)):
        starts = [_start(environment) for _ in range(STARTS)]
        wanted = set(images.references(environment.flavour).values())
        size = sum(image.size for image in images.listing() if image.reference in wanted)
        rows.append({
            "flavour": environment.flavour,
            "images_bytes": size,
            "startup_seconds": round(statistics.median(seconds for seconds, _ in starts), 3),
            "memory_bytes": round(statistics.median(memory for _, memory in starts)),
            "starts": STARTS,
        })  # fmt: skip
    return rows


def _start(environment: Environment) -> tuple[float, int]:
    """Start a stack, measure it, remove it; return the seconds of its start-up and the bytes of its memory."""
    with throwaway(environment, _quiet) as (stack, startup):
        used = [stack.engine.memory(item.id) for item in stack.engine.containers(stack.labels)]
    return startup.seconds, sum(item.used for item in used if item is not None)


def _print(report: Report, environment: Environment, extra: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.to_json() | extra, indent=2))
        return
    if report.findings:
        print(findings_table(report.findings) + "\n")
    print(_measured(extra["services"], environment) + "\n")
    if extra["benchmark"]:
        print(_comparison(extra["benchmark"]) + "\n")
    print(f"{report.summary()}\nwritten: {', '.join(report.files)}")


def _measured(services: Sequence[dict[str, Any]], environment: Environment) -> str:
    """Return the figures of each service, and the limits of the environment in the last line."""
    rows: list[list[str]] = [
        [row["service"], _or_dash(row["image_bytes"], format_size), _or_dash(row["startup_seconds"], format_seconds),
         _or_dash(row["memory_bytes"], format_size), _or_dash(row["limit_bytes"], format_size)]
        for row in services
    ]  # fmt: skip
    budget = environment.budget
    rows.append([
        "at most", f"{format_size(budget.image_mb * MEGABYTE)} each", format_seconds(budget.startup_s),
        format_size(budget.memory_mb * MEGABYTE), "",
    ])  # fmt: skip
    return table(rows, ["service", "image", "start-up", "memory", "memory limit"])


def _or_dash(value: float | None, shown: Callable[[float], str]) -> str:
    return "-" if value is None else shown(value)


def _comparison(compared: Sequence[dict[str, Any]]) -> str:
    rows = [
        [row["flavour"], format_size(row["images_bytes"]), format_seconds(row["startup_seconds"]),
         format_size(row["memory_bytes"]), row["starts"]]
        for row in compared
    ]  # fmt: skip
    return table(rows, ["flavour", "all images", "start-up", "memory when ready", "starts"])


def _say(line: str) -> None:
    print(line, flush=True)


def _quiet(_line: str) -> None:
    pass


if __name__ == "__main__":
    streams.guard()
    sys.exit(streams.settle(main()))

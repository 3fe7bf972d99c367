"""``python -m stackyard.bench leases``: measure, print tables, write reports/bench-leases.json."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from stackyard import report
from stackyard.bench import leases
from stackyard.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark and return the exit code: 1 if stackyard itself ever shared a port."""
    options = _parser().parse_args(arguments)
    found = leases.measure(rounds=options.rounds, size=options.size)
    path = project_root() / "reports" / f"bench-{options.name}.json"
    report.write_json(path, found)
    print(_text(found))  # noqa: T201 - a program's output
    print(f"\nreport in {path.relative_to(project_root())}")  # noqa: T201 - as above
    own = next(row for row in found["peers"] if row["name"] == "stackyard")
    return 1 if own["sharing"] or own["failed"] else 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    made.add_argument("name", choices=["leases"], help="what to measure")
    made.add_argument("--rounds", type=_count, default=3, help="how often each part is done (default: 3)")
    made.add_argument("--size", type=_count, default=leases.SIZE, help="processes at once, at most 50 (default: 50)")
    return made


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= leases.SIZE:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {leases.SIZE}, got {text!r}")
    return int(text)


def _text(found: Mapping[str, Any]) -> str:
    peers = [[row["name"], f"{row['sharing']} of {row['runs']}", row["failed"], f"{row['seconds']:.2f} s"]
             for row in found["peers"]]  # fmt: skip
    costs = [
        [what, row["n"], f"{row['median']:.2f} ms", f"{row['p99']:.2f} ms", f"{row['highest']:.2f} ms"]
        for what, row in (("alone", found["alone"]), (f"{leases.CONTENDING} at once", found["contending"]))
    ]
    return "\n\n".join(
        [
            report.table(peers, ["way to get ten ports", "runs sharing a port", "failed", "wall time"]),
            report.table(costs, ["acquire and release", "samples", "median", "p99", "longest"]),
            _burst(found["commands"]),
            f"{found['cpus']} CPUs, load before {found['load_before']:.2f}, {found['rounds']} rounds",
        ]
    )


def _burst(found: Mapping[str, Any]) -> str:
    idle = f"as many idle interpreters {found['idle_seconds']:.2f} s, ratio {found['ratio']:.1f}"
    return f"{found['size']} commands at once: {found['seconds']:.2f} s, {idle}"


if __name__ == "__main__":
    sys.exit(main())

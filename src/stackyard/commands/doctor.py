"""`invoke doctor`: what this host lacks, and the fix for each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, failing_cleanly
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invoke.context import Context

    from stackyard.host.checks import Finding

SETUP_MENDS: Final = frozenset({"client", "socket", "engine", "compose", "buildx"})
FIX_HELP = "First start or install the engine, and remove leftovers, where that is needed; agrees to installing."


@task(default=True, help={"json": JSON_HELP, "fix": FIX_HELP})
@failing_cleanly
def doctor(_c: Context, json: bool = False, fix: bool = False) -> None:
    """Check engine, Compose, disk, memory, clock, ports and leftovers; exit code 3 when one needed is missing."""
    from stackyard.host.checks import examine  # noqa: PLC0415 - keeps `invoke -l` quick

    findings = examine()
    if fix and mend(findings):
        findings = examine()
    show(findings, as_json=json)


def mend(findings: Sequence[Finding]) -> bool:
    """
    Repair what can be repaired without a person; tell whether anything was tried.

    Raises:
        EngineError: If the engine cannot be made usable.
    """
    from stackyard.cleanup import remove_stale  # noqa: PLC0415 - as above
    from stackyard.host.setup import ensure_engine  # noqa: PLC0415 - as above

    wrong = {finding.id for finding in findings if finding.status != "ok"}
    if wrong & SETUP_MENDS:
        ensure_engine(consent=True)
    if "leftovers" in wrong:
        remove_stale().check()
    return bool(wrong & SETUP_MENDS) or "leftovers" in wrong


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """
    Print the findings.

    Raises:
        Exit: With EngineError's exit code if one that is needed failed.
    """
    from stackyard.report import table  # noqa: PLC0415 - as above

    if as_json:
        print(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        rows = [(item.status, item.title, item.found, item.needed) for item in findings]
        print(table(rows, ["", "check", "found", "needed"]))
        for item in findings:
            if item.fix:
                print(f"\n{item.title}: {item.fix}")
    failed = [finding.title for finding in findings if finding.status == "fail"]
    if failed:
        raise Exit(f"not usable yet: {', '.join(failed)}", code=EngineError.exit_code)


collection = Collection("doctor", doctor)

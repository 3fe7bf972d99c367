"""`invoke doctor`: what this host lacks, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from stackyard._util.tables import table
from stackyard.cli.common import answer
from stackyard.cli.options import Option
from stackyard.cli.task import command
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.checks.host import HostFinding

FIXED_BY_SETUP: Final = frozenset({"client", "socket", "engine", "compose", "buildx"})


@command(
    default=True,
    options={
        "fix": Option(
            help="First start or install the engine and remove leftovers, where needed. Agrees to installing.",
            short="f",
        ),
    },
)
def doctor(json: bool = False, fix: bool = False) -> None:
    """Check engine, Compose, disk, memory, clock, ports and leftovers; exit code 3 if something needed is missing."""
    from stackyard.checks.host import examine

    findings = examine()
    if fix and apply_fixes(findings):
        findings = examine()
    show(findings, as_json=json)


def apply_fixes(findings: Sequence[HostFinding]) -> bool:
    """
    Fix what can be fixed automatically; return whether anything was tried.

    Raises:
        EngineError: If the engine cannot be made usable.
    """
    from stackyard.cleanup.removal import remove_stale
    from stackyard.host.engine_setup import ensure_engine

    wrong = {finding.id for finding in findings if finding.status != "ok"}
    if wrong & FIXED_BY_SETUP:
        ensure_engine(consent=True)
    if "leftovers" in wrong:
        remove_stale().check()
    return bool(wrong & FIXED_BY_SETUP) or "leftovers" in wrong


def show(findings: Sequence[HostFinding], *, as_json: bool) -> None:
    """
    Print the findings.

    Raises:
        EngineError: If one that is needed failed.
    """
    rows = [(item.status, item.title, item.found, item.needed) for item in findings]
    titles: dict[str, list[str]] = {}  # by the fix, because one fix often helps with several
    for item in findings:
        if item.fix:
            titles.setdefault(item.fix, []).append(item.title)
    fixes = [f"\n{', '.join(lacking)}: {fix}" for fix, lacking in titles.items()]
    text = "\n".join([table(rows, ["", "check", "found", "needed"]), *fixes])
    answer([asdict(finding) for finding in findings], text, as_json=as_json)
    failed = [finding.title for finding in findings if finding.status == "fail"]
    if failed:
        raise EngineError(f"not usable yet: {', '.join(failed)}")

"""The report in short: Markdown for a pull request, JSON for machines, JUnit for a build server's own list of tests."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from stackyard._util.junit import case, document
from stackyard.report import page, sections, trends
from stackyard.report.wording import figure, promise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from junitparser import TestCase

    from stackyard.bench.records import Result
    from stackyard.report.inputs import Facts

SCHEMA = 2  # of summary.json
SHORT = ("startup", "cleanup", "parallel", "pool", "reset")  # suites whose promised figures a pull request wants to see


def markdown(facts: Facts) -> str:
    """Return the report as Markdown."""
    newest = facts.runs[-1] if facts.runs else None
    return page.render_markdown(
        "summary.md.j2", facts=facts, newest=newest, machine=page.machine(newest.machine) if newest else [],
        verdict=page.verdict(facts), requirements=[row for row, _ in facts.requirements()], held=page.held(facts),
        targets=sections.main_figures(facts), sections=sections.sections(facts), short=SHORT,
        history=trends.history(facts), columns=page.ROWS,
        environments=[page.environment(run) for run in facts.environments],
    )  # fmt: skip


def json(facts: Facts) -> str:
    """Return the report as JSON: verdict, requirements, promised figures, last runs, gaps."""
    word, text = page.verdict(facts)
    content = {
        "version": SCHEMA,
        "verdict": word,
        "summary": text,
        "targets": (page.held(facts) or ("OPEN", "no own target was measured yet"))[1],
        "requirements": _plain(row for row, _ in facts.requirements()),
        "figures": _plain(sections.main_figures(facts)),
        "environments": [
            {"name": run.name, "slot": run.slot, "when": run.when.isoformat(), "outcome": run.outcome,
             "reason": run.reason, "seconds": run.seconds,
             "rows": list(run.rows), "troubles": list(run.troubles)}
            for run in facts.environments
        ],
        "verify": None if facts.verified is None else {
            "when": facts.verified.when.isoformat(), "checks": facts.verified.checks, "waived": facts.verified.waived,
            **facts.verified.found,
        },
        "gaps": list(facts.gaps),
    }  # fmt: skip
    return jsonlib.dumps(content, indent=2) + "\n"


def _plain(rows: Iterable[Result]) -> list[dict[str, Any]]:
    """Return results without their samples, which the history has."""
    return [
        {name: value for name, value in asdict(row).items() if name != "samples"}
        | {"n": row.n, "figure": row.figure}
        for row in rows
    ]  # fmt: skip


def junit(facts: Facts) -> str:
    """Return one test case for each requirement; one that was not measured counts as skipped."""
    run = facts.newest("requirements")
    cases = [_case(row) for row, _ in facts.requirements()]
    return document("requirements", {"requirements": cases}, when=run.when if run else "")


def _case(row: Result) -> TestCase:
    measured = f"{figure(row)} measured, {promise(row)} promised"
    details = "\n".join(filter(None, [measured, row.reason, f"measured by: {row.command}"]))
    return case(
        "requirements",
        row.what,
        failure=measured if row.verdict == "FAIL" else "",
        skipped=row.reason or "not measured" if row.verdict is None else "",
        text=details,
    )

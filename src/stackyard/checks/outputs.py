"""What verifying found, for people, for build servers (JUnit) and for code scanners (SARIF 2.1.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard import __version__
from stackyard._util.junit import case, document
from stackyard._util.tables import format_bound, format_seconds, table
from stackyard.checks.catalogue import CHECKS
from stackyard.checks.records import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from junitparser import TestCase

    from stackyard.checks.detection import Detection
    from stackyard.checks.records import Check, Finding, Outcome

SARIF_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: Final = {"error": "error", "warning": "warning", "info": "note"}
HOME: Final = "docs/checks.md"


def findings_table(findings: Sequence[Finding]) -> str:
    """Return the table for a terminal, the most severe first, and below it how to fix each kind."""
    ordered = sorted(findings, key=lambda item: (bool(item.waived), SEVERITIES.index(item.severity), item.check))
    rows = [
        ["waived" if item.waived else item.severity, item.check, _place(item), item.found] for item in ordered
    ]  # fmt: skip
    fixes = {item.check: item.fix for item in ordered if not item.waived and item.severity != "info"}
    advice = [f"{name}: {fix}" for name, fix in fixes.items()]
    return "\n".join([table(rows, ["", "check", "where", "found"]), *(["", *advice] if advice else [])])


def detections_table(detections: Mapping[str, Sequence[Detection]]) -> str:
    """Return a table of how soon each fault was seen, in a stack of each environment."""
    rows = [
        [
            name,
            item.service,
            item.fault,
            "never" if item.seconds is None else format_seconds(item.seconds),
            format_bound(item.limit, "s"),
        ]
        for name, found in detections.items()
        for item in found
    ]
    return table(rows, ["environment", "service", "is", "seen after", "limit"], align=["left"] * 3 + ["right"] * 2)


def _place(item: Finding) -> str:
    return item.target if item.line is None else f"{item.target}:{item.line}"


def sarif(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the findings as a SARIF 2.1.0 log; what is waived is in it as suppressed."""
    driver = {"name": "stackyard", "version": __version__, "rules": [_rule(each) for each in CHECKS]}
    index = {each.id: number for number, each in enumerate(CHECKS)}
    results = [_result(item, index[item.check]) for outcome in outcomes for item in outcome.findings]
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _rule(each: Check[Any]) -> dict[str, Any]:
    return {
        "id": each.id,
        "shortDescription": {"text": each.title},
        "fullDescription": {"text": each.why},
        "help": {"text": f"To fix it: {each.fix}. See {HOME}."},
        "defaultConfiguration": {"level": LEVELS[each.severity]},
    }


def _result(item: Finding, rule: int) -> dict[str, Any]:
    place: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": item.target, "kind": "resource"}]}
    if item.target.startswith("compose/"):
        place["physicalLocation"] = {"artifactLocation": {"uri": item.target}, "region": {"startLine": item.line or 1}}
    result: dict[str, Any] = {
        "ruleId": item.check, "ruleIndex": rule, "level": LEVELS[item.severity],
        "message": {"text": f"{item.target}: {item.found}"}, "locations": [place],
    }  # fmt: skip
    if item.waived:
        result["suppressions"] = [{"kind": "external", "justification": item.waived}]
    return result


def junit(outcomes: Sequence[Outcome]) -> str:
    """Return one test case for each look of a check at a target; an error is a failure, a waiver a skip."""
    suites: dict[str, list[TestCase]] = {}
    for outcome in outcomes:
        suites.setdefault(outcome.target, []).append(_case(outcome))
    return document("verify", suites)


def _case(look: Outcome) -> TestCase:
    text = "\n".join(f"{item.severity}: {_place(item)}: {item.found}" for item in look.findings)
    for item in look.findings:
        if item.fails:
            return case(look.target, look.check, failure=item.found, text=f"{text}\nto fix it: {item.fix}")
    waived = [item.waived for item in look.findings]
    return case(look.target, look.check, skipped=waived[0] if waived and all(waived) else "", text=text)

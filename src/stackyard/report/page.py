"""The report as one HTML page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from stackyard._util.advice import Action, typed
from stackyard._util.tables import NOTHING, format_count, format_size
from stackyard.report import overview, sections, targets, trends, wording

if TYPE_CHECKING:
    from stackyard.bench.records import Machine
    from stackyard.report.inputs import Facts, LastRun

ROWS = ("start-up", "memory of the stack", "clean-up")  # what is shown of each environment's last run


def html(facts: Facts) -> str:
    """Return the page; every name in it is escaped."""
    newest = facts.runs[-1] if facts.runs else None
    required, wanted = targets.requirements(facts), targets.targets(facts)
    return _templates("html").get_template("page.html.j2").render(
        facts=facts, newest=newest, machine=machine(newest.machine) if newest else [],
        verdict=verdict(facts), held=held(facts), tiles=overview.tiles(facts),
        requirements=required, targets=wanted, missed=targets.missed([*required, *wanted]),
        sources=targets.sources(required), again=again(facts),
        sections=sections.sections(facts), history=trends.history(facts), trends=trends.COLUMNS,
        runs=len(trends.comparable(facts)), numbers=sections.FIGURES,
        environments=[environment(run) for run in facts.environments], columns=ROWS, **_functions(),
    )  # fmt: skip


def again(facts: Facts) -> str:
    """Return the command that measures the newest requirements again; empty without any."""
    run = facts.newest("requirements")
    if run is None:
        return ""
    return " ".join([typed(Action.BENCH), "--", *run.suites, *([] if run.depth == "default" else [f"--{run.depth}"])])


def render_markdown(name: str, **given: Any) -> str:
    """Return a Markdown template filled in; every value is escaped, and none can begin a new cell or line."""
    text = _templates("markdown").get_template(name).render(**given, **_functions())
    return text.strip() + "\n"


def verdict(facts: Facts) -> tuple[str, str]:
    """Return PASS, FAIL or OPEN, and how many of the measured requirements are met in words."""
    rows = [row for row, _ in facts.requirements()]
    judged = [row for row in rows if row.verdict]
    if not judged:
        return "OPEN", "no requirement was measured yet"
    met = sum(row.verdict == "PASS" for row in judged)
    text = f"{met} of {format_count(len(judged), 'requirement')} met"
    if len(judged) < len(rows):
        text += f", {len(rows) - len(judged)} not measured yet"
    return ("FAIL" if met < len(judged) else "PASS" if len(judged) == len(rows) else "OPEN"), text


def held(facts: Facts) -> tuple[str, str] | None:
    """Return PASS or FAIL, and how many of stackyard's own targets are met in words; None where none was measured."""
    rows = [row for row in sections.main_figures(facts) if row.verdict]
    missed = sum(row.verdict == "FAIL" for row in rows)
    if not rows:
        return None
    return "FAIL" if missed else "PASS", f"{len(rows) - missed} of {format_count(len(rows), 'own target')} met"


def machine(given: Machine) -> list[tuple[str, str]]:
    """Return what a machine is, as names and values."""
    cores = f"{given.cpus} x {given.cpu}" if given.cpu else f"{given.cpus} processors"
    facts = [
        ("processor", cores), ("memory", format_size(given.memory_bytes)), ("system", given.system),
        ("kernel", given.kernel), ("Docker Engine", given.engine), ("Compose", given.compose),
        ("packet filter", given.packet_filter), ("Python", given.python), ("load before", f"{given.load:.2f}"),
    ]  # fmt: skip
    return [(name, value or "unknown") for name, value in facts]


def environment(run: LastRun) -> tuple[LastRun, list[tuple[str, str]]]:
    """Return an environment's run with the figure and the verdict of each of ROWS."""
    rows = {row["what"]: row for row in run.rows}
    return run, [
        (wording.quantity(row["value"], row["unit"]), row["verdict"]) if row else (NOTHING, "")
        for row in map(rows.get, ROWS)
    ]


def _functions() -> dict[str, Any]:
    return {
        "quantity": wording.quantity, "promise": wording.promise, "interval": wording.interval,
        "typed": lambda action: typed(Action[action]),
        "figure": wording.figure, "moment": sections.moment, "name": sections.name, "count": format_count,
    }  # fmt: skip


@functools.cache
def _templates(kind: str) -> Environment:
    """Return the templates: those of HTML escape for HTML, those of Markdown for Markdown, both by themselves."""
    loader = PackageLoader("stackyard.report")
    common: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    if kind == "html":
        return Environment(loader=loader, autoescape=True, **common)
    return Environment(loader=loader, autoescape=False, finalize=wording.markdown, **common)  # noqa: S701 - not HTML

"""The report as one HTML page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from stackyard.pages import sections, words
from stackyard.report import NOTHING, format_size

if TYPE_CHECKING:
    from stackyard.bench.records import Machine
    from stackyard.pages.inputs import Facts, LastRun

ROWS = ("start-up", "memory of the stack", "clean-up")  # what is shown of each environment's last run


def html(facts: Facts) -> str:
    """Return the page; every name in it is escaped."""
    newest = facts.runs[-1] if facts.runs else None
    return _templates("html").get_template("page.html.j2").render(
        facts=facts, newest=newest, machine=machine(newest.machine) if newest else [],
        requirements=facts.results("requirements"), requirements_source=sections.source(facts.newest("requirements")),
        verdict=verdict(facts), targets=sections.main_figures(facts), held=held(facts),
        sections=sections.sections(facts), history=sections.history(facts), runs=len(sections.comparable(facts)),
        environments=[environment(run) for run in facts.environments], columns=ROWS, **_functions(),
    )  # fmt: skip


def render_markdown(name: str, **given: Any) -> str:
    """Return a Markdown template filled in; every value is escaped, and none can begin a new cell or line."""
    text = _templates("markdown").get_template(name).render(**given, **_functions())
    return text.strip() + "\n"


def verdict(facts: Facts) -> tuple[str, str]:
    """Return PASS, FAIL or OPEN, and how many requirements are met in words."""
    rows = facts.results("requirements")
    if not rows:
        return "OPEN", "no requirement was measured yet"
    met, missed = (sum(row.verdict == word for row in rows) for word in ("PASS", "FAIL"))
    text = f"{met} of {len(rows)} requirements met"
    if missed:
        return "FAIL", f"{text}, {missed} missed"
    return ("PASS", text) if met == len(rows) else ("OPEN", f"{text}, {len(rows) - met} not measured")


def held(facts: Facts) -> tuple[str, str] | None:
    """Return PASS or FAIL, and how many of stackyard's own targets are met in words; None where none was measured."""
    rows = [row for row in sections.main_figures(facts) if row.verdict]
    missed = sum(row.verdict == "FAIL" for row in rows)
    if not rows:
        return None
    return "FAIL" if missed else "PASS", f"{len(rows) - missed} of {len(rows)} own targets met"


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
        (words.quantity(row["value"], row["unit"]), row["verdict"]) if row else (NOTHING, "")
        for row in map(rows.get, ROWS)
    ]


def _functions() -> dict[str, Any]:
    return {
        "quantity": words.quantity, "promise": words.promise, "interval": words.interval, "figure": words.figure,
        "moment": sections.moment, "commit": sections.commit, "name": sections.name,
    }  # fmt: skip


@functools.cache
def _templates(kind: str) -> Environment:
    """Return the templates: those of HTML escape for HTML, those of Markdown for Markdown, both by themselves."""
    loader = PackageLoader("stackyard.pages")
    common: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    if kind == "html":
        return Environment(loader=loader, autoescape=True, **common)
    return Environment(loader=loader, autoescape=False, finalize=words.markdown, **common)  # noqa: S701 - not HTML

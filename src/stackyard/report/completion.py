"""The completion report: what the tree contains and what was measured, all of it read from the tree and the history."""

from __future__ import annotations

import ast
import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from stackyard._util import process
from stackyard.bench.suites import MODULES
from stackyard.errors import StackyardError
from stackyard.report import page, sections
from stackyard.report.inputs import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stackyard.bench.records import Run

LISTING = 60.0  # seconds nox or invoke may take to list what they offer
# nox's JSON holds the sessions that are picked: without a word, only the default ones
NOX = ("-m", "nox", "--list-sessions", "--json", "-k", "not none_of_them")
INVOKE = ("-m", "invoke", "--list", "--list-format=json")
COMPLETION = "completion_report.md"  # the report does not list itself
LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliverables:
    """What the tree offers: of each kind a name, and a line in its own words."""

    sessions: tuple[tuple[str, str], ...] = ()
    tasks: tuple[tuple[str, str], ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()
    modules: tuple[tuple[str, str], ...] = ()
    pages: tuple[tuple[str, str], ...] = ()

    @property
    def lists(self) -> list[tuple[str, str, tuple[tuple[str, str], ...]]]:
        """Each kind with its title and what stands before a name on the command line."""
        return [
            ("Sessions", "./noxw -s", self.sessions), ("Tasks", "invoke", self.tasks),
            ("Scripts", "python", self.scripts), ("Library", "import", self.modules), ("Documents", "file", self.pages),
        ]  # fmt: skip

    @classmethod
    def of(cls, root: Path) -> Self:
        """
        Read what the project at *root* offers.

        Raises:
            StackyardError: If nox or invoke cannot say.
        """
        listed = _listed(root, NOX)
        return cls(
            sessions=tuple((row["session"], row["description"] or "") for row in listed),
            tasks=tuple(_tasks(_listed(root, INVOKE))),
            scripts=tuple((f"scripts/{path.name}", docstring(path)) for path in sorted(root.glob("scripts/*.py"))),
            modules=tuple(_modules(root / "src/stackyard")),
            pages=tuple((f"docs/{path.name}", opening(path)) for path in sorted(root.glob("docs/*.md"))
                        if path.name != COMPLETION),
        )  # fmt: skip


def markdown(facts: Facts, deliverables: Deliverables) -> str:
    """Return the report; the figures are those of the newest run that measured everything, or each suite's newest."""
    run = full_run(facts)
    chosen = Facts(runs=(run,)) if run else facts
    newest = chosen.runs[-1] if chosen.runs else None
    return page.render_markdown(
        "completion.md.j2", whole=run is not None, newest=newest, deliverables=deliverables,
        machine=page.machine(newest.machine) if newest else [], notes=newest.notes if newest else (),
        requirements=[row for row, _ in chosen.requirements()], figures=sections.main_figures(chosen),
        sources=[(suite, sections.source(chosen.newest(suite))) for suite in sorted(chosen.suites)],
    )  # fmt: skip


def full_run(facts: Facts) -> Run | None:
    """Return the newest run of all suites at full depth."""
    full = [run for run in facts.runs if run.depth == "full" and set(run.suites) >= MODULES.keys()]
    return full[-1] if full else None


def docstring(path: Path) -> str:
    """Return the first sentence of a program's docstring; empty where it has none."""
    try:
        return _sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    except (SyntaxError, ValueError):
        return ""


def opening(path: Path) -> str:
    """Return a document's heading and its first sentence, links without their targets; empty where it has neither."""
    _, heading, rest = path.read_text(encoding="utf-8", errors="replace").partition("# ")
    title, _, body = (heading and rest).partition("\n")
    said = LINK.sub(r"\1", _sentence(body.strip())) if body.strip()[:1].isalpha() else ""
    return f"{title}: {said}" if said else title


def _sentence(text: str) -> str:
    """Return the first sentence of the first paragraph."""
    sentence, stop, _ = " ".join(text.partition("\n\n")[0].split()).partition(". ")
    return sentence + stop.rstrip()


def _modules(package: Path) -> Iterator[tuple[str, str]]:
    """Yield the modules and packages right below *package*."""
    found = {path.stem: path for path in package.glob("*.py") if path.name != "__init__.py"}
    found |= {path.parent.name: path for path in package.glob("*/__init__.py")}
    for name, path in sorted(found.items()):
        yield f"{package.name}.{name}", docstring(path)


def _tasks(listed: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the tasks of a listing, those of its groups too."""
    for task in listed["tasks"]:
        yield prefix + task["name"].rstrip("_"), task["help"] or ""
    for group in listed["collections"]:
        yield from _tasks(group, f"{prefix}{group['name']}.")


def _listed(root: Path, words: tuple[str, ...]) -> Any:
    text = process.run([sys.executable, *words], deadline=LISTING, cwd=root).stdout
    try:
        return json.loads(text)
    except ValueError:
        raise StackyardError(f"{words[1]} lists nothing that can be read; run `{' '.join(words[1:])}`") from None

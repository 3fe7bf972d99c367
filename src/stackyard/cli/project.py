"""`invoke project.*`: what keeps two copies of a Compose project apart; nothing is started, leased or written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.tasks import task

from stackyard.cli import options
from stackyard.cli.common import answer
from stackyard.cli.options import Option
from stackyard.cli.task import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from invoke.context import Context

    from stackyard.plan import Preview

EXIT_CODES: Final = {"copies": 0, "one at a time": 1, "not possible": 2}
SAID: Final = {
    "copies": "any number of copies can run at once",
    "one at a time": "only one copy can run at a time",
    "not possible": "no copy can run yet",
}


@task(
    klass=Command,
    words=["folder"],
    many=["file", "profile"],
    options={
        "folder": Option(help="The project's folder; this one if not given.", value="FOLDER"),
        "file": Option(
            help="A Compose file, instead of those that Compose finds; can be repeated.",
            value="FILE",
            short="f",
        ),
        "profile": Option(help="A profile to enable; can be repeated.", value="PROFILE", short="p"),
        "json": options.JSON,
    },
)
def check(
    _c: Context,
    folder: str = ".",
    file: Sequence[str] | None = None,
    profile: Sequence[str] | None = None,
    json: bool = False,
) -> None:
    """Show what copies of a Compose project would change; exit code 1: one copy at a time, 2: not possible."""
    from stackyard.plan import Preview
    from stackyard.project import Project

    project = Project.find(Path(folder).absolute(), files=file or (), profiles=profile or ())
    preview = Preview.of(project)
    answer(_data(project.name, preview), _text(project.name, preview), as_json=json)
    if code := EXIT_CODES[preview.plan.verdict]:
        raise Exit(code=code)


@task(
    klass=Command,
    words=["folder"],
    many=["file", "profile"],
    options={
        "folder": Option(help="The project's folder; this one if not given.", value="FOLDER"),
        "file": Option(
            help="A Compose file, instead of those that Compose finds; can be repeated.", value="FILE", short="f"
        ),
        "profile": Option(help="A profile to enable; can be repeated.", value="PROFILE", short="p"),
    },
)  # fmt: skip
def explain(
    _c: Context, folder: str = ".", file: Sequence[str] | None = None, profile: Sequence[str] | None = None
) -> None:
    """Print the Compose model that a copy would be started from, with made-up ports, as JSON; starts nothing."""
    import json

    from stackyard.plan import Preview
    from stackyard.project import Project

    project = Project.find(Path(folder).absolute(), files=file or (), profiles=profile or ())
    print(json.dumps(Preview.of(project).plan.model, indent=2))


def _data(name: str, preview: Preview) -> dict[str, object]:
    return {
        "project": name,
        "verdict": preview.plan.verdict,
        "services": {
            "running": list(preview.running),
            "one_shot": list(preview.one_shots),
            "behind_profiles": list(preview.behind_profiles),
        },
        "ports": preview.ports,
        "changes": [change.to_json() for change in preview.plan.changes],
        "concerns": [concern.to_json() for concern in preview.plan.concerns],
    }


def _text(name: str, preview: Preview) -> str:
    from stackyard._util.tables import format_count, table

    counts = [f"{len(preview.running)} run"]
    for word, services in (("one-shot", preview.one_shots), ("behind profiles", preview.behind_profiles)):
        counts += [f"{len(services)} {word} ({', '.join(services)})"] if services else []
    head = [
        f"project   {name}: {SAID[preview.plan.verdict]}",
        f"services  {', '.join(counts)}",
        f"per copy  {format_count(preview.ports, 'leased port')}",
    ]
    parts = ["\n".join(head if preview.plan.model else head[:1])]
    if preview.plan.changes:
        rows = [[change.place, change.before, change.after, change.why] for change in preview.plan.changes]
        parts.append(table(rows, ["a copy changes", "from", "to", "because"]))
    if preview.plan.concerns:
        noted = [[item.level, item.place, f"{item.text}; {item.advice}"] for item in preview.plan.concerns]
        parts.append(table(noted, ["", "place", "what to know"]))
    return "\n\n".join(parts)


collection = Collection("project", check)

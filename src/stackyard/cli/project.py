"""`invoke project.*`: what keeps two copies of a Compose project apart; nothing is started, leased or written."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final, NamedTuple

from invoke.collection import Collection
from invoke.exceptions import Exit

from stackyard._util.advice import at_site
from stackyard._util.tables import format_count, table
from stackyard.cli import options
from stackyard.cli.common import answer, tell
from stackyard.cli.options import Option
from stackyard.cli.site import chosen_site
from stackyard.cli.task import command
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.docker import Engine
    from stackyard.plan import Preview
    from stackyard.probes.readiness_rules import Rule
    from stackyard.project import Project
    from stackyard.stacks.project_images import Lacking

EXIT_CODES: Final = {"copies": 0, "one at a time": 1, "not possible": 2}
SAID: Final = {
    "copies": "any number of copies can run at once",
    "one at a time": "only one copy can run at a time",
    "not possible": "no copy can run yet",
}


FOLDER: Final = {"folder": Option(help="The project's folder; this one if not given.", value="FOLDER")}


@command(words=["folder"], options=FOLDER)
def check(
    folder: str = ".",
    file: Sequence[str] = (),
    profile: Sequence[str] = (),
    env_file: Sequence[str] = (),
    site: str = "",
    json: bool = False,
) -> None:
    """Show what a copy of a Compose project changes; exit code 1: only one copy at a time, 2: no copy can run yet."""
    project, preview = _previewed(folder, file, profile, env_file, site)
    known = _known(project, preview, images=_on_engine())
    data = {
        **_data(project, preview, known.rules),
        "missing_images": None if known.lacking is None else [item._asdict() for item in known.lacking],
    }
    answer(data, _text(project, preview, known.rules, known.lacking), as_json=json)
    if code := EXIT_CODES[preview.plan.verdict]:
        raise Exit(code=code)


@command(words=["folder"], options=FOLDER)
def explain(
    folder: str = ".",
    file: Sequence[str] = (),
    profile: Sequence[str] = (),
    env_file: Sequence[str] = (),
    site: str = "",
) -> None:
    """Print the Compose model that a copy would be started from, with made-up ports, as JSON; starts nothing."""
    import json

    from stackyard.plan import oversights
    from stackyard.project.configuration import EXTENSION

    project, preview = _previewed(folder, file, profile, env_file, site)
    for line in oversights.warnings(project):
        tell(line)
    shown = {name: rule.to_json() for name, rule in _known(project, preview, images=False).rules.items()}
    there = [asdict(change) for change in preview.plan.changes if change.kind == "site"]
    said = {"ready": shown} if _on_engine() else {"ready": shown, "changes": there}
    print(json.dumps({**preview.plan.model, EXTENSION: said}, indent=2))


def _previewed(
    folder: str, file: Sequence[str], profile: Sequence[str], env_file: Sequence[str], site: str
) -> tuple[Project, Preview]:
    """Return a project, and the plan of a made-up copy."""
    from stackyard.docker import Engine
    from stackyard.docker.swarm import Swarm
    from stackyard.plan import Preview

    where = chosen_site(site)
    where.use()
    project = options.project(file, profile, env_file, folder)
    if _on_engine():
        return project, Preview.of(project, where.endpoint.address)
    from stackyard.sites.swarm.preview import preview

    with Engine() as engine:
        return project, preview(project, Swarm(engine), tell)


def _on_engine() -> bool:
    """Say whether copies of the chosen site are on one engine."""
    from stackyard.sites import Site

    return Site.find().kind != "swarm"


class _Known(NamedTuple):
    """What is known with the engine's help; without an engine, as a look needs none, only what the files say."""

    rules: Mapping[str, Rule]
    lacking: list[Lacking] | None = None


def _known(project: Project, preview: Preview, *, images: bool = True) -> _Known:
    """Return the readiness rule of each service, and with *images* which images are not here yet."""
    from stackyard.docker import Engine
    from stackyard.probes.readiness_rules import rules_for
    from stackyard.stacks.project_images import facts

    model, hints = preview.plan.model, project.configuration.ready
    try:
        with Engine() as engine:
            found = facts(engine, {**model, "name": project.name}) if model else {}
            return _Known(rules_for(model, found, hints), _lacking(engine, project, preview) if images else None)
    except EngineError as error:
        tell(f"warning: images were not checked: {error}")
        return _Known(rules_for(model, {}, hints))


def _lacking(engine: Engine, project: Project, preview: Preview) -> list[Lacking]:
    from stackyard.settings import Settings
    from stackyard.stacks.builds import unbuilt
    from stackyard.stacks.copies.leased_project import CopiedProject
    from stackyard.stacks.project_images import lacking

    built = unbuilt(preview.usual, CopiedProject.of(project).name, Settings.load(), engine)
    return lacking(engine, preview.usual, built)


def _data(project: Project, preview: Preview, rules: Mapping[str, Rule]) -> dict[str, object]:
    return {
        "project": project.name,
        "configuration": project.configuration.file or None,
        "verdict": preview.plan.verdict,
        "services": {
            "running": list(preview.running),
            "one_shot": list(preview.one_shots),
            "behind_profiles": list(preview.behind_profiles),
        },
        "ports": preview.ports,
        "changes": [*map(asdict, preview.plan.changes)],
        "concerns": [*map(asdict, preview.plan.concerns)],
        "ready": [{"service": name, "kind": rule.kind, "why": rule.why} for name, rule in rules.items()],
    }


def _text(
    project: Project, preview: Preview, rules: Mapping[str, Rule], images: Sequence[Lacking] | None
) -> str:  # fmt: skip
    counts = [f"{len(preview.running)} run"]
    for word, services in (("one-shot", preview.one_shots), ("behind profiles", preview.behind_profiles)):
        counts += [f"{len(services)} {word} ({', '.join(services)})"] if services else []
    head = [
        f"project   {project.name}: {SAID[preview.plan.verdict]}",
        f"services  {', '.join(counts)}",
        f"per copy  {format_count(preview.ports, 'leased port')}",
    ]
    if project.configuration.file:
        head.append(f"reads     {project.configuration.where}")
    parts = ["\n".join(head if preview.plan.model else head[:1])]
    if preview.plan.changes:
        rows = [[change.place, change.before, change.after, change.why] for change in preview.plan.changes]
        parts.append(table(rows, ["a copy changes", "from", "to", "because"]))
    if preview.plan.concerns:
        noted = [[item.level, item.place, f"{item.text}; {item.advice}"] for item in preview.plan.concerns]
        parts.append(table(noted, ["", "place", "what to know"]))
    if images:
        rows = [[item.image, ", ".join(item.services), _brings(item.by)] for item in images]
        parts.append(table(rows, ["image that is not here", "service", "what brings it"]))
    if rules:
        parts.append(table([[name, rule.why] for name, rule in rules.items()], ["service", "is ready when"]))
    return "\n\n".join(parts)


def _brings(by: str) -> str:
    """Say what brings an image to the engine where the copy would run."""
    from stackyard.sites import Site

    up = at_site("stackyard up")
    docker = " ".join(Site.find().docker)
    return {
        "pull": f"'{up}' pulls it, or '{docker} compose pull'",
        "build": f"'{up}' builds it",
        "nothing": f"nothing: its pull_policy is never; '{docker} pull' or '{docker} build' it yourself",
    }[by]


collection = Collection("project", check)

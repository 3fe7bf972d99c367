"""What a copy of a project on a Swarm would change, and what keeps it from one; nothing is started or written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stackyard.errors import EngineError
from stackyard.plan import Change, Concern, Plan, Preview
from stackyard.plan.oversights import oversights
from stackyard.probes.readiness_rules import rules_for
from stackyard.sites.swarm import images, registry
from stackyard.sites.swarm.preparation import BY_NAME, Prepared
from stackyard.sites.swarm.translation import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.docker.swarm import Swarm
    from stackyard.project import Project
    from stackyard.sites.swarm.translation_notes import Note

# of a plan: a Swarm has these otherwise, as the notes of its translation say
OTHERWISE: Final = frozenset({"port", "variable", "network", "address", "volume"})
ELSEWHERE: Final = "use a site with one engine (local or context:NAME)"


def preview(project: Project, swarm: Swarm, progress: Callable[[str], None]) -> Preview:
    """
    Plan and translate a made-up copy of *project*, also without an answer of the Swarm.

    Args:
        project: The project.
        swarm: Where the copy would be.
        progress: Called with a warning if the Swarm does not answer.

    Raises:
        UsageError: If Compose refuses the project, or nothing in it is enabled.
    """
    found = Preview.of(project)
    if not found.plan.model:
        return found
    made = Prepared(project, found.usual, swarm, references=dict.fromkeys(found.usual["services"], ""))
    planned = made.plan(f"{project.name}-copy")
    try:
        rules, unbuildable = made.rules(planned.model), images.unbuildable(found.usual, registry.find(swarm))
    except EngineError as error:
        progress(f"warning: the Swarm was not asked for images and a registry: {error}")
        rules, unbuildable = rules_for(planned.model, {}, project.configuration.ready), []
    seen = translate(planned.model, rules, made.references, {}, project.environment)
    changes = (*_changes(planned), *map(_change, [*seen.changes, *made.ignored()]))
    refused = [*seen.refused, *unbuildable]
    concerns = (*oversights(project), *_concerns(planned, refused), *map(_concern, refused))
    return replace(found, plan=Plan(model=planned.model, changes=changes, concerns=concerns))


def _changes(planned: Plan) -> Iterator[Change]:
    return (change for change in planned.changes if change.kind not in OTHERWISE)


def _change(note: Note) -> Change:
    after, why = ("dropped", note.text) if note.does == "dropped" else (note.text, "copies on a Swarm have it so")
    return Change(kind="site", place=note.place, before="", after=after, why=why)


def _concerns(planned: Plan, refused: Sequence[Note]) -> Iterator[Concern]:
    """Return what the plan says; nothing can run one at a time there, and what is refused is said once."""
    places = {note.place for note in refused}
    for item in planned.concerns:
        if item.place not in places:
            yield replace(item, level="not possible") if item.level in BY_NAME else item


def _concern(note: Note) -> Concern:
    text, _, advice = note.text.partition("; ")
    return Concern(level="not possible", place=note.place, text=text, advice=advice or ELSEWHERE)

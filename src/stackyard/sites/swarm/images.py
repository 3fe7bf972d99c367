"""How the nodes of a Swarm get the images of a copy: by digest from a registry, else by id on nodes that have them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from stackyard._util.advice import Action, how
from stackyard.docker import inspection
from stackyard.docker.json_fields import Part
from stackyard.docker.lease_book import open_book
from stackyard.errors import RefusedError, UsageError
from stackyard.project.model import copies_of
from stackyard.sites.swarm.registry import is_pushed
from stackyard.sites.swarm.translation_notes import Note
from stackyard.stacks import builds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stackyard.docker.swarm import Swarm
    from stackyard.project import Project
    from stackyard.sites.swarm.registry import Registry


@contextlib.contextmanager
def built(
    project: Project, usual: Mapping[str, Any], owner: str, swarm: Swarm, registry: Registry | None,
    progress: Callable[[str], None],
) -> Iterator[Mapping[str, str]]:  # fmt: skip
    """
    Build what the project builds, on the manager's engine; give the block the image's id for each of these services.

    No clean-up removes the images until the block ends; by then the registry has them.

    Args:
        project: The project.
        usual: Its rendered model.
        owner: The checkout's own name for the project.
        swarm: The Swarm.
        registry: Where the nodes get the images; None refuses a build.
        progress: Called with a line before a build.

    Raises:
        UsageError: If a service is built and there is no registry; one line for each.
        ImageError: If a build fails.
    """
    if lacking := unbuildable(usual, registry):
        raise UsageError("; ".join(map(str, lacking)))
    if not _built(usual):
        yield {}
        return
    with builds.built(project, usual, owner, open_book(None, swarm.engine), swarm.engine, progress) as found:
        yield found


def unbuildable(usual: Mapping[str, Any], registry: Registry | None) -> list[Note]:
    """Return what is built although there is no registry from which the nodes could get it."""
    why = (
        "nodes get a build from a registry, and this Swarm has none; name one in STACKYARD_REGISTRY, or "
        f"{how(Action.RUN_REGISTRY)}"
    )
    return [] if registry else [Note(f"services.{name}.build", "refused", why) for name in _built(usual)]


def _built(usual: Mapping[str, Any]) -> list[str]:
    return [name for name, spec in usual["services"].items() if copies_of(spec) and spec.get("build")]


def references(swarm: Swarm, model: Mapping[str, Any], registry: Registry | None) -> dict[str, str]:
    """
    Return the image of each service that has a container.

    An image with a digest is named by it, so each node pulls the same one. One that only the manager's engine has is
    pushed to the registry and named by its digest there. Without a registry it is named by its id: nodes that have it
    take it.

    Args:
        swarm: Where they are used.
        model: The model of a plan.
        registry: Where images go that only the manager's engine has.

    Raises:
        ImageError: If the registry does not take one.
    """
    wanted = {name: str(spec.get("image") or "") for name, spec in model["services"].items() if copies_of(spec)}
    found = {image: reference(swarm, image, registry) for image in set(wanted.values())}
    return {name: found[image] for name, image in wanted.items()}


def reference(swarm: Swarm, name: str, registry: Registry | None) -> str:
    """
    Return what a service calls the image *name*, as `references` says.

    Raises:
        ImageError: If the registry does not take it.
    """
    try:
        found = Part(inspection.image(swarm.engine, name))
    except RefusedError:
        return name  # the nodes pull it
    others = (digest for digest in found.get("RepoDigests").words() if not is_pushed(digest))
    if digest := next(others, ""):
        return digest
    return registry.push(swarm.engine, name) if registry else found.text("Id")

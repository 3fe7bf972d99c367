"""The images of a copy, as the nodes of a Swarm get them: by digest from a registry, else by id where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackyard._util.tables import format_list
from stackyard.docker import inspection
from stackyard.docker.answers import Part
from stackyard.errors import RefusedError, UsageError
from stackyard.project.model import copies_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.docker.swarm import Swarm


def references(swarm: Swarm, model: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the image of each service that has a container.

    An image with a digest is named by it, so each node pulls the same one. One that only the manager's engine has is
    named by its id: nodes that have it take it without asking a registry.

    Args:
        swarm: Where they are used.
        model: The project's rendered model.

    Raises:
        UsageError: If a service is built; one line for each.
    """
    services = {name: spec for name, spec in model["services"].items() if copies_of(spec)}
    if built := [name for name, spec in services.items() if spec.get("build")]:
        raise UsageError(format_list(f"{len(built)} services are built here", [
            f"services.{name}.build: nodes get images from a registry, and a build here is in none; push the image, "
            "and name it with 'image' alone" for name in built
        ]))  # fmt: skip
    return {name: _reference(swarm, str(spec.get("image") or "")) for name, spec in services.items()}


def _reference(swarm: Swarm, name: str) -> str:
    try:
        found = Part(inspection.image(swarm.engine, name))
    except RefusedError:
        return name  # the nodes pull it
    return next(iter(found.get("RepoDigests").words()), "") or found.text("Id")

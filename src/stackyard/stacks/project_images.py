"""The images of a project's services: what the engine knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackyard.docker import inspection
from stackyard.errors import RefusedError
from stackyard.probes.rules import ImageFacts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from stackyard.docker import Engine


def facts(engine: Engine, model: Mapping[str, Any], services: Collection[str] | None = None) -> dict[str, ImageFacts]:
    """
    Return what the images of *model* say, by service; a service whose image is not here is left out.

    Args:
        engine: Where the images are.
        model: A rendered model.
        services: Only these; None means all.

    Raises:
        EngineError: If the engine does not answer.
    """
    found = {}
    for name, service in model["services"].items():
        if services is not None and name not in services:
            continue
        try:
            answer = inspection.image(engine, reference(model, name, service))
        except RefusedError:
            continue
        found[name] = ImageFacts.from_inspect(answer)
    return found


def reference(model: Mapping[str, Any], name: str, service: Mapping[str, Any]) -> str:
    """Return the name of a service's image; one that is only built has the name that Compose gives it."""
    return str(service.get("image") or f"{model.get('name')}-{name}")

"""How the data of each service is brought back: pure functions of the services and of what they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard.probes.readiness_rules import recognised

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import Any

    from stackyard.probes.readiness_rules import ImageFacts
    from stackyard.stacks.data.records import Driver, Folder

IN_PLACE: Final[Mapping[str, Driver]] = {"PostgreSQL": "postgresql", "Redis or Valkey": "redis"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    The relevant facts about one container.

    Attributes:
        service: Its service.
        name: Its name.
        folders: Its volumes.
        joins: Names of containers whose namespaces or volumes it shares.
        runs: Whether it runs.
    """

    service: str
    name: str
    folders: Sequence[Folder] = ()
    joins: Collection[str] = ()
    runs: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """
    One service's driver.

    Attributes:
        driver: How its data is brought back.
        why: Why, for a person.
    """

    driver: Driver
    why: str


def choose(
    model: Mapping[str, Any],
    images: Mapping[str, ImageFacts],
    containers: Sequence[Seen],
    refused: Mapping[str, str],
) -> dict[str, Choice]:
    """
    Choose the driver of each service that has a container.

    Args:
        model: The copy's model.
        images: What the services' images say.
        containers: The copy's containers.
        refused: Services whose own client cannot do it, and why.
    """
    products = {
        one.service: found[0].title
        for one in containers
        if (found := recognised(model["services"][one.service], images.get(one.service)))
    }
    chosen = {
        name: Choice(IN_PLACE[title], f"it is {title}")
        for name, title in products.items()
        if title in IN_PLACE and name not in refused and _is_the_copy_s(model["services"][name], name, containers)
    }
    kept_there = {folder.volume for one in containers if one.service in chosen for folder in one.folders}
    for one in containers:
        if one.service not in chosen and (why := _why(one, products.get(one.service, ""), kept_there)):
            because = f" ({refused[one.service]})" if one.service in refused else ""
            chosen[one.service] = Choice("volumes", f"{why}{because}")
    _spread(chosen, containers)
    for one in containers:
        chosen.setdefault(one.service, Choice("none", _left(one)))
    return chosen


def together(services: Collection[str], containers: Sequence[Seen]) -> set[str]:
    """Return *services* and all that share volumes or namespaces with them, directly or not."""
    found = set(services)
    while more := {one.service for one in containers if one.service not in found and _touches(one, found, containers)}:
        found |= more
    return found


def _is_the_copy_s(service: Mapping[str, Any], name: str, containers: Iterable[Seen]) -> bool:
    """Say whether a database runs, is the one that its client reaches, and keeps no data of others."""
    if service.get("network_mode") == "host":  # where another server may have its port by then
        return False
    own = [one for one in containers if one.service == name]
    return all(one.runs and all(folder.own for folder in one.folders if folder.writable) for one in own)


def _why(one: Seen, product: str, kept_there: Collection[str]) -> str:
    """Say why a container's data is brought back with its volumes; empty if that is not needed."""
    written = [folder.path for folder in one.folders if folder.own and folder.writable]
    if any(folder.own and folder.writable and folder.volume not in kept_there for folder in one.folders):
        return f"it writes to {', '.join(written)}"
    return f"it is {product}" if product and one.runs and not any(folder.writable for folder in one.folders) else ""


def _spread(chosen: dict[str, Choice], containers: Sequence[Seen]) -> None:
    """
    Add what shares a volume or a namespace with containers that are made again: it has to be made again, too.

    A database that keeps its data itself has to be only if it is inside a namespace that goes.
    """
    made = {name for name, choice in chosen.items() if choice.driver == "volumes"}
    while more := {
        one.service for one in containers
        if one.service not in made
        and (_joins(one, made, containers) if one.service in chosen else _touches(one, made, containers))
    }:  # fmt: skip
        for name in more:
            chosen[name] = Choice("volumes", "it shares a volume or a namespace with a service that is made again")
        made |= more


def _touches(one: Seen, services: Collection[str], containers: Sequence[Seen]) -> bool:
    others = [other for other in containers if other.service in services]
    volumes = {folder.volume for other in others for folder in other.folders if folder.own}
    return any(folder.volume in volumes for folder in one.folders) or _joins(one, services, containers)


def _joins(one: Seen, services: Collection[str], containers: Sequence[Seen]) -> bool:
    return any(other.name in one.joins for other in containers if other.service in services)


def _left(one: Seen) -> str:
    if not one.runs:
        return "it had ended after the start"
    if any(folder.writable for folder in one.folders):
        return "its volume belongs to others, too"
    return "it keeps nothing in a volume, so it keeps running"

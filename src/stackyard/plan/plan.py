"""One copy's model: a pure function of the user's model, of what the copy leased, and of the configuration."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stackyard.errors import UsageError
from stackyard.plan import names, networks, ports, repeated_addresses, services, volumes
from stackyard.plan.ports import LOOPBACK
from stackyard.project import published_ports
from stackyard.project.configuration import Configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from ipaddress import IPv4Network
    from pathlib import Path

    from stackyard.plan.records import Change, Concern, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    What a copy leased.

    Attributes:
        project: Its Compose project name.
        ports: Its host ports, in the order in which the model publishes.
        subnet: Leases an IPv4 network of a prefix length.
        variables: Ports that are leased because a variable gives them: variable by place in the model.
        tags: Its image tags, by service that is built.
        address: Where its user reaches the ports that the engine publishes.
    """

    project: str
    ports: Iterable[int]
    subnet: Callable[[int], IPv4Network]
    variables: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    address: str = LOOPBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    A model that nothing else on the host collides with.

    Attributes:
        model: The copy's model, for `docker compose -f`.
        changes: What differs from the user's, in the order of the model.
        concerns: What its user has to know or decide.
    """

    model: Mapping[str, Any] = field(repr=False)
    changes: tuple[Change, ...]
    concerns: tuple[Concern, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether any number of copies can run, one at a time, or none."""
        levels = {concern.level for concern in self.concerns}
        if "not possible" in levels:
            return "not possible"
        return "one at a time" if "one at a time" in levels else "copies"


def plan(
    template: Mapping[str, Any],
    usual: Mapping[str, Any],
    model: Mapping[str, Any],
    place: Place,
    configuration: Configuration | None = None,
    *,
    exists: Callable[[Path], bool] | None = None,
) -> Plan:
    """
    Isolate *model* for one copy; no argument is changed.

    Args:
        template: The model before variables are filled in: it tells what comes from the project's name.
        usual: The model as the user's own plain `docker compose` renders it.
        model: The model as Compose renders it under the copy's project name, with the variables of its ports set.
        place: What the copy leased.
        configuration: What the project's configuration decides.
        exists: Tells whether a path of the host is there; by default it is looked at.

    Raises:
        UsageError: If the model has no service, or the configuration names a variable that is not there.
    """
    if not model.get("services"):
        raise UsageError(_no_service(template))
    decided, own = configuration or Configuration(), copy.deepcopy(dict(model))
    decided.check_variables(own)
    looks = {"exists": exists} if exists else {}
    named, joined = names.free(own, template)
    leased = ports.lease(own, usual, iter(place.ports), place.variables, place.address)
    networked, meeting, moved = networks.isolate(own, place.project, place.subnet, decided.share.networks, usual)
    stored, mounted = volumes.isolate(own, place.project, decided.share.volumes, usual, **looks)
    restarted = services.restart_only_after_failures(own)
    services.always_enabled(own)
    tagged = services.tag_builds(own, place.tags)
    replaced = repeated_addresses.Replacements(ports=_moved_ports(usual, own), subnets=moved)
    followed, asked = repeated_addresses.follow(own, replaced, decided.rewrite)
    return Plan(
        model=own,
        changes=(*leased, *named, *networked, *stored, *tagged, *restarted, *followed),
        concerns=(*services.concerns(own, decided.share.services), *mounted, *asked, *joined, *meeting),
    )


def _no_service(template: Mapping[str, Any]) -> str:
    profiles = {name for service in (template.get("services") or {}).values() for name in service.get("profiles") or ()}
    if profiles:
        return f"no service is enabled; choose a profile: {', '.join(sorted(profiles))}"
    return "the project has no services"


def _moved_ports(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[int, int]:
    """Return the new TCP port of each old one; a number that two services publish has none."""
    found: dict[int, set[int]] = {}
    for old, new in zip(published_ports(before), published_ports(after), strict=False):
        if old.published and new.published and old.protocol == "tcp":
            for was, now in zip(old.published, new.published, strict=False):
                found.setdefault(was, set()).add(now)
    return {was: now.pop() for was, now in found.items() if len(now) == 1 and was not in now}

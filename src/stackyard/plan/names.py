"""Literal container names exist once on an engine: a copy drops them and keeps them as host names on its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from stackyard.plan.records import Change, Concern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROJECT_VARIABLE: Final = "COMPOSE_PROJECT_NAME"
EXTERNAL: Final = {
    "network": "an external network would be shared",
    "volume": "an external volume is left alone; the copy starts with an empty one",
}
JOINS: Final = ("network_mode", "pid", "ipc")  # keys that may name a container


def free(model: dict[str, Any], template: Mapping[str, Any]) -> tuple[list[Change], list[Concern]]:
    """
    Drop every literal `container_name` and keep it as an alias; a name made from the project's name stays.

    Args:
        model: The rendered model; it is changed.
        template: The model before variables are filled in.
    """
    changes: list[Change] = []
    owners: dict[str, str] = {}
    for name, service in model["services"].items():
        literal = service.get("container_name")
        if not literal or _follows_project(template, name):
            continue
        owners[literal] = name
        del service["container_name"]
        aliased = _add_alias(service, literal)
        changes.append(Change(
            kind="name", place=f"services.{name}.container_name", before=literal,
            after=f"alias {literal}" if aliased else "none", why="a container name exists once on an engine",
        ))  # fmt: skip
    return changes, _join_services(model, owners, changes)


def rename(kind: Literal["network", "volume"], key: str, thing: dict[str, Any], project: str) -> Iterator[Change]:
    """Give a network or a volume the name that it has in *project*."""
    own, name, external = f"{project}_{key}", str(thing.get("name") or ""), bool(thing.pop("external", False))
    thing["name"] = own
    if name != own:
        why = EXTERNAL[kind] if external else f"a {kind} name exists once on an engine"
        before = f"external {name}" if external else name
        yield Change(kind=kind, place=f"{kind}s.{key}.name", before=before, after=own, why=why)


def _follows_project(template: Mapping[str, Any], service: str) -> bool:
    written = (template.get("services") or {}).get(service, {}).get("container_name") or ""
    return PROJECT_VARIABLE in str(written)


def _add_alias(service: dict[str, Any], alias: str) -> bool:
    networks = service.get("networks") or {}
    for key in networks:
        settings = networks[key] = networks[key] or {}
        aliases = settings.setdefault("aliases", [])
        if alias not in aliases:
            aliases.append(alias)
    return bool(networks)


def _join_services(model: dict[str, Any], owners: Mapping[str, str], changes: list[Change]) -> list[Concern]:
    """Let ``container:NAME`` follow a dropped name; one that names a foreign container is only reported."""
    concerns = []
    for name, service in model["services"].items():
        for key in JOINS:
            value = str(service.get(key) or "")
            target = value.removeprefix("container:")
            place = f"services.{name}.{key}"
            if target == value:
                continue
            if target in owners:
                service[key] = f"service:{owners[target]}"
                # as Compose does where the file itself says service:NAME
                implied = {"condition": "service_started", "restart": True, "required": True}
                service["depends_on"] = {owners[target]: implied, **(service.get("depends_on") or {})}
                changes.append(Change(
                    kind="name", place=place, before=value, after=service[key], why="the container has no fixed name",
                ))  # fmt: skip
            else:
                concerns.append(Concern(
                    level="careful", place=place, text=f"joins container {target}, which is not of this project",
                    advice="all copies join the same container",
                ))  # fmt: skip
    return concerns

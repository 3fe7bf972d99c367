"""Each published port is replaced by a leased port. The user's own stack keeps the ports of the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from stackyard.plan.records import Change
from stackyard.project import PublishedPort, published_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LOOPBACK: Final = "127.0.0.1"
LOOPBACKS: Final = (LOOPBACK, "::1")
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?:(?::?[-+?])[^{}]*)?\}|([A-Za-z_]\w*))")


def variables(template: Mapping[str, Any]) -> dict[str, list[str]]:
    """
    Return the variables that give host ports, each with the places it stands at.

    Where a port comes from a variable, setting the variable makes every other use of it follow.

    Args:
        template: The model before variables are filled in.
    """
    found: dict[str, list[str]] = {}
    for name, service in (template.get("services") or {}).items():
        for index, entry in enumerate(service.get("ports") or ()):
            variable = _host_variable(entry)
            if variable:
                found.setdefault(variable, []).append(f"services.{name}.ports[{index}]")
    return found


def _host_variable(entry: object) -> str | None:
    """Return the variable that alone is an entry's host port: of ``${WEB_PORT:-8080}:80`` it is WEB_PORT."""
    if isinstance(entry, dict):
        host = str(entry.get("published") or "")
    else:
        parts = _outside_braces(str(entry))
        host = parts[-2] if len(parts) > 1 else ""
    found = _VARIABLE.fullmatch(host)
    return found and (found[1] or found[2])


def _outside_braces(text: str) -> list[str]:
    """Split at the colons that are not inside ``${…}``."""
    parts, depth = [""], 0
    for char in text:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == ":" and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def lease(
    model: dict[str, Any],
    usual: Mapping[str, Any],
    ports: Iterator[int],
    given: Mapping[str, str],
    address: str = LOOPBACK,
) -> list[Change]:
    """
    Give every published port of *model* a leased number; return what was changed.

    A host address that the file gives stays, so nothing is published more widely than before; without one it is
    *address*. On another host a port on loopback could not be used from here, so it gets *address*, too.

    Args:
        model: The copy's rendered model; it is changed.
        usual: The user's own model, for the numbers that it has there.
        ports: Leased numbers, in order.
        given: The ports that are leased already because a variable was set: variable by place.
        address: Where the copy's user reaches the engine's ports.
    """
    changes = []
    before = {port.place: port.written for port in published_ports(usual)}
    for port in list(published_ports(model)):
        entry = model["services"][port.service]["ports"][port.index]
        kept = address == LOOPBACK or port.host_ip not in LOOPBACKS
        entry["host_ip"] = (port.host_ip if kept else "") or address
        if port.place not in given:
            entry["published"] = _numbers([next(ports) for _ in range(port.count)])
        after = f"{entry['host_ip']}:{entry['published']}:{port.target_text}"
        why = f"variable {given[port.place]} is set" if port.place in given else "every copy has its own host ports"
        changes.append(Change(kind="port", place=port.place, before=before.get(port.place, ""), after=after, why=why))
    return changes


def single_variables(template: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, list[str]]:
    """
    Return those of `variables` that give one host port, with the places in *usual*.

    A variable that gives a port of several containers cannot be set to all of their ports.

    Args:
        template: The model before variables are filled in.
        usual: The user's own model.
    """
    single = {port.place for port in published_ports(usual) if port.count == 1}
    found = {name: [place for place in places if place in single] for name, places in variables(template).items()}
    return {name: places for name, places in found.items() if places}


def draws(usual: Mapping[str, Any], given: Mapping[str, Sequence[str]]) -> list[tuple[PublishedPort, str]]:
    """
    Return what each leased port is for: the published port, and the variable that gives it or an empty text.

    A port of several containers comes once for each; places that share a variable share its port, at the first of them.

    Args:
        usual: The user's own model.
        given: The places of each variable that gives a port.
    """
    variable_of = {place: name for name, places in given.items() for place in places}
    found, drawn = list[tuple[PublishedPort, str]](), set[str]()
    for port in published_ports(usual):
        variable = variable_of.get(port.place, "")
        if not variable:
            found += [(port, "")] * port.count
        elif variable not in drawn:
            drawn.add(variable)
            found.append((port, variable))
    return found


def _numbers(ports: Sequence[int]) -> str:
    """Write consecutive ports as Compose does; containers of one service share a range."""
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"
